"""Small raw sets in the layouts of the public ones, with truth known to the pixel."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from dicom_files import write_hu
from scipy.io import savemat

from pe_unified.ct.windows import window_to_uint8

EMBOLUS, CONTRAST, LUNG = 60, 320, -850


@dataclass
class TruePatient:
    """What was written for one patient, in file order.

    Attributes:
        mask: uint8 (rows, cols, files).
        hu: int16 (files, rows, cols).
        z: mm, per file.
    """

    mask: np.ndarray
    hu: np.ndarray
    z: list[float]
    extra: dict = field(default_factory=dict)


def painted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """HU for a mask (rows, cols, slices): emboli in contrast in lung."""
    rows, cols, count = mask.shape
    hu = np.full((count, rows, cols), LUNG, dtype=np.int16)
    hu += rng.integers(-10, 11, hu.shape, dtype=np.int16)
    for k in range(count):
        where = mask[:, :, k] > 0
        if where.any():
            ys, xs = np.nonzero(where)
            hu[k, max(0, ys.min() - 3) : ys.max() + 4, max(0, xs.min() - 3) : xs.max() + 4] = (
                CONTRAST
            )
            hu[k][where] = EMBOLUS
    return hu


def random_mask(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """A few blobs at one end of the stack, so that a reversed order cannot pass."""
    mask = np.zeros((size, size, count), dtype=np.uint8)
    for k in range(1, max(2, count // 3)):
        for _ in range(int(rng.integers(1, 4))):
            y, x = rng.integers(6, size - 12, 2)
            h, w = rng.integers(4, 10, 2)
            mask[y : y + h, x : x + w, k] = 1
    return mask


def write_fumpe_patient(
    raw: Path,
    name: str,
    *,
    seed: int = 0,
    size: int = 48,
    count: int = 8,
    empty: bool = False,
    reversed_z: bool = False,
    mask: np.ndarray | None = None,
    scans: str = "CT_scans",
    root: str = "1.2.3",
    **elements,
) -> TruePatient:
    """``CT_scans/<name>/D1.dcm ...`` (no leading zeros) and ``GroundTruth/<name>.mat``.

    ``root``: what the UIDs begin with.
    """
    number = crc32(name.encode())
    rng = np.random.default_rng([seed, number])
    if mask is None:
        mask = random_mask(rng, size, count)
        if empty:
            mask[:] = 0
    hu = painted(mask, rng)
    count = mask.shape[2]
    z = [1.5 * k - 100 for k in range(count)]
    if reversed_z:
        z.reverse()
    for k in range(count):
        write_hu(
            raw / scans / name / f"D{k + 1}.dcm",
            hu[k],
            z[k],
            **{
                # It runs against the file names: nobody may rely on it.
                "InstanceNumber": count - k,
                "SOPInstanceUID": f"{root}.{number}.{k + 1}",
                "StudyInstanceUID": f"{root}.{number}",
                "SeriesInstanceUID": f"{root}.{number}.0",
                **elements,
            },
        )
    (raw / "GroundTruth").mkdir(exist_ok=True)
    savemat(raw / "GroundTruth" / f"{name}.mat", {"Mask": mask}, do_compression=True)
    return TruePatient(mask, hu, z)


RSNA_COLUMNS = [
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "pe_present_on_image"),
    *("negative_exam_for_pe", "qa_motion", "qa_contrast", "flow_artifact", "rv_lv_ratio_gte_1"),
    *("rv_lv_ratio_lt_1", "leftsided_pe", "chronic_pe", "true_filling_defect_not_pe"),
    *("rightsided_pe", "acute_and_chronic_pe", "central_pe", "indeterminate"),
]
BOX_COLUMNS = [*RSNA_COLUMNS[:3], "Artery", "x", "y", "width", "height"]


def rsna_row(study: str, sop: str, label: int, positive_exam: bool, **changes: int) -> list[str]:
    """A consistent row of train.csv; the series of study ``st`` is ``st-s``."""
    values = dict.fromkeys(RSNA_COLUMNS, 0)
    values |= {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}-s",
        "SOPInstanceUID": sop,
        "pe_present_on_image": label,
        "negative_exam_for_pe": int(not positive_exam),
        "rv_lv_ratio_lt_1": int(positive_exam),
        "rightsided_pe": int(positive_exam),
        **changes,
    }
    return [str(values[column]) for column in RSNA_COLUMNS]


def write_rsna_study(
    raw: Path, study: str, labels: list[int], *, seed: int = 0, size: int = 32, **elements
) -> list[list[str]]:
    """``train/<study>/<study>-s/<sop>.dcm`` for each label, and the rows of the csv.

    Names run against the physical order: slice ``<study>-0`` is the highest.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for k, label in enumerate(labels):
        sop = f"{study}-{k}"
        hu = rng.integers(-200, 300, (size, size)).astype(np.int16)
        elements = {
            "PatientID": "",
            "StudyInstanceUID": "1.9",
            "SeriesInstanceUID": "1.9.1",
        } | elements
        write_hu(raw / "train" / study / f"{study}-s" / f"{sop}.dcm", hu, -2.5 * k, **elements)
        rows.append(rsna_row(study, sop, label, any(labels)))
    return rows


def write_csv(path: Path, rows: list[list[str]], columns: list[str] = RSNA_COLUMNS) -> Path:
    path.write_text("\n".join(",".join(row) for row in [columns, *rows]) + "\n")
    return path


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a data set but the converter's own notes, by name."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".conversion" not in path.parts
    }


def load_splits(root: Path) -> dict[str, dict]:
    return {
        path.stem: json.loads(path.read_text()) for path in (root / "annotations").glob("*.json")
    }


def all_images(root: Path) -> list[dict]:
    """Entries of ``images[]`` of all splits, each with its annotations under that key."""
    images = []
    for name in ("train", "val", "test"):
        content = json.loads((root / "annotations" / f"{name}.json").read_text())
        by_image: dict[int, list[dict]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        images += [
            {**image, "split": name, "annotations": by_image.get(image["id"], [])}
            for image in content["images"]
        ]
    return images


#: Slice labels of a study with embolism, and of one without.
POSITIVE = [0, 0, 1, 1, 0, 1]
NEGATIVE = [0] * 5


def write_jpeg_edition(raw, hu_of):
    rows = []
    for study, labels in (("st1", POSITIVE), ("st2", NEGATIVE)):
        folder = raw / "train-jpegs" / study / f"{study}-s"
        folder.mkdir(parents=True)
        for k, label in enumerate(labels):
            hu = hu_of(k)
            rgb = [window_to_uint8(hu, name) for name in ("lung", "pe", "mediastinal")]
            picture = np.stack(rgb[::-1], axis=-1)
            # Written in the order of names with one digit: 9 must come before 10.
            path = folder / f"{k + 7}_{study}-{k}.jpg"
            assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
            rows.append(rsna_row(study, f"{study}-{k}", label, any(labels)))
    write_csv(raw / "train.csv", rows)


def smooth_hu(k):
    rng = np.random.default_rng(k)
    return cv2.resize(rng.uniform(-1000, 500, (6, 6)), (256, 256), interpolation=cv2.INTER_CUBIC)
