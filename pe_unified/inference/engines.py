"""Engines that run the network: torch, ONNX Runtime or OpenVINO, with the same two calls.

The network is split at the gate: the trunk is the backbone with classification, the heads are the
decoder and the pyramid with the RPN. The boxes are always computed in torch. A network without a
backbone has no trunk.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pe_unified.errors import CheckpointError, pip_install
from pe_unified.models.slice_model import PEUnified
from pe_unified.options import BACKENDS
from pe_unified.precision import autocast
from pe_unified.version import __version__

#: File endings of an exported model, by backend.
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}
MANIFEST = "export.json"
#: Prefix of the weights that are not exported.
_STAYS_IN_TORCH = "det_head.roi_head."


@dataclass(frozen=True)
class DenseHeads:
    """Outputs of the heads before boxes; None if the model lacks the head.

    Attributes:
        seg: logits (n, 1, rows, cols) at the decoder's stride.
        pyramid, rpn_scores, rpn_offsets: one tensor per pyramid level.
    """

    seg: Tensor | None
    pyramid: tuple[Tensor, ...] = ()
    rpn_scores: tuple[Tensor, ...] = ()
    rpn_offsets: tuple[Tensor, ...] = ()


class Engine(Protocol):
    """Computes the dense part of the network.

    The result of a call is valid until the same part is called again.

    Attributes:
        name: name of the backend.
        int8: parts of the network that compute in int8.
    """

    name: str
    int8: Sequence[str]

    def trunk(self, inputs: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Classification logits (n, 2), None without that head, and the backbone's levels."""

    def heads(self, levels: Sequence[Tensor], inputs: Tensor) -> DenseHeads:
        """Decoder and pyramid from the backbone's levels."""


