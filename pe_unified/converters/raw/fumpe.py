"""Convert FUMPE: CT angiographies of 35 patients with masks of every embolus.

RAW holds CT_scans/PATnnn/D0001.dcm ... (or CT_scans_1, CT_scans_2) and GroundTruth/PATnnn.mat,
MATLAB v5 or v7.3, with the variable Mask (rows, cols, slices).

Mask slice k belongs to the k-th DICOM file in natural order of the file names, whatever the
position in the patient. In the result, slices are numbered from feet to head (slice_index, also
the PNG's number); file_index is k. The HU under the masks are checked, because nothing else shows
that masks are on the wrong slices.

    pe-unified convert fumpe RAW OUT --workers 8
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_unified.converters import command_line as cli
from pe_unified.converters.contract.schema import annotations_of_mask
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource
from pe_unified.converters.pipeline.raw_folders import (
    case_name,
    contents,
    folders_below,
    stem_before,
    subfolders,
)
from pe_unified.converters.raw.case_lists import ListedSet, scan_with_mask
from pe_unified.converters.raw.mask_pairing import slices_for_mask
from pe_unified.converters.raw.masked_study import of_stack, plan_masked_study
from pe_unified.converters.raw.mat import open_mat
from pe_unified.ct.dicom import read_hu
from pe_unified.ct.headers import agreed, natural_key, scan_folder
from pe_unified.ct.stack import stack_slices

VARIABLE = "Mask"
#: Prefix of the scan folders, in lower case.
_SCANS = "ct_scans"


@dataclass(frozen=True)
class FumpeReader:
    """Reads one patient: a folder of DICOM files and a MATLAB mask."""

    variable: str = VARIABLE
    check_hu: bool = True
    whole_patients: bool = True

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        folder, mat = source.place
        scan = scan_folder(folder, many_in_one=False)
        with open_mat(mat, self.variable) as mask:
            headers, notes = slices_for_mask(scan, mask.shape, str(folder))
            annotations = [annotations_of_mask(level) for level in mask.slices()]
        stack = stack_slices(headers)
        index_of = {header.path: index for index, header in enumerate(headers)}
        file_index = [index_of[header.path] for header in stack.slices]
        return plan_masked_study(
            source.patient_id,
            agreed(headers, "study_uid") or source.patient_id,
            of_stack(stack, [annotations[k] for k in file_index], file_index),
            stack.spacing_mm,
            notes=notes + stack.notes(),
            check_hu=self.check_hu,
        )

    def read_slice(self, source: tuple[Any, ...]) -> Any:
        return read_hu(source[0], rescale=source[1])


class Fumpe(ListedSet[FumpeReader]):
    """The set as downloaded, in one folder.

    Args:
        raw: folder that contains the scans and ``GroundTruth``, at most two levels down.
        variable: name of the mask in the MATLAB files.
        check_hu: refuse masks that are on the wrong slices, judged by their HU.
    """

    name = "fumpe"

    def __init__(self, raw: Path, variable: str = VARIABLE, check_hu: bool = True):
        super().__init__(raw, FumpeReader(variable, check_hu))

    def info(self) -> dict[str, str]:
        return {
            "description": "FUMPE: pulmonary embolism in CT angiography, 2D components",
            "source": "Masoudi et al., Sci Data 2018, doi 10.1038/sdata.2018.180",
            "licence": "CC BY 4.0",
        }

    def options(self) -> dict[str, Any]:
        return {"hu_check": self.reader.check_hu, "variable": self.reader.variable}

    def _find(self) -> list[PatientSource]:
        scans: dict[str, list[Path]] = defaultdict(list)
        masks: dict[str, list[Path]] = defaultdict(list)
        for holder in folders_below(self.raw):
            name = holder.name.lower()
            if name.startswith(_SCANS):
                for folder in subfolders(holder):
                    if not folder.name.lower().startswith(_SCANS):
                        scans[case_name(folder.name)].append(folder)
            elif name == "groundtruth":
                for path in contents(holder):
                    if (patient := stem_before(path, ".mat")) is not None:
                        masks[patient].append(path)
        patients = sorted(scans.keys() | masks.keys(), key=natural_key)
        return [
            scan_with_mask(
                name,
                scans[name],
                masks[name],
                cure_of_mask=f"put it under CT_scans/{name}, or remove the mask",
                cure_of_scan=f"put it under GroundTruth/{name}.mat, or remove the scan",
            )
            for name in patients
        ]


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(__doc__, "folder with CT_scans* and GroundTruth")
    parser.add_argument(
        "--variable", default=VARIABLE, help="the mask in the .mat files (default: %(default)s)"
    )
    cli.add_hu_check(parser)
    return parser


def main() -> int:
    return cli.main(
        lambda args: Fumpe(args.raw, args.variable, not args.no_hu_check), make_parser()
    )
