"""Convert a raw dataset of nnU-Net v2: NIfTI or NRRD, one channel of CT, one label of emboli.

RAW is DatasetXXX_Name with dataset.json, imagesTr, labelsTr and, if they exist, imagesTs with
labelsTs. Splits are kept: imagesTs is the test split; train and val come from pe_unified.json,
which `pe-unified to-nnunet` writes, or from a fold in splits_final.json, else from --split.
Each case is a patient, unless pe_unified.json names the patients.

    pe-unified convert nnunet nnUNet_raw/Dataset501_PE OUT --workers 8
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters import command_line as cli
from pe_unified.converters.contract.known_splits import KnownSplits
from pe_unified.converters.contract.nnunet import (
    CASES,
    DATASET,
    SPLITS_FINAL,
    TESTING,
    TRAINING,
    image_path,
    instance_path,
    label_path,
    read_object,
)
from pe_unified.converters.contract.schema import annotations_of_mask
from pe_unified.converters.contract.slice_places import heights_and_places
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource, StudyPlan, stamp
from pe_unified.converters.pipeline.run import RunOptions
from pe_unified.converters.raw.case_lists import ListedSet
from pe_unified.converters.raw.masked_study import MaskedSlice, plan_masked_study
from pe_unified.ct.archive import unpack_gzip
from pe_unified.ct.grids import Turn, turn_of
from pe_unified.ct.headers import natural_key
from pe_unified.ct.mask_volumes import read_mask_volume
from pe_unified.ct.overlay import EvenSlices, same_grid
from pe_unified.ct.volume_files import (
    RawArray,
    level_to_hu,
    nifti_is_placed,
    open_nifti,
    open_nrrd,
    volume_shift,
)
from pe_unified.errors import DataError
from pe_unified.options import NIFTI, NRRD
from pe_unified.progress import say


@dataclass(frozen=True)
class NiftiOnDisk:
    """An unpacked NIfTI file that any process can open."""

    path: Path

    def open(self) -> Any:
        """An object that is indexed like an array (i, j, k)."""
        return open_nifti(self.path)[0]


@dataclass(frozen=True)
class Case:
    """One case of nnU-Net.

    Attributes:
        instances: numbers of its emboli, which separate touching ones.
        in_hu: written by this package, so certainly in Hounsfield units.
        placed: the export did not mark its position in the patient as unknown.
    """

    name: str
    image: Path
    label: Path
    instances: Path | None
    study_uid: str
    series_uid: str | None
    in_hu: bool
    placed: bool


@dataclass(frozen=True)
class NnunetReader:
    """Reads a patient: image and label of each case.

    Attributes:
        values: label values that are emboli; if empty, all above 0.
    """

    values: tuple[int, ...] = ()
    check_hu: bool = True
    whole_patients: bool = True

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        plans = [self._plan_case(source.patient_id, case, scratch) for case in source.place]
        studies: list[StudyPlan] = []
        for number, plan in enumerate(plans):
            for study in plan.studies:
                known = {each.exam["study_uid"] for each in studies if each.exam}
                if study.exam is not None and study.exam["study_uid"] in known:
                    study.exam = None
                for item in study.slices if number else ():
                    item.file_name = f"{number}-{item.file_name}"
                studies.append(study)
        return replace(
            plans[0],
            studies=studies,
            has_pe=any(plan.has_pe for plan in plans),
            notes=[note for plan in plans for note in plan.notes],
        )

    def _plan_case(self, patient_id: str, case: Case, scratch: Path) -> PatientPlan:
        image, shape, affine, placed = _open_image(case.image, scratch)
        # Cases exported by this package keep the order of slices, rows and columns.
        turn = Turn() if case.in_hu else turn_of(affine)
        labels = read_mask_volume(case.instances or case.label, scratch)
        voxels = EvenSlices((shape[2], shape[1], shape[0]), affine)
        if not same_grid(voxels, labels.array.shape[::-1], labels.affine):
            reason = f"does not lie on {case.image.name}, as nnU-Net requires"
            raise DataError(labels.path, reason, "save the label with the header of its image")
        z, places, spacing = heights_and_places(affine, turn, shape)
        shift = 0
        if not case.in_hu:
            opened = image.open()
            shift = volume_shift(turn.level(opened, index) for index in range(len(z)))
        values = turn.apply(labels.array)
        slices = [
            MaskedSlice(
                source=(case.image, image, turn, shift, index),
                annotations=annotations_of_mask(
                    self._emboli(level, labels.path), instances=case.instances is not None
                ),
                file_index=turn.file_slice(index, len(values)),
                z_mm=z[index],
                series_uid=case.series_uid,
                place=places[index] if case.placed and placed else None,
            )
            for index, level in enumerate(values)
        ]
        notes = [f"no value is negative: {-shift} HU subtracted"] if shift else []
        return plan_masked_study(
            patient_id,
            case.study_uid,
            slices,
            spacing,
            notes=notes,
            check_hu=self.check_hu,
        )

    def _emboli(self, level: np.ndarray, path: Path) -> np.ndarray:
        whole = np.rint(level).astype(np.int32)
        if level.dtype.kind == "f" and not np.array_equal(whole, level):
            raise DataError(path, "labels that are no whole numbers", "export it again")
        return np.isin(whole, self.values).astype(np.uint8) if self.values else whole

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        _, image, turn, shift, index = source
        return level_to_hu(turn.level(image.open(), index), shift)


def _open_image(
    path: Path, scratch: Path
) -> tuple[NiftiOnDisk | RawArray, tuple, np.ndarray, bool]:
    """An unpacked volume on disk, its shape (i, j, k), its affine to LPS mm, and whether it
    gives the patient's orientation."""
    if path.name.lower().endswith(NRRD):
        raw, own = open_nrrd(path, scratch)
        if own is None:
            raise DataError(path, "the spacing of its voxels is not given", "export it again")
        return raw, raw.shape, own, raw.placed
    plain = path
    if path.name.lower().endswith(".gz"):
        plain = scratch / path.name.removesuffix(".gz")
        unpack_gzip(path, plain)
    proxy, affine, _ = open_nifti(plain, path)
    shape = tuple(int(side) for side in proxy.shape)
    return NiftiOnDisk(plain), shape, affine, nifti_is_placed(plain)


