"""Quantise an exported OpenVINO model to int8, as far as metrics on validation slices allow.

Convolutions and matrix products run in int8 by post-training quantisation: the ranges of values
come from a few slices, no weight is trained (Jacob et al., https://arxiv.org/abs/1712.05877). If
a metric is outside its tolerance, parts of the network return to float until it is within.
"""

import io
import logging
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pe_unified.datasets.slice_dataset import read_annotations
from pe_unified.engine.slice_answers import measure_slices
from pe_unified.errors import CheckpointError, DataError, pip_install
from pe_unified.inference.engines import (
    SUFFIX,
    DenseHeads,
    Engine,
    ExportedEngine,
    openvino_core,
)
from pe_unified.inference.model import InferenceModel
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.precision import fastest_precision
from pe_unified.progress import phase
from pe_unified.tasks import MAIN_METRICS

#: Largest allowed difference of a metric from its value in float32.
TOLERANCE = 0.005
#: Parts of a network, in the order in which they are computed.
PARTS = ("first stage", "middle stages", "last stage", "classification", "decoder", "pyramid")
#: The part of the network that only this task uses. Its main metric is to be kept.
OWN_PART = {"cls": "classification", "seg": "decoder", "det": "pyramid"}
#: Parts of the backbone in the order in which they return to float.
_BACKBONE = (("first stage", "last stage"), ("middle stages",))


def quantise(
    model: InferenceModel, validation: Mapping[str, Any], slices: int, folder: Path
) -> dict[str, Any]:
    """Replace the float files of an exported model by int8 files.

    At first everything is int8. If the metric of a task is outside the tolerance, the task's own
    part of the network returns to float; if that is float already, the backbone does, its first
    and last stages before the others.

    Args:
        model: in fp32, run by torch; it gives the reference.
        validation: config of the validation split.
        slices: about how many to measure on, evenly spread over every study; the first one of each
            batch is also used for calibration.
        folder: folder of the exported OpenVINO model.

    Returns:
        its entry in the manifest: parts in int8 and in float, precision of the latter, numbers
        of slices, metrics in float32 and of every attempt; the last attempt is used.

    Raises:
        CheckpointError: nncf is missing, or no part can be int8 within the tolerance.
        DataError: a metric is undefined on the slices.
    """
    nncf = _nncf()
    precision = fastest_precision(torch.device("cpu"))
    annotations = Path(validation["data_root"]) / validation["ann_file"]
    every = max(1, math.ceil(len(read_annotations(annotations)[1]["images"]) / slices))
    keys = [MAIN_METRICS[task] for task in model.tasks]

    def measure(engine: Engine, precision: str, title: str) -> dict[str, float]:
        predictor = StudyPredictor(replace(model, engine=engine, precision=precision))
        found = measure_slices(
            predictor, validation, title, model.thresholds.by_metric, every=every, resamples=0
        )
        return {key: float(found.metrics[key]) for key in keys}

    recorder = _Recorder(model.engine)
    reference = measure(recorder, "fp32", "validation slices in float32")
    for key, value in reference.items():
        if math.isnan(value):
            raise DataError(
                annotations, f"{key} is undefined on its slices", "use a set with emboli"
            )
    networks = _Networks(nncf, model, folder, recorder.kept)
    attempts: list[dict[str, Any]] = []
    left: set[str] = set()
    while left < networks.parts:
        place = folder / f"int8-{len(attempts)}"
        networks.write(place, left)
        engine = ExportedEngine("openvino", model.model, place, precision)
        found = measure(engine, precision, "validation slices in int8")
        attempts.append({"float": _in_order(left), "metrics": found})
        outside = differing(reference, found)
        if not outside:
            break
        left |= to_leave(outside, networks.parts - left)
    else:
        raise CheckpointError(
            f"int8: {_in_words(reference, attempts[-1]['metrics'])}; no part of the network can be "
            f"int8 with every metric within {TOLERANCE} of float32; export without --int8"
        )
    for path in place.iterdir():
        os.replace(path, folder / path.name)
    for number in range(len(attempts)):
        shutil.rmtree(folder / f"int8-{number}")
    return {
        "parts": _in_order(networks.parts - left),
        "float": _in_order(left),
        "precision": precision,
        "slices": recorder.slices,
        "calibration_slices": len(recorder.kept),
        "tolerance": TOLERANCE,
        "float32": reference,
        "attempts": attempts,
    }


