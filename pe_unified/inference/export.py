"""Export of a model to ONNX Runtime or OpenVINO, with a check that outputs are the same."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pe_unified.errors import CheckpointError
from pe_unified.files import appearing_folder
from pe_unified.inference.engines import (
    MANIFEST,
    SUFFIX,
    DenseHeads,
    ExportedEngine,
    Heads,
    TorchEngine,
    Trunk,
    input_names,
    not_installed,
    openvino_core,
    part_names,
)
from pe_unified.inference.model import InferenceModel
from pe_unified.json_files import write_json
from pe_unified.version import __version__

#: Largest difference of outputs in fp32, relative to their size (at least 1).
TOLERANCE = 1e-3


def export_model(
    model: InferenceModel,
    backend: str,
    folder: Path,
    int8: Callable[[Path], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write the dense part of a model and check it against torch.

    Args:
        model: a model in fp32 on the CPU.
        backend: ``"onnx"`` or ``"openvino"``.
        folder: the folder to create, atomically; replaces an earlier export.
        int8: replaces the checked files by int8 files, see
            :func:`~pe_unified.engine.int8.quantise`; None keeps float.

    Returns:
        The manifest, with ``differences``, the largest difference of every output in float,
        relative to its size (at least 1), and ``int8``, the result of that function.

    Raises:
        CheckpointError: outputs differ from torch, or ``folder`` has files that are not an exported
            model.
    """
    if folder.exists() and not _may_be_replaced(folder):
        raise CheckpointError(
            f"{folder}: holds other files, which would be lost; choose another --out"
        )
    with appearing_folder(folder) as partial:
        network, size = model.model.eval(), model.size
        trunk, heads = Trunk(network).eval(), Heads(network).eval()
        with torch.inference_mode():
            inputs = _example(2, model)
            levels = trunk.unpack(trunk(inputs))[1]
        write = {"onnx": _write_onnx, "openvino": _write_openvino}[backend]
        parts: dict[str, tuple[nn.Module, Sequence[Tensor], list[str], list[str]]] = {
            "trunk": (trunk, (inputs,), input_names(0), trunk.names()),
            "heads": (heads, (inputs, *levels), input_names(len(levels)), heads.names()),
        }
        for name in part_names(network):
            module, examples, given, found = parts[name]
            clones = tuple(each.clone() for each in examples)
            try:
                write(module, clones, given, found, partial / f"{name}{SUFFIX[backend]}")
            except ImportError as error:
                raise not_installed(backend, error) from error
        manifest: dict[str, Any] = {
            "sha256": model.lineage["sha256"],
            "pe_unified": __version__,
            "backend": backend,
            "size": list(size),
            "differences": check_parity(model, backend, partial),
            "int8": int8 and int8(partial),
        }
        write_json(partial / MANIFEST, manifest)
    return manifest


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty or has only an earlier export."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    ours = {path.name for path in folder.glob("trunk.*")} | {p.name for p in folder.glob("heads.*")}
    return not names or (MANIFEST in names and names <= {MANIFEST, *ours})


def check_parity(model: InferenceModel, backend: str, folder: Path) -> dict[str, float]:
    """Compare an exported model with torch in fp32, with batch sizes other than at export.

    Raises:
        CheckpointError: a difference is above :data:`TOLERANCE`; names the output.
    """
    network = model.model
    ours = TorchEngine(network, "fp32")
    theirs = ExportedEngine(backend, network, folder, "fp32")
    worst: dict[str, float] = {}
    with torch.inference_mode():
        for count in (1, 3):
            inputs = _example(count, model, seed=count)
            logits, levels = ours.trunk(inputs)
            other_logits, other_levels = theirs.trunk(inputs)
            pairs = [("level", a, b) for a, b in zip(levels, other_levels, strict=True)]
            if logits is not None and other_logits is not None:
                pairs.append(("cls", logits, other_logits))
            if "heads" in part_names(network):
                pairs += _pairs(ours.heads(levels, inputs), theirs.heads(levels, inputs))
            for name, one, other in pairs:
                scale = max(1.0, float(one.abs().max()))
                difference = float((one - other).abs().max()) / scale
                # NaN counts as a difference.
                difference = float(np.nan_to_num(difference, nan=np.inf))
                worst[name] = max(worst.get(name, 0.0), difference)
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"{backend}: '{name}' differs from torch by {difference:.2e} (allowed "
                f"{TOLERANCE:.0e}); the exported model is not written"
            )
    return worst


def _pairs(one: DenseHeads, other: DenseHeads) -> list[tuple[str, Tensor, Tensor]]:
    pairs = []
    if one.seg is not None and other.seg is not None:
        pairs.append(("seg", one.seg, other.seg))
    for name in ("pyramid", "rpn_scores", "rpn_offsets"):
        levels = zip(getattr(one, name), getattr(other, name), strict=True)
        pairs += [(name, first, second) for first, second in levels]
    return pairs


def _example(count: int, model: InferenceModel, seed: int = 0) -> Tensor:
    """Noise with the spread of normalised slices, float32 (count, channels, rows, cols)."""
    generator = torch.Generator().manual_seed(seed)
    channels = model.model.data_preprocessor.mean.shape[1]
    return torch.randn(count, channels, *model.size, generator=generator)


def _write_onnx(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    given: list[str],
    found: list[str],
    path: Path,
) -> None:
    torch.onnx.export(
        module,
        examples,
        path,
        input_names=given,
        output_names=found,
        dynamic_axes={name: {0: "slices"} for name in (*given, *found)},
        opset_version=18,
        dynamo=False,
    )


def _write_openvino(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    given: list[str],
    found: list[str],
    path: Path,
) -> None:
    """Export through ONNX: OpenVINO's own torch converter reports its use over the network."""
    import openvino

    onnx = path.with_suffix(".onnx")
    _write_onnx(module, examples, given, found, onnx)
    openvino.save_model(openvino_core().read_model(onnx), path, compress_to_fp16=False)
    onnx.unlink()
