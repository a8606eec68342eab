"""Convert studies of your own: any folders of DICOM, zip, NIfTI, NRRD or MetaImage.

RAW/studies.csv (or --table) lists the studies and their labels, in columns study, patient, path,
pe, mask, boxes, slices and the labels of exams; without it all studies below RAW are taken. Masks
(NIfTI, NRRD, MetaImage, DICOM SEG, RTSTRUCT, 3D Slicer) are named there, or found next to their
study or by its name. RAW/boxes.csv, boxes.json (COCO) and slices.csv hold boxes and labels of
slices. Labels that are not given stay unknown. For details see docs/own_data.md.

    pe-unified convert folder RAW --check
    pe-unified convert folder RAW OUT --workers 8

--check writes nothing: it prints how each study was understood, and what is missing or wrong.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pe_unified.converters import command_line as cli
from pe_unified.converters.own.check import check_folder
from pe_unified.converters.own.marks import NAMED, read_marks
from pe_unified.converters.own.matching import StudyPlace, match
from pe_unified.converters.own.reader import OwnReader
from pe_unified.converters.own.table import STUDIES, StudyRow, read_studies
from pe_unified.converters.own.tree import Tree, is_uid, look_through
from pe_unified.converters.pipeline.plan import PatientSource, stamp
from pe_unified.converters.pipeline.run import RunOptions
from pe_unified.ct.headers import natural_key
from pe_unified.errors import DataError, listed
from pe_unified.options import ARCHIVES
from pe_unified.progress import say

#: Folder in OUT for images of masks that do not fit.
PICTURES = "check"


class OwnFolder:
    """A folder of studies.

    Args:
        raw: the folder.
        table: of studies; by default ``RAW/studies.csv``, if it exists.
        reader: reads the studies; sent to the workers.
    """

    name = "folder"

    def __init__(self, raw: Path, table: Path | None = None, reader: OwnReader | None = None):
        self.raw, self.reader = raw, reader or OwnReader()
        rows: list[StudyRow] | None = None
        notes: list[str] = []
        if table is not None or (raw / STUDIES).is_file():
            rows, notes = read_studies(table or raw / STUDIES, raw)
        tree = look_through(raw)
        self._matched = match(tree, rows, raw)
        self.notes = [*notes, *self._matched.notes]
        self._matched.problems += self._orphans(tree)
        self._patients: dict[str, list[StudyPlace]] = defaultdict(list)
        for place in sorted(self._matched.places, key=lambda each: natural_key(each.name)):
            self._patients[place.patient].append(place)

    @property
    def places(self) -> list[StudyPlace]:
        """All studies, by patient."""
        return [place for places in self._patients.values() for place in places]

    def info(self) -> dict[str, str]:
        return {
            "description": f"own studies: {self.raw.name}",
            "source": "own",
            "licence": "not stated",
        }

    def options(self) -> dict[str, Any]:
        return {
            "hu_check": self.reader.check_hu,
            "labels": list(self.reader.labels),
            "boxes_complete": self.reader.boxes_complete,
        }

    def __len__(self) -> int:
        return len(self._patients)

    def patients(self) -> Iterator[PatientSource]:
        for patient, places in self._patients.items():
            signature = sha256("\n".join(map(_signature, places)).encode()).hexdigest()[:16]
            alone = places[0].problem if len(places) == 1 else None
            yield PatientSource(patient, tuple(places), signature, alone, places[0].found.path)

    def problems(self) -> list[str]:
        return self._matched.problems

    def settle(self, options: RunOptions) -> RunOptions:
        """Put patients with the same PatientID into one group."""
        return replace(options, groups={**self._matched.groups, **options.groups})

    def _orphans(self, tree: Tree) -> list[str]:
        """Marks whose study does not exist here, which would otherwise be lost silently.

        Raises:
            DataError: a line without a study, in a file used by several studies.
        """
        users: dict[Path, list[StudyPlace]] = defaultdict(list)
        for place in self._matched.places:
            for path in place.marks:
                if path.is_file():
                    users[path].append(place)
        paths = [place.found.path for place in self._matched.places]
        packed = any(path.name.lower().endswith(ARCHIVES) for path in paths)
        found = []
        for path, places in users.items():
            names = {name for place in places for name in place.names}
            lost = []
            for mark in read_marks(path, self.reader.labels):
                if not mark.study and not any(map(is_uid, mark.slices)) and len(places) > 1:
                    reason = f"{mark.where} names no study, and {len(places)} studies use the file"
                    raise DataError(path, reason, "add a column study, or UIDs of slices (sop)")
                if mark.study and mark.study.casefold() not in names:
                    lost.append(f"{mark.where} (study {mark.study})")
                elif mark.study or not mark.sop or packed:
                    continue
                elif tree.slices.isdisjoint(mark.slices):
                    lost.append(f"{mark.where} ({mark.sop})")
            if lost:
                named = listed(lost, NAMED, "; ")
                found.append(f"{named}: no such study or slice here; correct the name")
        return found


def _signature(place: StudyPlace) -> str:
    files = place.found.files or (place.found.path,)
    said = (place.name, place.series, place.placed, place.pe, dict(place.exam))
    names = [str(path) for path in (*files, *place.masks, *place.marks)]
    return json.dumps([said, names, stamp(*files, *place.masks, *place.marks)], sort_keys=True)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, "folder with the studies", may_check=True)
    parser.add_argument(
        "--table", type=Path, metavar="FILE.csv", help="of studies (default: RAW/studies.csv)"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="NAME",
        help="structures that are emboli, in files with several, and numbers in plain masks "
        "(default: the only structure, or those named so: embolus, thrombus, clot, PE ...)",
    )
    parser.add_argument(
        "--boxes-complete",
        action="store_true",
        help="in studies with boxes, slices without one are negative (default: unknown)",
    )
    cli.add_hu_check(parser)
    return parser


def make_converter(args: argparse.Namespace) -> OwnFolder:
    pictures = None if args.check else args.out.resolve() / PICTURES
    labels = tuple(args.labels)
    reader = OwnReader(labels, args.boxes_complete, not args.no_hu_check, pictures)
    converter = OwnFolder(args.raw, args.table, reader)
    if not args.check:
        for note in converter.notes:
            say(note)
    return converter


def _check(converter: OwnFolder, args: argparse.Namespace) -> int:
    return check_folder(
        converter.reader,
        converter.places,
        converter.problems(),
        converter.notes,
        converter.raw,
        args.workers,
    )


def main() -> int:
    return cli.main(
        make_converter,
        make_parser(),
        settle=lambda converter, options: converter.settle(options),
        check=_check,
    )
