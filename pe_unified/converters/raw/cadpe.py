"""Convert CAD-PE: CT angiographies as NRRD with a number for every embolus.

RAW holds images/001.nrrd, images/e0032.nrrd ... and rs/0001RefStd.nrrd, rs/e0032RefStd.nrrd
(numeric ids may or may not be padded to four digits). The number of an embolus becomes instance_id
of its 2D components. Volumes are turned by their header so that slices run from feet to head and
are oriented as in DICOM; file_index is the slice's index in the file. Image and reference are
paired by index, or by their headers if the HU under the emboli support that.

    pe-unified convert cadpe RAW OUT --workers 8
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters import command_line as cli
from pe_unified.converters.contract.schema import annotations_of_mask
from pe_unified.converters.contract.slice_places import heights_and_places
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource, stamp
from pe_unified.converters.pipeline.raw_folders import (
    contents,
    folders_below,
    refuse_several,
    stem_before,
)
from pe_unified.converters.raw.case_lists import ListedSet
from pe_unified.converters.raw.mask_orders import choose_turn
from pe_unified.converters.raw.masked_study import MaskedSlice, plan_masked_study
from pe_unified.ct.grids import turn_of, turned_affine
from pe_unified.ct.headers import natural_key
from pe_unified.ct.volume_files import level_to_hu, open_nrrd, volume_shift
from pe_unified.errors import DataError

_SUFFIX = "RefStd"


@dataclass(frozen=True)
class CadpeReader:
    """Reads one case: two NRRD files."""

    check_hu: bool = True
    whole_patients: bool = True

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        image_path, label_path = source.place
        image, affine = open_nrrd(image_path, scratch)
        labels, label_affine = open_nrrd(label_path, scratch)
        turn = turn_of(affine)
        z, places, spacing = heights_and_places(affine, turn, image.shape)
        stored = turn.apply(image.open())
        shift = volume_shift(stored)
        known = image.placed and labels.placed
        of_labels, notes, warnings = choose_turn(
            labels.open(),
            stored.shape,
            turn,
            turned_affine(affine, turn, image.shape) if known and affine is not None else None,
            label_affine if known else None,
            lambda index: level_to_hu(stored[index], shift),
        )
        if of_labels is None:
            reason = f"labels of shape {labels.shape}, image {image.shape}"
            raise DataError(label_path, reason, "find the reference of this case")
        if shift:
            notes.append(f"no value is negative: {-shift} HU subtracted")
        slices = [
            MaskedSlice(
                source=(image_path, image, turn, shift, index),
                annotations=annotations_of_mask(_labels(level, label_path), instances=True),
                file_index=turn.file_slice(index, len(stored)),
                z_mm=z[index],
                place=places[index] if image.placed else None,
            )
            for index, level in enumerate(of_labels.apply(labels.open()))
        ]
        # The files have no UID; the prefix separates cases from those of other sets.
        study_uid = f"cadpe-{source.patient_id}"
        return plan_masked_study(
            source.patient_id,
            study_uid,
            slices,
            spacing,
            notes=notes,
            warnings=warnings,
            check_hu=self.check_hu,
        )

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        _, image, turn, shift, index = source
        return level_to_hu(turn.apply(image.open())[index], shift)


class Cadpe(ListedSet[CadpeReader]):
    """The set as downloaded, in one folder.

    Args:
        raw: folder that contains ``images`` and ``rs``.
        check_hu: refuse masks that are on the wrong slices, judged by their HU.
    """

    name = "cadpe"

    def __init__(self, raw: Path, check_hu: bool = True):
        super().__init__(raw, CadpeReader(check_hu))

    def info(self) -> dict[str, str]:
        return {
            "description": "CAD-PE: pulmonary embolism in CT angiography, embolus instances",
            "source": "CAD-PE challenge, IEEE DataPort, doi 10.21227/9bw7-6823",
            "licence": "as stated on IEEE DataPort",
        }

    def options(self) -> dict[str, Any]:
        return {"hu_check": self.reader.check_hu}

    def _find(self) -> list[PatientSource]:
        images, labels = self._volumes("images"), self._volumes("rs")
        sources = []
        for case in sorted(images, key=natural_key):
            names = [f"{case}{_SUFFIX}", f"{case.zfill(4)}{_SUFFIX}"]
            found = [path for name in dict.fromkeys(names) for path in labels.pop(name, ())]
            problem = None
            if not found:
                cure = f"put rs/{names[1]}.nrrd there, or remove the image"
                problem = DataError(images[case][0], "an image without a reference", cure)
            else:
                problem = refuse_several(case, images[case], found)
            if problem is not None:
                sources.append(PatientSource(case, None, problem=problem))
                continue
            place = (images[case][0], found[0])
            sources.append(PatientSource(case, place, stamp(*place), slices=place[0]))
        for name in sorted(labels, key=natural_key):
            cure = "put its image under images, or remove the reference"
            problem = DataError(labels[name][0], "a reference without an image", cure)
            sources.append(PatientSource(name.removesuffix(_SUFFIX), None, problem=problem))
        return sources

    def _volumes(self, holder: str) -> dict[str, list[Path]]:
        """Name to files, from all folders of this name."""
        found: dict[str, list[Path]] = defaultdict(list)
        for folder in folders_below(self.raw):
            for path in contents(folder) if folder.name.lower() == holder else ():
                if (name := stem_before(path, ".nrrd")) is not None:
                    found[name].append(path)
        return dict(found)


def _labels(level: np.ndarray, path: Path) -> np.ndarray:
    """One slice of labels, int32 (rows, cols)."""
    whole = np.rint(level).astype(np.int32)
    if level.dtype.kind == "f" and not np.array_equal(whole, level):
        raise DataError(path, "labels that are no whole numbers", "download the file again")
    if whole.min() < 0:
        raise DataError(path, "negative labels", "download the file again")
    return whole


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, "folder with images/*.nrrd and rs/*RefStd.nrrd")
    cli.add_hu_check(parser)
    return parser


def main() -> int:
    return cli.main(lambda args: Cadpe(args.raw, not args.no_hu_check), make_parser())
