"""Generates a whole set of synthetic studies: seeds, workers, resuming, the manifest."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_unified.converters.pipeline.raw_folders import MANIFEST, contents
from pe_unified.files import write_bytes, write_text
from pe_unified.paths import require_apart
from pe_unified.phantom.labelmap import list_anatomies, read_label_map
from pe_unified.phantom.layouts import cadpe, fumpe, read, rsna
from pe_unified.phantom.layouts.dicom_slices import TRANSFER_SYNTAXES
from pe_unified.phantom.structure_masks import write_structures
from pe_unified.phantom.study import PhantomStudy, paint_study
from pe_unified.phantom.study_plan import PRESETS
from pe_unified.progress import quietly, track
from pe_unified.workers import in_order, open_executor

LAYOUTS: dict[str, Any] = {
    "fumpe": fumpe,
    "rsna": rsna,
    "cadpe": cadpe,
    "read": read,
}
#: Of sets painted without a seed, by layout: with one seed, all layouts get the same bodies.
DEFAULT_SEEDS = {layout: 1000 * place for place, layout in enumerate(LAYOUTS)}
#: Raised whenever the same settings would give different studies.
_MODEL_VERSION = 3


@dataclass(frozen=True)
class PhantomSettings:
    """Settings common to all studies of a set.

    Attributes:
        layout: a key of :data:`LAYOUTS`.
        seed: of the set; study k does not depend on the number of studies. With the same seed, sets
            in different layouts show the same bodies.
        size: rows and columns.
        slices: per study.
        spacing: mm between slices, rows, columns; by default fitted to the chest.
        preset: a key of ``PRESETS``, the distributions that studies are drawn from.
        positive_rate: share of studies with emboli; by default as in the real set, or that of
            ``preset`` if that is not the reference.
        transfer_syntax: a key of ``TRANSFER_SYNTAXES``.
        jpeg, boxes: for the RSNA layout, the JPEG-256 edition and Augmented RSPECT's boxes; both
            together on slices of 512 x 512 only.
        truth: also write ``truth/<patient>.npz``.
        structures: also write ``structures/<patient>``, masks of arteries and veins.
        anatomy: folder of label maps (or a TotalSegmentator output) to paint on; study k takes
            the k-th patient, starting again after the last.
        anatomies: names of the patients to use, all by default.
    """

    layout: str
    seed: int
    size: int = 256
    slices: int = 150
    spacing: tuple[float, float, float] | None = None
    preset: str = "reference"
    positive_rate: float | None = None
    transfer_syntax: str = "explicit"
    jpeg: bool = False
    boxes: bool = False
    truth: bool = False
    structures: bool = False
    anatomy: str | None = None
    anatomies: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"unknown layout '{self.layout}'; known: {', '.join(LAYOUTS)}")
        if self.transfer_syntax not in TRANSFER_SYNTAXES:
            raise ValueError(
                f"unknown transfer syntax '{self.transfer_syntax}'; "
                f"known: {', '.join(TRANSFER_SYNTAXES)}"
            )
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset '{self.preset}'; known: {', '.join(PRESETS)}")
        if self.positive_rate is not None and not 0 <= self.positive_rate <= 1:
            raise ValueError(f"positive_rate is a share, 0 to 1, got {self.positive_rate}")
        if self.anatomies is not None and self.anatomy is None:
            raise ValueError(
                "--anatomies names patients in the folder of --anatomy; give that, too"
            )
        if (self.jpeg or self.boxes) and self.layout != "rsna":
            raise ValueError("the JPEG edition and the boxes belong to the layout rsna")
        if self.jpeg and self.boxes and self.size != 512:
            raise ValueError(
                f"boxes are counted in pixels of 512 x 512 where the JPEG edition is read, and "
                f"these slices have {self.size}; take size 512, or one of jpeg and boxes"
            )
        if self.size < 32 or self.slices < 8:
            raise ValueError(
                f"{self.size} pixels and {self.slices} slices show no embolus; "
                "take at least 32 pixels and 8 slices"
            )


def study_seed(seed: int, number: int) -> int:
    """The seed of study ``number`` (from 1) of the set with ``seed``."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def anatomy_of(settings: PhantomSettings, number: int) -> tuple[str, Path] | None:
    """Name and path of the label map that study ``number`` (from 1) is painted on, if any.

    Raises:
        FileNotFoundError: no folder, or nothing in it.
        ValueError: a name that is not in the folder.
    """
    if settings.anatomy is None:
        return None
    found = list_anatomies(settings.anatomy)
    names = list(settings.anatomies or found)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(
            f"{settings.anatomy} holds no anatomy {', '.join(unknown)}; it has {', '.join(found)}"
        )
    name = names[(number - 1) % len(names)]
    return name, found[name]


def _positive(settings: PhantomSettings, number: int) -> bool:
    rate = settings.positive_rate
    if rate is None and settings.preset != "reference":
        rate = PRESETS[settings.preset].positive_rate
    elif rate is None and settings.layout == "fumpe":
        return fumpe.is_positive(number)
    elif rate is None:
        rate = getattr(LAYOUTS[settings.layout], "POSITIVE_RATE", 1.0)
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, number, 1])))
    return bool(draw.random() < rate)


