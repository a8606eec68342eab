"""Convert RSNA-STR PE ("RSPECT"): exam and slice labels, and the boxes of Augmented RSPECT.

RAW holds train.csv and train/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm; or, for
the JPEG-256 edition, <Study>/<Series>/NNN_<SOP>.jpg, whose three windows are converted back to
approximate HU (-1350 to 450, in steps of 1.6 to 5.9 HU; geometry unknown, so spacing is null).

A slice's label is pe_present_on_image. On positive slices the position of emboli is unknown unless
--boxes gives it. Exam labels go into exams[]. The DICOM PatientID names the patient if it is a real
one; else each study counts as a separate patient.

A balanced subset, chosen by study and seed (studies in random order, at most --per-study slices of
a class from each while that suffices; --from-positive of the negatives come from studies with
embolism, the rest from negative exams):

    pe-unified convert rsna RAW OUT --positives 4500 --negatives 7500
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from pe_unified.converters import command_line as cli
from pe_unified.converters.pipeline.plan import PatientSource, folder_stamp
from pe_unified.converters.pipeline.raw_folders import contents, subfolders
from pe_unified.converters.raw.identifiers import is_placeholder
from pe_unified.converters.raw.rsna_reader import JPEG_NAME, RsnaReader, StudyPlace
from pe_unified.converters.raw.rsna_subset import Subset, choose_slices, choose_studies
from pe_unified.converters.raw.rsna_table import LabelTable
from pe_unified.ct.companions import is_companion
from pe_unified.ct.headers import list_files, read_headers
from pe_unified.errors import DataError
from pe_unified.progress import track

EDITIONS = ("dicom", "jpeg256")


class Rsna:
    """The set as downloaded, in one folder.

    Args:
        raw: folder that contains ``train.csv`` and the studies.
        csv: the labels, if elsewhere.
        boxes: ``augmented_rspect.csv``.
        edition: ``dicom``, ``jpeg256``, or None to detect it from the files.
        subset: convert only a part.
        boxed_only: convert only studies that have boxes.
    """

    name = "rsna"

    def __init__(
        self,
        raw: Path,
        csv: Path | None = None,
        boxes: Path | None = None,
        edition: str | None = None,
        subset: Subset | None = None,
        boxed_only: bool = False,
    ):
        if boxed_only and boxes is None:
            raise DataError(raw, "--boxed-only without boxes", "give --boxes as well")
        self.raw = raw
        self._folders, found = _study_folders(raw, edition)
        self.reader = RsnaReader(found)
        self.subset, self.boxed_only = subset, boxed_only
        self.table = LabelTable(csv or raw / "train.csv", boxes)
        self._problems = list(self.table.problems)
        studies = self.table.studies
        if boxed_only:
            studies = {study: counts for study, counts in studies.items() if counts.boxes}
        self._chosen: dict[str, tuple[int, int]] | None = None
        if subset is not None:
            self._chosen, problems = choose_studies(studies, subset)
            self._problems += problems
            studies = {study: studies[study] for study in self._chosen}
        elif not boxed_only:
            self._problems += [
                f"{self._folders[name]}: a study without a row in the csv, left out; complete the "
                "csv or remove the folder"
                for name in sorted(self._folders.keys() - studies.keys())
            ]
        self._patients = self._group(sorted(studies))

    def info(self) -> dict[str, str]:
        jpeg = self.reader.edition == "jpeg256"
        return {
            "description": "RSNA-STR pulmonary embolism"
            + (", JPEG-256 edition, approximate HU from three windows" if jpeg else ""),
            "source": "RSNA-STR Pulmonary Embolism CT (RSPECT) dataset, Colak et al. 2021",
            "licence": "CC BY-NC-SA 4.0" if jpeg else "non-commercial, no re-identification",
        }

    def options(self) -> dict[str, Any]:
        return {
            "edition": self.reader.edition,
            "approximate_hu": self.reader.edition == "jpeg256",
            "subset": None if self.subset is None else asdict(self.subset),
            "boxed_only": self.boxed_only,
        }

    def __len__(self) -> int:
        return len(self._patients)

    def patients(self) -> Iterator[PatientSource]:
        for patient, studies in self._patients.items():
            absent = [study for study in studies if study not in self._folders]
            present = [self._place(study) for study in studies if study in self._folders]
            problem = None
            if absent and not present:
                reason = f"the csv's study {absent[0]} has no folder"
                cure = "complete the download or remove its rows from the csv"
                problem = DataError(patient, reason, cure)
            slices = present[0].folder if present else None
            yield PatientSource(patient, present, self._signature(present), problem, slices)

    def problems(self) -> list[str]:
        return self._problems

    def _place(self, study: str) -> StudyPlace:
        rows = self.table.slices(study)
        chosen = None
        if self._chosen is not None and self.subset is not None:
            picked = choose_slices(rows, *self._chosen[study], self.subset.seed)
            chosen = frozenset(row.sop_uid for row in picked)
        return StudyPlace(
            study_uid=study,
            folder=self._folders[study],
            rows=rows,
            chosen=chosen,
            boxes=self.table.boxes(study),
            labels=self.table.exam_labels(study),
            problems=self.table.studies[study].problems,
        )

    def _signature(self, places: list[StudyPlace]) -> str:
        parts = []
        for place in places:
            rows = [asdict(row) for row in place.rows]
            boxes = [asdict(box) for box in place.boxes]
            chosen = None if place.chosen is None else sorted(place.chosen)
            files = folder_stamp(place.folder)
            problems = list(place.problems)
            parts.append([place.study_uid, rows, boxes, place.labels, chosen, files, problems])
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _group(self, studies: list[str]) -> dict[str, list[str]]:
        """Patient to studies, by the DICOM PatientID if it is a real one."""
        if self.reader.edition == "jpeg256":
            return {study: [study] for study in studies}
        present = [study for study in studies if study in self._folders]
        with ThreadPoolExecutor(8) as pool:
            named = pool.map(_patient_id, [self._folders[study] for study in present])
            named = track(named, "reading patients' identifiers", len(present))
            identifiers = dict(zip(present, named, strict=True))
        sharing: dict[str, list[str]] = defaultdict(list)
        for study in studies:
            sharing[identifiers.get(study, "")].append(study)
        patients = {}
        for identifier, members in sharing.items():
            if is_placeholder(identifier, len(members)):
                patients.update({study: [study] for study in members})
            else:
                patients[identifier] = members
        return dict(sorted(patients.items()))


def _patient_id(study: Path) -> str:
    """The PatientID from the first header that has one; empty if none has."""
    for folder in (*subfolders(study), study):
        try:
            files = list_files(folder)
        except DataError:  # reported when its studies are read
            continue
        for path in files:
            with suppress(DataError):
                if said := read_headers(path)[0].patient_id:
                    return said
    return ""


def _study_folders(raw: Path, edition: str | None) -> tuple[dict[str, Path], str]:
    """Study UID to folder, and the edition.

    The studies are under ``train``, or any ``train*``, or RAW itself: the first of these that
    holds files of the requested edition.
    """
    holders = [raw / "train", *sorted(raw.glob("train*")), raw]
    for holder in holders:
        if not holder.is_dir():
            continue
        folders = {path.name: path for path in subfolders(holder)}
        found = set(islice(_editions(folders.values()), None if edition else 1))
        if found and (edition is None or edition in found):
            return folders, edition or found.pop()
    wanted = f" of the edition {edition}" if edition else ""
    raise DataError(raw, f"no studies{wanted} found", "see --help for the layout expected")


def _editions(folders: Iterable[Path]) -> Iterator[str]:
    """The edition of every slice, from its file name; previews and similar files are skipped."""
    for folder in folders:
        for path in (path for series in subfolders(folder) for path in contents(series)):
            if JPEG_NAME.match(path.name):
                yield "jpeg256"
            elif not is_companion(path) and path.is_file():
                yield "dicom"


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, "folder with train.csv and train/<Study>/<Series>/")
    parser.add_argument("--csv", type=Path, help="the labels (default: RAW/train.csv)")
    parser.add_argument("--boxes", type=Path, help="augmented_rspect.csv of Augmented RSPECT")
    parser.add_argument(
        "--boxed-only", action="store_true", help="only the studies that --boxes knows"
    )
    parser.add_argument("--edition", choices=EDITIONS, help="default: seen from the files")
    parser.add_argument("--positives", type=int, metavar="N", help="slices with embolism to choose")
    parser.add_argument("--negatives", type=int, metavar="N", help="slices without to choose")
    parser.add_argument(
        "--per-study",
        type=int,
        default=20,
        metavar="N",
        help="most slices of a class from one study, as long as there are enough studies "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--from-positive",
        type=float,
        default=0.4,
        metavar="SHARE",
        help="of the negatives from studies with embolism (default: %(default)s)",
    )
    return parser


def make_converter(args: argparse.Namespace) -> Rsna:
    subset = None
    if args.positives is not None or args.negatives is not None:
        if min(args.positives or 0, args.negatives or 0) < 0 or args.per_study < 1:
            raise ValueError("a subset has no negative sizes, and at least 1 slice per study")
        if not 0 <= args.from_positive <= 1:
            raise ValueError(f"--from-positive is a share, 0 to 1, got {args.from_positive}")
        subset = Subset(
            positives=args.positives or 0,
            negatives=args.negatives or 0,
            per_study=args.per_study,
            from_positive=args.from_positive,
            seed=args.seed,
        )
    return Rsna(args.raw, args.csv, args.boxes, args.edition, subset, args.boxed_only)


def _is_part(args: argparse.Namespace) -> bool:
    return args.positives is not None or args.negatives is not None or args.boxed_only


def main() -> int:
    return cli.main(make_converter, make_parser(), _is_part)
