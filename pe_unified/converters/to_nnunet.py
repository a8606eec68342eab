"""Write a converted set in the raw layout of nnU-Net v2, with the same splits.

OUT/DatasetXXX_NAME then holds imagesTr and labelsTr (train and val), imagesTs and labelsTs (test),
one NIfTI of Hounsfield units per series, dataset.json, and splits_final.json. Its only fold (0)
trains and validates on the same patients as here: copy it to nnUNet_preprocessed/DatasetXXX_NAME
after planning. instancesTr and instancesTs hold the numbers of emboli, if the set has them.

Series that contain a slice with unknown masks, or are not on an even grid, are left out and named;
the exit status is then 1 unless --allow-skips is given.

    pe-unified to-nnunet data/cadpe $nnUNet_raw --id 501 --name PE
    pe-unified convert nnunet $nnUNet_raw/Dataset501_PE data/back
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_unified.converters.command_line import add_workers, command
from pe_unified.converters.contract.nnunet import (
    CASES,
    DATASET,
    ENDING,
    SPLITS_FINAL,
    part_of,
)
from pe_unified.converters.nnunet_cases import ExportedCase, read_cases, write_case
from pe_unified.errors import DataError
from pe_unified.files import appearing_folder
from pe_unified.json_files import write_json
from pe_unified.options import positive
from pe_unified.paths import require_apart
from pe_unified.progress import track
from pe_unified.workers import in_order, open_executor

_PRELOAD = ("pe_unified.converters.nnunet_cases",)
#: Number of reasons that are printed; the file has the rest.
_SHOWN = 20


def export(
    data: Path, out: Path, number: int, name: str, workers: int = 1
) -> tuple[Path, dict[str, Any]]:
    """Export a converted set.

    Args:
        data: the set's folder.
        out: the folder of raw datasets (``nnUNet_raw``).
        number: of the dataset, 1 to 999.
        name: of the dataset; cases are named after it.

    Returns:
        The dataset's folder, and the content of ``pe_unified.json``.

    Raises:
        DataError: nothing can be exported, a slice cannot be read, or the dataset already exists.
        ValueError: a number or a name that nnU-Net does not accept.
    """
    if not 1 <= number <= 999:
        raise ValueError(f"datasets of nnU-Net are numbered from 1 to 999, got {number}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"a name has letters, digits, - and _ only, got '{name}'")
    require_apart(out, data)
    root = out.resolve() / f"Dataset{number:03d}_{name}"
    if root.exists():
        raise DataError(root, "already exists", "remove it, or choose another --id or --name")
    cases, left_out, info = read_cases(data, name)
    if not cases:
        first = next(iter(left_out.values()), "it is empty")
        raise DataError(data, f"no study can be a case: {first}", "see --help")
    with appearing_folder(root) as partial:
        _write_volumes(cases, data, partial, workers)
        kept = {
            "info": info,
            "cases": {case.case: case.record() for case in cases},
            "left_out": left_out,
        }
        for file, content in (
            (DATASET, _dataset(cases, name, info)),
            (SPLITS_FINAL, [_split(cases)]),
            (CASES, kept),
        ):
            write_json(partial / file, content)
    return root, kept


def _write_volumes(cases: Sequence[ExportedCase], data: Path, root: Path, workers: int) -> None:
    tasks = [(case, data, root) for case in cases]
    with open_executor(min(workers, len(cases)), preload=_PRELOAD) as (executor, slots):
        for error in track(
            in_order(executor, slots, write_case, tasks), "writing cases", len(cases)
        ):
            if error is not None:
                raise error


def _dataset(cases: Sequence[ExportedCase], name: str, info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "embolus": 1},
        "numTraining": sum(case.split != "test" for case in cases),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
        "name": name,
        "description": info.get("description"),
        "reference": info.get("source"),
        "licence": info.get("licence"),
    }


def _split(cases: Sequence[ExportedCase]) -> dict[str, list[str]]:
    return {
        split: sorted(case.case for case in cases if case.split == split)
        for split in ("train", "val")
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="a converted set")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of nnU-Net's raw datasets")
    parser.add_argument("--id", type=positive, required=True, help="number of the dataset")
    parser.add_argument("--name", required=True, help="of the dataset, such as PE")
    parser.add_argument(
        "--allow-skips", action="store_true", help="exit with 0 although studies were left out"
    )
    add_workers(parser)
    return parser


@command
def main() -> int:
    args = make_parser().parse_args()
    root, kept = export(args.data, args.out, args.id, args.name, args.workers)
    parts = Counter(part_of(record["split"]) for record in kept["cases"].values())
    print(f"{root}: {parts['Tr']} cases to train and validate on, {parts['Ts']} to test")
    print(
        f"after planning: cp {root / SPLITS_FINAL} $nnUNet_preprocessed/{root.name}/, train fold 0"
    )
    left_out = kept["left_out"]
    for study, reason in list(left_out.items())[:_SHOWN]:
        print(f"  left out {study}: {reason}", file=sys.stderr)
    if len(left_out) > _SHOWN:
        print(f"  and {len(left_out) - _SHOWN} more, see {root / CASES}", file=sys.stderr)
    return 1 if left_out and not args.allow_skips else 0