def paint_number(settings: PhantomSettings, number: int) -> PhantomStudy:
    """Paint study ``number`` (from 1) of a set."""
    source = anatomy_of(settings, number)
    return paint_study(
        study_seed(settings.seed, number),
        (settings.slices, settings.size, settings.size),
        settings.spacing,
        anatomy=None if source is None else read_label_map(source[1], source[0]),
        positive=_positive(settings, number),
        params=PRESETS[settings.preset],
    )


def _record_path(out: Path, number: int) -> Path:
    return out / ".phantom" / f"{number:05d}.json"


def _list_finished(
    out: Path, settings: PhantomSettings, known: dict[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The records of the finished studies, in order, also of an earlier run; lists them in
    ``phantom.json``.

    Args:
        known: records by number; those that are missing are read and added.
    """
    for path in _record_path(out, 1).parent.glob("[0-9]*.json"):
        if int(path.stem) not in known:
            known[int(path.stem)] = json.loads(path.read_text(encoding="utf-8"))
    records = [known[number] for number in sorted(known)]
    bulky = ("sop_uids", "pe_present_on_image", "boxes")
    manifest = {
        "description": "Painted CT pulmonary angiograms, not patients",
        "synthetic": True,
        "settings": _told(settings),
        "studies": [{k: v for k, v in r.items() if k not in bulky} for r in records],
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))
    return records


def _make_one(out: str, settings: PhantomSettings, number: int) -> int:
    """Paint and write one study; its record is written last and marks it as finished."""
    cv2.setNumThreads(1)
    folder = Path(out)
    study = paint_number(settings, number)
    options: dict[str, Any] = {}
    if settings.layout != "cadpe":
        options["transfer_syntax"] = settings.transfer_syntax
    if settings.layout == "rsna":
        options |= {"jpeg": settings.jpeg, "boxes": settings.boxes}
    record = LAYOUTS[settings.layout].write_study(folder, number, study, **options)
    if settings.truth:
        _write_truth(folder / "truth" / f"{record['patient_id']}.npz", study)
    if settings.structures:
        write_structures(folder / "structures" / record["patient_id"], study)
    record = {
        "number": number,
        "seed": study.plan.seed,
        "anatomy": study.anatomy.name,
        "positive_slices": int((study.emboli > 0).any((1, 2)).sum()),
        "slices": len(study.hu),
        "spacing_mm": list(study.spacing),
        "labels": study.labels,
        "rv_lv_ratio": round(study.rv_lv_ratio, 4),
        "emboli": [asdict(embolus) for embolus in study.findings],
    } | record
    write_text(_record_path(folder, number), json.dumps(record))
    return number


def _write_truth(path: Path, study: PhantomStudy) -> None:
    """Labels of the whole study, in the order of ``PhantomStudy.hu``."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        emboli=study.emboli,
        structures=study.structures,
        spacing=np.array(study.spacing),
        origin=np.array(study.origin),
    )
    write_bytes(path, buffer.getvalue())


def _told(settings: PhantomSettings) -> dict[str, Any]:
    """The settings as they are recorded.

    The location of the anatomies may change between runs; the selected names may not.
    """
    told = asdict(settings) | {"anatomy": settings.anatomy is not None}
    if not settings.structures:  # so that sets made without this option still match
        del told["structures"]
    return told


def _remove_unfinished(out: Path) -> None:
    """Remove what a killed run left half-written in ``out`` or one folder below it."""
    for partial in [*out.glob(".*.part"), *out.glob("*/.*.part")]:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def _claim(out: Path, settings: PhantomSettings) -> None:
    """Refuse a folder that holds a set with other settings, or anything else."""
    path = out / ".phantom" / "settings.json"
    text = json.dumps({"model": _MODEL_VERSION, **_told(settings)}, indent=1)
    if not path.is_file():
        if contents(out):
            raise ValueError(
                f"{out} is not empty, and its content was not painted by this command (there is no "
                f"{path}); give a new or an empty folder"
            )
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{out} holds studies painted with other settings, or by another version of pe_unified "
            f"(see {path}); give another folder, or remove this one"
        )


def make_set(
    out: str | Path,
    studies: int,
    settings: PhantomSettings,
    *,
    workers: int = 1,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Paint studies 1 to ``studies`` and write them in a public set's layout.

    Studies that an earlier run finished are kept; a killed run can be repeated and ends with the
    same bytes. ``phantom.json`` lists every finished study: seed, anatomy, labels, emboli. It is
    there before the first one, so that what a stopped run left is not taken for patients.

    Args:
        out: the folder; created if missing.
        workers: processes.
        quiet: show no progress.

    Returns:
        One record per study in the folder, in order; an earlier run may have made more.

    Raises:
        ValueError: the folder holds a set with other settings, or anything else.
    """
    out = Path(out)
    anatomy_of(settings, 1)
    if settings.anatomy is not None:
        require_apart(out, Path(settings.anatomy))
    _claim(out, settings)
    _remove_unfinished(out)
    known: dict[int, dict[str, Any]] = {}
    records = _list_finished(out, settings, known)
    todo = [n for n in range(1, studies + 1) if n not in known]
    tasks = [(str(out), settings, number) for number in todo]
    with (
        quietly(quiet),
        open_executor(min(workers, len(todo)), preload=[__name__]) as (executor, slots),
    ):
        painted = in_order(executor, slots, _make_one, tasks)
        for _ in track(painted, f"painting {settings.layout}, studies", len(tasks)):
            records = _list_finished(out, settings, known)
    finish: Callable | None = getattr(LAYOUTS[settings.layout], "finish", None)
    if finish is not None:
        finish(out, records)
    return records