def _nncf() -> Any:
    """Import the library, with its logging and its usage reports over the network turned off."""
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise CheckpointError(
            f"--int8: {error.name} is not installed; {pip_install('export')}"
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def differing(reference: Mapping[str, float], found: Mapping[str, float]) -> set[str]:
    """The metrics that are not within the tolerance of float32: worse, or better by chance."""
    return {key for key, value in reference.items() if abs(found[key] - value) > TOLERANCE}


def to_leave(outside: Collection[str], quantised: set[str]) -> set[str]:
    """The int8 parts that return to float next."""
    own = [part for task, part in OWN_PART.items() if MAIN_METRICS[task] in outside]
    for parts in (own, *_BACKBONE):
        if found := quantised.intersection(parts):
            return found
    return quantised


def _in_order(parts: Collection[str]) -> list[str]:
    return [part for part in PARTS if part in parts]


def _in_words(reference: Mapping[str, float], found: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4f} is {found[key]:.4f}" for key, value in reference.items())


class _Recorder:
    """An engine that keeps the network's input for the first slice of every batch.

    Attributes:
        kept: float32 (1, channels, rows, cols) each.
        slices: number of slices seen.
    """

    int8 = ()

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name
        self.kept: list[Tensor] = []
        self.slices = 0

    def trunk(self, inputs: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        self.kept.append(inputs[:1].clone())
        self.slices += len(inputs)
        return self.engine.trunk(inputs)

    def heads(self, levels: Sequence[Tensor], inputs: Tensor) -> DenseHeads:
        return self.engine.heads(levels, inputs)


class _Networks:
    """The float files of an exported model, from which int8 files are made.

    Attributes:
        parts: names of their parts.
    """

    def __init__(
        self, nncf: Any, model: InferenceModel, folder: Path, calibration: Sequence[Tensor]
    ) -> None:
        self._nncf, self._calibration = nncf, calibration
        self._float = ExportedEngine("openvino", model.model, folder, "fp32")
        self._paths = sorted(folder.glob(f"*{SUFFIX['openvino']}"))
        self._operations = {path: _operations_by_part(_read(path)) for path in self._paths}
        self.parts = {part for found in self._operations.values() for part in found}

    def write(self, place: Path, left: Collection[str]) -> None:
        """Write int8 files, with the parts in ``left`` in float."""
        import openvino

        place.mkdir()
        # The range of all values: few slices show an embolus; a mean over slices would clip it.
        ranges = self._nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
        settings = self._nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges
        )
        for path, operations in self._operations.items():
            network = _read(path)
            ignored = [name for part in left for name in operations.get(part, ())]
            if operations.keys() - left:
                with phase(f"calibrating the {path.stem}"), redirect_stdout(io.StringIO()):
                    network = self._nncf.quantize(
                        network,
                        self._nncf.Dataset(self._calibration, self._given(network)),
                        subset_size=len(self._calibration),
                        advanced_parameters=settings,
                        ignored_scope=self._nncf.IgnoredScope(names=ignored, validate=False),
                    )
            openvino.save_model(network, place / path.name, compress_to_fp16=False)

    def _given(self, network: Any) -> Callable[[Tensor], dict[str, np.ndarray]]:
        """A function from the input of a slice to all inputs of a network, by name."""
        names = [each.any_name for each in network.inputs]

        def given(inputs: Tensor) -> dict[str, np.ndarray]:
            levels = self._float.trunk(inputs)[1] if names != ["inputs"] else ()
            arrays = {f"level{k}": level.numpy() for k, level in enumerate(levels)}
            arrays["inputs"] = inputs.numpy()
            return {name: arrays[name] for name in names}

        return given


def _read(path: Path) -> Any:
    """Read a network and fold its constants, so that a bias is recognised as one."""
    from openvino.passes import ConstantFolding, Manager

    network = openvino_core().read_model(path)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(network)
    return network


def _operations_by_part(network: Any) -> dict[str, set[str]]:
    """Names of the operations of every part; each belongs to the first part that needs it."""
    outputs = {result.input_value(0).get_any_name(): result for result in network.results}
    levels = sorted(name for name in outputs if name.startswith("level"))
    part_of = {**dict.fromkeys(levels, "middle stages"), "cls": "classification", "seg": "decoder"}
    if levels:
        part_of |= {levels[-1]: "last stage", levels[0]: "first stage"}
    parts: dict[str, set[str]] = {}
    seen: set[str] = set()
    for name in [*levels, *(outputs.keys() - set(levels))]:
        needed = [outputs[name]]
        own = parts.setdefault(part_of.get(name, "pyramid"), set())
        while needed:
            node = needed.pop()
            if node.get_friendly_name() not in seen:
                seen.add(node.get_friendly_name())
                own.add(node.get_friendly_name())
                needed += [each.get_source_output().get_node() for each in node.inputs()]
    return parts
