"""The raw layout of nnU-Net v2: names of folders and files, and additional files.

``DatasetXXX_Name/{imagesTr,labelsTr,imagesTs,labelsTs}``, ``dataset.json`` and
``splits_final.json``, as in nnU-Net's documentation (documentation/dataset_format.md and
manual_data_splits.md at https://github.com/MIC-DKFZ/nnUNet). ``instancesTr`` and ``instancesTs``
hold the numbers of emboli if a set has them, and ``pe_unified.json`` the patient, study and split
of each case; nnU-Net ignores both.
"""

import json
from pathlib import Path
from typing import Any

from pe_unified.errors import DataError

DATASET, SPLITS_FINAL, CASES = "dataset.json", "splits_final.json", "pe_unified.json"
ENDING = ".nii.gz"
#: nnU-Net's suffixes for training cases, including validation, and for test cases.
TRAINING, TESTING = "Tr", "Ts"


def part_of(split: str) -> str:
    """``Tr`` or ``Ts`` for a split of a converted set."""
    return TESTING if split == "test" else TRAINING


def image_path(root: Path, part: str, case: str, ending: str = ENDING) -> Path:
    return root / f"images{part}" / f"{case}_0000{ending}"


def label_path(root: Path, part: str, case: str, ending: str = ENDING) -> Path:
    return root / f"labels{part}" / f"{case}{ending}"


def instance_path(root: Path, part: str, case: str) -> Path:
    return root / f"instances{part}" / f"{case}{ENDING}"


def read_object(path: Path, kind: type = dict) -> Any:
    """Read a JSON file that holds an object, or a list.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(path, "cannot be read", "export or download it again", error) from error
    if not isinstance(content, kind):
        raise DataError(path, f"is not a JSON {kind.__name__}", "export or download it again")
    return content