class Nnunet(ListedSet[NnunetReader]):
    """A raw dataset of nnU-Net.

    Args:
        raw: ``DatasetXXX_Name``.
        labels: names in ``dataset.json`` that are emboli; by default all but the background.
        fold: of ``splits_final.json``.
        check_hu: refuse labels that are on the wrong slices, judged by their HU.

    Raises:
        DataError: not a dataset, several channels, or an unknown name, fold or file ending.
    """

    name = "nnunet"

    def __init__(
        self, raw: Path, labels: tuple[str, ...] = (), fold: int = 0, check_hu: bool = True
    ):
        if not (raw / DATASET).is_file():
            raise DataError(raw, f"holds no {DATASET}", "give the folder DatasetXXX_Name")
        self.dataset = read_object(raw / DATASET)
        self.ending = str(self.dataset.get("file_ending", ".nii.gz"))
        if self.ending not in (*NIFTI, *NRRD):
            cure = f"save it as one of {', '.join((*NIFTI, *NRRD))}"
            raise DataError(raw / DATASET, f"files end in '{self.ending}'", cure)
        if len(self.dataset.get("channel_names", {"0": "CT"})) != 1:
            raise DataError(raw / DATASET, "several channels", "give a dataset of CT alone")
        stored = read_object(raw / CASES) if (raw / CASES).is_file() else {}
        self.records: Mapping[str, Any] = stored.get("cases", {})
        self.origin: Mapping[str, Any] = stored.get("info", {})
        self.splits = _splits_of(raw, fold) if not self.records else {}
        self.split_of: dict[str, str] = {}
        self.group_of: dict[str, str] = {}
        self.raw = raw
        self.values = self._values(labels)
        super().__init__(raw, NnunetReader(self.values, check_hu))

    def info(self) -> dict[str, str]:
        said = self.origin or {
            "description": self.dataset.get("description") or self.dataset.get("name"),
            "source": self.dataset.get("reference"),
            "licence": self.dataset.get("licence") or self.dataset.get("license"),
        }
        names = ("description", "source", "licence")
        return {name: str(said.get(name) or "not stated") for name in names}

    def options(self) -> dict[str, Any]:
        return {"hu_check": self.reader.check_hu, "labels": list(self.reader.values)}

    def settle(self, options: RunOptions) -> RunOptions:
        """The options with the splits and groups of the dataset added to those of other sets."""
        people = {name: set(found) for name, found in options.known.people.items()}
        groups = dict(options.known.groups)
        for patient, split in self.split_of.items():
            group = self.group_of.get(patient)
            people.setdefault(patient, set()).add((split, group))
            if group is not None:
                groups.setdefault(group, split)
        shares = options.split
        if "test" in self.split_of.values():
            shares = (shares[0], shares[1], 0.0)
        return replace(
            options,
            known=KnownSplits(groups, people, options.known.sets),
            groups={**self.group_of, **options.groups},
            split=shares,
        )

    def _values(self, names: tuple[str, ...]) -> tuple[int, ...]:
        known = self.dataset.get("labels", {})
        unknown = [name for name in names if name not in known]
        if unknown:
            cure = f"choose of {', '.join(known)}"
            raise DataError(self.raw / DATASET, f"has no label {', '.join(unknown)}", cure)
        if not names and "ignore" in known:
            cure = "name the labels of emboli by --labels"
            raise DataError(self.raw / DATASET, "has voxels to be ignored", cure)
        values = [known[name] for name in names]
        flat = [
            each for value in values for each in (value if isinstance(value, list) else [value])
        ]
        return tuple(sorted(int(each) for each in flat))

    def _find(self) -> list[PatientSource]:
        cases: dict[str, list[Case]] = defaultdict(list)
        problems: dict[str, DataError] = {}
        painted: dict[str, bool] = {}
        for part in (TRAINING, TESTING):
            images = self.raw / f"images{part}"
            if not images.is_dir():
                continue
            if not (self.raw / f"labels{part}").is_dir():
                say(f"{images.name} left out: there is no labels{part}")
                continue
            ending = f"_0000{self.ending}"
            paths = [path for path in images.iterdir() if path.name.endswith(ending)]
            for path in sorted(paths, key=lambda each: natural_key(each.name)):
                name = path.name.removesuffix(ending)
                record = self.records.get(name, {})
                patient = str(record.get("patient_id") or name)
                painted[patient] = bool(record.get("synthetic"))
                split = "test" if part == TESTING else record.get("split", self.splits.get(name))
                if split is not None and self.split_of.setdefault(patient, split) != split:
                    reason = f"is in {self.split_of[patient]} and in {split}"
                    problems[patient] = DataError(patient, reason, "keep its cases in one split")
                if record.get("group") is not None:
                    self.group_of[patient] = str(record["group"])
                instances = instance_path(self.raw, part, name)
                case = Case(
                    name,
                    image_path(self.raw, part, name, self.ending),
                    label_path(self.raw, part, name, self.ending),
                    instances if instances.is_file() and not self.values else None,
                    str(record.get("study_uid") or f"nnunet-{name}"),
                    record.get("series_uid"),
                    in_hu=bool(record),
                    placed=bool(record.get("placed", not record)),
                )
                if not case.label.is_file():
                    cure = "put its label there, or remove the image"
                    problems[patient] = DataError(case.label, "no such label", cure)
                cases[patient].append(case)
        sources = []
        for patient in sorted(cases, key=natural_key):
            files = [
                path
                for case in cases[patient]
                for path in (case.image, case.instances or case.label)
            ]
            sources.append(
                PatientSource(
                    patient,
                    tuple(cases[patient]),
                    stamp(*files),
                    problems.get(patient),
                    files[0],
                    painted[patient],
                )
            )
        return sources


def _splits_of(raw: Path, fold: int) -> dict[str, str]:
    """Case to train or val, from a fold of ``splits_final.json``; empty without the file."""
    path = raw / SPLITS_FINAL
    if not path.is_file():
        return {}
    folds = read_object(path, list)
    try:
        chosen = folds[fold]
        return {str(case): split for split in ("train", "val") for case in chosen[split]}
    except (IndexError, KeyError, TypeError) as error:
        reason = f"no fold {fold} of train and val among {len(folds)}"
        raise DataError(path, reason, "choose another --fold") from error


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, "folder DatasetXXX_Name")
    parser.add_argument(
        "--labels", nargs="+", default=[], help="in dataset.json, that are emboli (default: all)"
    )
    parser.add_argument("--fold", type=int, default=0, help="of splits_final.json (default: 0)")
    cli.add_hu_check(parser)
    return parser


def main() -> int:
    return cli.main(
        lambda args: Nnunet(args.raw, tuple(args.labels), args.fold, not args.no_hu_check),
        make_parser(),
        settle=lambda converter, options: converter.settle(options),
    )