class TorchEngine:
    """The network in torch."""

    name = "torch"
    int8: Sequence[str] = ()

    def __init__(self, model: PEUnified, precision: str) -> None:
        self.parts = Trunk(model), Heads(model)
        self.device = next(model.parameters()).device.type
        self.precision = precision

    def trunk(self, inputs: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        with autocast(self.precision, self.device):
            return self.parts[0].unpack(self.parts[0](inputs))

    def heads(self, levels: Sequence[Tensor], inputs: Tensor) -> DenseHeads:
        with autocast(self.precision, self.device):
            return self.parts[1].unpack(self.parts[1](inputs, *levels))


class Trunk(nn.Module):
    """Backbone and classification as one function of tensors, for export."""

    def __init__(self, model: PEUnified) -> None:
        super().__init__()
        self.backbone: Any = model.backbone
        self.cls_head: Any = model.head("cls") if "cls" in model.tasks else None

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        levels = tuple(self.backbone(inputs))
        return levels if self.cls_head is None else (self.cls_head(levels), *levels)

    def unpack(self, outputs: Sequence[Tensor]) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if self.cls_head is None:
            return None, tuple(outputs)
        return outputs[0], tuple(outputs[1:])

    def names(self) -> list[str]:
        levels = [f"level{k}" for k in range(len(self.backbone.feature_info.channels))]
        return levels if self.cls_head is None else ["cls", *levels]


class Heads(nn.Module):
    """Decoder and pyramid as one function of tensors, for export."""

    def __init__(self, model: PEUnified) -> None:
        super().__init__()
        self.seg_head: Any = model.head("seg") if "seg" in model.tasks else None
        self.det_head: Any = model.head("det") if "det" in model.tasks else None
        self.count = getattr(self.det_head, "pyramid_levels", 0)

    def forward(self, inputs: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        if self.seg_head is not None:
            found.append(self.seg_head(levels, inputs))
        if self.det_head is not None:
            pyramid, scores, offsets = self.det_head.dense(levels)
            found += [*pyramid, *scores, *offsets]
        return tuple(found)

    def unpack(self, outputs: Sequence[Tensor]) -> DenseHeads:
        rest = list(outputs)
        seg = rest.pop(0) if self.seg_head is not None else None
        count = self.count
        return DenseHeads(
            seg,
            tuple(rest[:count]),
            tuple(rest[count : 2 * count]),
            tuple(rest[2 * count :]),
        )

    def names(self) -> list[str]:
        kinds = ("pyramid", "score", "offset") if self.det_head is not None else ()
        names = [f"{kind}{k}" for kind in kinds for k in range(self.count)]
        return names if self.seg_head is None else ["seg", *names]


def not_installed(backend: str, error: ImportError) -> CheckpointError:
    """The error if a package of a backend is missing."""
    return CheckpointError(
        f"--backend {backend}: {error.name} is not installed; {pip_install('export')}"
    )


class ExportedEngine:
    """An exported model; each part takes tensors by name and returns tensors.

    A part only has the inputs that affect its outputs.
    """

    def __init__(
        self,
        name: str,
        model: PEUnified,
        folder: Path,
        precision: str,
        int8: Sequence[str] = (),
    ) -> None:
        self.name, self.int8 = name, int8
        self.parts = Trunk(model), Heads(model)
        open_part = {"onnx": _open_onnx, "openvino": _open_openvino}[name]
        try:
            self._run = {
                part: open_part(folder / f"{part}{SUFFIX[name]}", precision)
                for part in part_names(model)
            }
        except ImportError as error:
            raise not_installed(name, error) from error

    def forget_weights(self) -> None:
        """Free the weights of the torch model that the runtime also has."""
        for part in self.parts:
            for name, weight in part.named_parameters():
                if not name.startswith(_STAYS_IN_TORCH):
                    weight.data = weight.data.new_empty(0)

    def trunk(self, inputs: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if "trunk" not in self._run:
            return None, ()
        return self.parts[0].unpack(self._computed("trunk", inputs))

    def heads(self, levels: Sequence[Tensor], inputs: Tensor) -> DenseHeads:
        return self.parts[1].unpack(self._computed("heads", inputs, *levels))

    def _computed(self, part: str, *given: Tensor) -> list[Tensor]:
        return self._run[part](dict(zip(input_names(len(given) - 1), given)))


def input_names(levels: int) -> list[str]:
    """Input names of a part that takes the network's input and this number of levels."""
    return ["inputs", *(f"level{k}" for k in range(levels))]


def part_names(model: PEUnified) -> list[str]:
    """Names of the parts of an exported model."""
    has_trunk = bool(model.backbone.feature_info.channels)
    has_heads = bool(set(model.tasks) - {"cls"})
    return ["trunk"] * has_trunk + ["heads"] * has_heads


#: Runs a part: tensors by input name to its outputs.
Run = Callable[[Mapping[str, Tensor]], list[Tensor]]


def _open_onnx(path: Path, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(given: Mapping[str, Tensor]) -> list[Tensor]:
        arrays = {name: given[name].contiguous().numpy() for name in names}
        return [torch.from_numpy(each) for each in session.run(None, arrays)]

    return run


@cache
def openvino_core() -> Any:
    """The only OpenVINO core of the process.

    A core sets a stack for signal handlers and frees it when it is destroyed. If two cores overlap
    in time, the second one to be destroyed restores the freed stack of the first, and the next
    signal with a Python handler ends the process.
    """
    import openvino

    return openvino.Core()


def _open_openvino(path: Path, precision: str) -> Run:
    core = openvino_core()
    compiled = core.compile_model(
        _keeping_levels(core.read_model(path)) if precision == "bf16" else path,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision.replace("fp32", "f32"),
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        },
    )
    names = [each.any_name for each in compiled.inputs]

    def run(given: Mapping[str, Tensor]) -> list[Tensor]:
        # Does not copy the outputs, which are larger than the network.
        found = compiled([_to_openvino(given[name]) for name in names], share_outputs=True)
        return [_from_openvino(each) for each in found.values()]

    return run


def _keeping_levels(network: Any) -> Any:
    """The network with the backbone's levels in bfloat16, channels last, as OpenVINO computes them.

    In float32, channels first, they would be converted twice between trunk and heads.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    editor = PrePostProcessor(network)
    ports = [(editor.input, each) for each in network.inputs]
    ports += [(editor.output, each) for each in network.outputs]
    for edit, port in ports:
        for name in port.names:
            if name.startswith("level"):
                edit(name).model().set_layout(openvino.Layout("NCHW"))
                own = edit(name).tensor()
                own.set_element_type(openvino.Type.bf16).set_layout(openvino.Layout("NHWC"))
    return editor.build()


def _to_openvino(tensor: Tensor) -> Any:
    if tensor.dtype != torch.bfloat16:
        return tensor.contiguous().numpy()
    import openvino

    bits = tensor.permute(0, 2, 3, 1).contiguous().view(torch.int16).numpy()
    return openvino.Tensor(bits, list(bits.shape), openvino.Type.bf16)


def _from_openvino(array: np.ndarray) -> Tensor:
    if array.dtype != np.float16:
        return torch.from_numpy(np.ascontiguousarray(array))
    # OpenVINO returns bfloat16 as numbers of the same size, because numpy has no such type.
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).permute(0, 3, 1, 2)


def exported_folder(checkpoint: Path, backend: str) -> Path:
    """Default folder of the exported model of a checkpoint: next to the checkpoint."""
    return checkpoint.with_suffix(f".{backend}")


def open_engine(
    backend: str, model: PEUnified, precision: str, exported: Path, digest: str
) -> Engine:
    """The engine of a backend.

    Args:
        backend: one of :data:`BACKENDS`.
        model: the network, for names and the parts that run in torch. The weights of exported parts
            are freed.
        precision: ``"bf16"`` or ``"fp32"``; ONNX Runtime computes in fp32.
        exported: folder written by ``pe-unified export``.
        digest: SHA-256 of the checkpoint that it must have been exported from.

    Raises:
        CheckpointError: the folder has no exported model, or one from another checkpoint, by
            another version of this package or for another backend.
    """
    if backend == "torch":
        return TorchEngine(model, precision)
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, got '{backend}'")
    try:
        manifest = json.loads((exported / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{exported}: no exported model; make it with pe-unified export CHECKPOINT "
            f"--backend {backend}"
        ) from error
    found = (manifest.get("sha256"), manifest.get("pe_unified"), manifest.get("backend"))
    kinds = ("from another checkpoint", "by another version of pe_unified", "for another backend")
    for value, wanted, kind in zip(found, (digest, __version__, backend), kinds, strict=True):
        if value != wanted:
            raise CheckpointError(f"{exported}: exported {kind}; run pe-unified export again")
    int8 = (manifest.get("int8") or {}).get("parts", ())
    engine = ExportedEngine(backend, model, exported, precision, int8)
    engine.forget_weights()
    return engine
