"""Several models in one file, with their training data and thresholds set on validation."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pe_unified.checkpoints import load_checkpoint_safely, save_atomically, training_data
from pe_unified.disclaimer import unique
from pe_unified.engine.config import ConfigError, read_python_config
from pe_unified.engine.publish import for_others
from pe_unified.engine.slice_answers import measure_slices
from pe_unified.engine.study_choices import choose_on_exams, numbers_of
from pe_unified.engine.unseen import require_unseen
from pe_unified.inference.converted import exams_of_split
from pe_unified.inference.exam_readings import Marks, mark_exams
from pe_unified.inference.lesion_marks import read_marks
from pe_unified.inference.model import ensemble_of
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.stored_model import digest_of, read_model
from pe_unified.inference.thresholds import thresholds_of
from pe_unified.inference.volumes import load_volume_model
from pe_unified.models.lung_detector import LungDetector
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.volume_model import PEVolume
from pe_unified.options import ENSEMBLE_RULES
from pe_unified.version import __version__


@dataclass(frozen=True)
class MemberEntry:
    """A member of an ensemble, as given in a list.

    Fields:
        checkpoint: a file written by ``pe-unified train``, ``steps`` or ``publish``.
        name: name in reports; the file's by default.
        weight: weight of its answers relative to the other members.
    """

    checkpoint: str
    name: str = ""
    weight: float = 1.0

    @property
    def called(self) -> str:
        return self.name or Path(self.checkpoint).stem


@dataclass(frozen=True)
class EnsembleList:
    """The members of an ensemble and its settings.

    Fields:
        members: at least one.
        rule: ``"mean"`` or ``"vote"``, see :func:`~pe_unified.inference.combining.combine`.
        fuse: fit the scores of lesions on validation lesions.
        marks: file with marks of a 3D model on the validation studies, which the fit may use.
        lungs: checkpoint of a lung detector, to whose boxes studies are cropped.
        volumes: checkpoint of a volume model, whose marks join the lesions; then no file of marks.
    """

    members: Sequence[MemberEntry]
    rule: str = "mean"
    fuse: bool = False
    marks: str = ""
    lungs: str = ""
    volumes: str = ""


def entry_of(word: str) -> MemberEntry:
    """Parse ``CHECKPOINT`` or ``NAME=CHECKPOINT``."""
    name, separator, checkpoint = word.partition("=")
    if not separator or Path(word).is_file():
        return MemberEntry(word)
    return MemberEntry(checkpoint, name)


def read_list(path: Path) -> EnsembleList:
    """Read a list of members from a Python or JSON file; paths are relative to its folder.

    Raises:
        ConfigError: the file is not such a list.
    """
    cfg = read_python_config(path)
    try:
        entries = [MemberEntry(**each) for each in cfg.get("members") or ()]
        rest = {key: value for key, value in cfg.items() if key != "members"}
        found = EnsembleList(entries, **rest)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error
    placed = [
        dataclasses.replace(each, checkpoint=str(path.parent / each.checkpoint)) for each in entries
    ]
    others = {name: getattr(found, name) for name in ("marks", "lungs", "volumes")}
    others = {name: str(path.parent / file) for name, file in others.items() if file}
    return replace(found, members=placed, **others)


def make_ensemble(
    wanted: EnsembleList,
    validation: Mapping[str, Any],
    out: Path,
    trust: bool = False,
    step: str | None = None,
) -> dict[str, Any]:
    """Write an ensemble, with all its thresholds set on validation.

    Args:
        wanted: its members, and how their answers are combined.
        validation: config of the validation split.
        out: the new file; written completely or not at all.
        trust: load checkpoints that contain pickled code.
        step: name of the step of a recipe.

    Returns:
        the metrics and thresholds of the validation split, as stored in the file.

    Raises:
        ConfigError: no members, two with one name, an invalid weight, an unknown rule, or marks
            without a member that looks for lesions.
        CheckpointError: a model cannot be read or used, or was trained on a study of the
            validation split.
    """
    _require_usable(wanted)
    members = [_embedded(entry, PEUnified, trust) for entry in wanted.members]
    lungs = None
    if wanted.lungs:
        lungs = _embedded(MemberEntry(wanted.lungs, "the detector of lungs"), LungDetector, trust)
    volumes = None
    if wanted.volumes:
        volumes = _embedded(MemberEntry(wanted.volumes, "the model of volumes"), PEVolume, trust)
    meta: dict[str, Any] = {
        "pe_unified": __version__,
        "rule": wanted.rule,
        "step": step,
        "validated": {},
        "fusion": None,
        "marked": bool(wanted.marks or wanted.volumes),
    }
    stored = {"meta": meta, "members": members, "lungs": lungs, "volumes": volumes}
    parts = models_in(stored).values()
    meta["trained_on"] = unique(each for part in parts for each in training_data(part))
    require_unseen(models_in(stored), validation)
    marks = marks_on(validation, wanted.marks, wanted.volumes, trust)
    model = ensemble_of(out, stored, trust, digest="not written yet")
    if model.marked and not model.looks_for_lesions:
        raise ConfigError("marks of a 3D model join lesions, and no member looks for lesions")
    predictor = StudyPredictor(model)
    evaluator = measure_slices(predictor, validation, "validation slices", resamples=0)
    meta["validated"] = numbers_of(evaluator.metrics)
    model = replace(model, thresholds=thresholds_of(meta["validated"], model.tasks))
    chosen = choose_on_exams(model, validation, wanted.fuse, marks)
    meta["validated"] |= chosen.thresholds
    meta["fusion"] = chosen.fusion and chosen.fusion.as_dict()
    save_atomically(stored, out)
    return meta["validated"]


def marks_on(
    dataset: Mapping[str, Any], file: str = "", volumes: str = "", trust: bool = False
) -> Marks | None:
    """Marks on the studies of a split; None if there are none to be had.

    Args:
        dataset: config of the split.
        file: marks, as ``pe-unified marks`` writes them.
        volumes: checkpoint of the volume model that makes them.
        trust: load pickled code.

    Raises:
        ConfigError: both are given.
        CheckpointError: the model cannot be read or used, or was trained on a study of the split.
    """
    if file and volumes:
        raise ConfigError(f"give either the marks {file} or the model {volumes} that makes them")
    if not volumes:
        return read_marks(Path(file)) if file else None
    require_unseen({volumes: load_checkpoint_safely(volumes, trust)}, dataset)
    return mark_exams(load_volume_model(volumes, trust), exams_of_split(dataset))


def _require_usable(wanted: EnsembleList) -> None:
    names = [entry.called for entry in wanted.members]
    if not names:
        raise ConfigError("an ensemble needs members; name their checkpoints")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two members are called {name}; give them names, NAME=CHECKPOINT")
    for entry in wanted.members:
        if not 0 < entry.weight < float("inf"):
            raise ConfigError(f"member {entry.called}: weight {entry.weight} is not above 0")
    if wanted.rule not in ENSEMBLE_RULES:
        known = ", ".join(ENSEMBLE_RULES)
        raise ConfigError(f"the rule of an ensemble is one of {known}, not '{wanted.rule}'")


def _embedded(entry: MemberEntry, kind: type[nn.Module], trust: bool) -> dict[str, Any]:
    """A member as stored in an ensemble; it must be a model of this ``kind``."""
    path = Path(entry.checkpoint)
    read_model(path, kind, trust)  # an error here names the member's file
    return {
        "name": entry.called,
        "weight": float(entry.weight),
        "checkpoint": path.name,
        "sha256": digest_of(path),
        "model": for_others(load_checkpoint_safely(path, trust)),
    }


def models_in(stored: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The checkpoints in a stored ensemble, by name and file."""
    return {
        f"{each['name']} ({each['checkpoint']})": each["model"]
        for each in (*stored["members"], stored.get("lungs"), stored.get("volumes"))
        if each is not None
    }
