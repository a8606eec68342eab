"""Convert READ: CT angiographies from scanners of two makers as DICOM, masks as NIfTI.

RAW holds "GE (DICOM files)/01GE", "TOSHIBA (DICOM files)/01TS" ... and, anywhere below,
01GE.nii.gz. Image and mask are paired by index (slices in ascending position) or by their headers.
These disagree on the direction of the slices, so the HU under the masks decide, and the report says
how. The mask's slice spacing is rounded, so distances come from the DICOM files only.

    pe-unified convert read RAW OUT --workers 8
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters import command_line as cli
from pe_unified.converters.contract.schema import annotations_of_mask
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource
from pe_unified.converters.pipeline.raw_folders import (
    case_name,
    folders_below,
    is_hidden,
    stem_before,
    subfolders,
)
from pe_unified.converters.raw.case_lists import ListedSet, scan_with_mask
from pe_unified.converters.raw.mask_orders import choose_turn
from pe_unified.converters.raw.mask_pairing import slices_for_mask
from pe_unified.converters.raw.masked_study import of_stack, plan_masked_study
from pe_unified.ct.dicom import read_hu
from pe_unified.ct.grids import Turn, turn_of
from pe_unified.ct.headers import agreed, natural_key, scan_folder
from pe_unified.ct.stack import stack_slices
from pe_unified.ct.volume_files import nifti_is_placed, read_nifti
from pe_unified.errors import DataError

#: Order of the mask's slices relative to the scan in ascending position; measured by the HU.
ORDERS = ("measured", "ascending", "descending")
#: NIfTI's axes are (cols, rows, slices).
_ASCENDING = Turn()
_DESCENDING = Turn(flips=(True, False, False))
_MASK_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class ReadReader:
    """Reads one case: a folder of DICOM files and a NIfTI mask."""

    order: str = "measured"
    check_hu: bool = True
    whole_patients: bool = True

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        folder, mask_path = source.place
        labels, affine = read_nifti(mask_path)
        stated = affine if self.order == "measured" and nifti_is_placed(mask_path) else None
        scan = scan_folder(folder, many_in_one=False)
        for turn_said in (turn_of(stated), _ASCENDING):  # the axes in the header may be wrong
            count, rows, cols = (labels.shape[axis] for axis in turn_said.axes)
            try:
                headers, notes = slices_for_mask(scan, (rows, cols, count), str(folder))
                break
            except DataError as error:
                fault = error
        else:
            raise fault
        stack = stack_slices(headers)
        turn, found, warnings = choose_turn(
            labels,
            (count, rows, cols),
            _DESCENDING if self.order == "descending" else _ASCENDING,
            stack.affine_lps(),
            stated,
            lambda index: read_hu(stack.slices[index].path, rescale=stack.rescale),
        )
        if turn is None:
            reason = f"a mask of shape {labels.shape}, slices of {rows} x {cols} pixels"
            raise DataError(mask_path, reason, "find the mask of this scan")
        annotations = [annotations_of_mask(turn.level(labels, k)) for k in range(count)]
        file_index = [turn.file_slice(k, count) for k in range(count)]
        return plan_masked_study(
            source.patient_id,
            agreed(headers, "study_uid") or source.patient_id,
            of_stack(stack, annotations, file_index),
            stack.spacing_mm,
            notes=notes + stack.notes() + found,
            warnings=warnings,
            check_hu=self.check_hu,
        )

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        return read_hu(source[0], rescale=source[1])


class Read(ListedSet[ReadReader]):
    """The set as downloaded, in one folder.

    Args:
        raw: folder that contains ``GE (DICOM files)`` and ``TOSHIBA (DICOM files)``.
        order: of the masks' slices; ``measured`` tries index and headers.
        check_hu: refuse masks that are on the wrong slices, judged by their HU.
    """

    name = "read"

    def __init__(self, raw: Path, order: str = "measured", check_hu: bool = True):
        super().__init__(raw, ReadReader(order, check_hu))

    def info(self) -> dict[str, str]:
        return {
            "description": "READ: pulmonary embolism in CT angiography of two makers",
            "source": "de Andrade et al., Sci Data 2023, doi 10.1038/s41597-023-02374-x",
            "licence": "CC0",
        }

    def options(self) -> dict[str, Any]:
        return {"order": self.reader.order, "hu_check": self.reader.check_hu}

    def _find(self) -> list[PatientSource]:
        scans: dict[str, list[Path]] = defaultdict(list)
        masks: dict[str, list[Path]] = defaultdict(list)
        holders = [folder for folder in folders_below(self.raw) if "DICOM" in folder.name]
        if len(holders) > 1 and holders[0] == self.raw:  # the root's own name does not count
            del holders[0]
        for holder in holders:
            for folder in subfolders(holder):
                scans[case_name(folder.name)].append(folder)
        for path in sorted(self.raw.rglob("*")):
            case = stem_before(path, *_MASK_SUFFIXES)
            if case is not None and path.is_file() and not is_hidden(path):
                masks[case].append(path)
        cases = sorted(scans.keys() | masks.keys(), key=natural_key)
        return [
            scan_with_mask(
                case,
                scans[case],
                masks[case],
                cure_of_mask="put its DICOM folder there, or remove the mask",
                cure_of_scan=f"put {case}.nii.gz anywhere below RAW, or remove the scan",
            )
            for case in cases
        ]


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, 'folder with "GE (DICOM files)" and "TOSHIBA (DICOM files)"')
    parser.add_argument(
        "--order",
        choices=ORDERS,
        default="measured",
        help="how the masks' slices run against position (default: as the HU under them say)",
    )
    cli.add_hu_check(parser)
    return parser


def main() -> int:
    return cli.main(lambda args: Read(args.raw, args.order, not args.no_hu_check), make_parser())
