"""What a raw set converts to belongs to a converter version: one cannot change without the other.

The chests are made of whole numbers, without chance, so that every machine makes the same.
"""

import hashlib
import json
from pathlib import Path

import cv2
import nibabel
import nrrd
import numpy as np
import pytest
from dicom_files import write_hu
from raw_sets import BOX_COLUMNS, rsna_row, write_csv
from scipy.io import savemat

from pe_unified.converters.contract.schema import CONVERTER_VERSION
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.cadpe import Cadpe
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.read import Read
from pe_unified.converters.raw.rsna import Rsna

MM, STEP_MM, SLICES = 1.5, 5, 10
#: Rows and columns: a whole chest, and a small round field of view that cuts through its lungs.
WHOLE, SMALL = (176, 224), (148, 148)
#: Of the version and layout: where the lungs are, and digests of what is written down of the
#: patient and of the pixels.
GOLDEN: dict[str, dict[str, tuple[list[int] | None, str, str]]] = {
    "1.7": {
        "fumpe": ([26, 36, 172, 104], "d227d0bb0b241d1d", "e53ad7e766fb9ddf"),
        "rsna": ([0, 22, 148, 104], "b2ce425c3e4cf9ed", "3bb0f94a878efc16"),
        "cadpe": ([26, 36, 172, 104], "2ee0732ee123b0bb", "e53ad7e766fb9ddf"),
        "read": ([0, 22, 148, 104], "53fde84ce0cac96a", "3bb0f94a878efc16"),
    },
}
CURE = (
    "If the same input is meant to be converted to something else now, raise CONVERTER_VERSION in "
    "pe_unified/converters/contract/schema.py, and put in place of GOLDEN's line:\n"
)


def chest(shape: tuple[int, int], round_field: bool) -> tuple[np.ndarray, np.ndarray]:
    """HU, int16, and numbered emboli, uint8, both (slices, rows, cols)."""
    number, down, across = np.ogrid[:SLICES, : shape[0], : shape[1]]
    down, across = 2 * down - shape[0], 2 * across - shape[1]  # half pixels from the middle

    def ellipse(y: int, x: int, high: int, wide: int) -> np.ndarray:
        """Of half axes in pixels."""
        off = (down - 2 * y) ** 2 * wide**2 + (across - 2 * x) ** 2 * high**2
        return (off <= 4 * high**2 * wide**2) & (number >= 0)

    hu = np.full((SLICES, *shape), -1000)
    emboli = np.zeros(hu.shape, dtype=np.uint8)
    hu[ellipse(0, 0, 70, 100)] = 40
    for side in (-50, 50):
        hu[ellipse(0, side, 48, 32)] = -850
        hu[ellipse(5, side, 9, 9)] = 320
    hu[ellipse(-14, 0, 6, 6)] = -1000  # the trachea
    inside = (number > 2) & (number < 7)
    for value, x in ((1, 47), (2, 52)):
        emboli[ellipse(5, x, 4, 2) & inside] = value
    hu[emboli > 0] = 60
    hu += (7 * down + 13 * across + 29 * number) % 41 - 20
    if round_field:
        hu[~ellipse(0, 0, shape[0] // 2, shape[1] // 2)] = -1024
    return hu.astype(np.int16), emboli


def write_dicom(folder: Path, hu: np.ndarray, names: str, **elements: str) -> None:
    for k, level in enumerate(hu):
        uid, spacing = f"{elements['SeriesInstanceUID']}.{k}", [MM, MM]
        path = folder / names.format(k)
        write_hu(path, level, STEP_MM * k, SOPInstanceUID=uid, PixelSpacing=spacing, **elements)


def write_fumpe(raw: Path) -> Fumpe:
    hu, emboli = chest(WHOLE, round_field=False)
    folder = raw / "CT_scans" / "PAT001"
    write_dicom(folder, hu, "D{}.dcm", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
    (raw / "GroundTruth").mkdir()
    mask = (emboli > 0).astype(np.uint8).transpose(1, 2, 0)
    savemat(raw / "GroundTruth" / "PAT001.mat", {"Mask": mask})
    return Fumpe(raw)


def write_rsna(raw: Path) -> Rsna:
    hu, emboli = chest(SMALL, round_field=True)
    uids = {"StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.3.1", "PatientID": ""}
    write_dicom(raw / "train" / "st" / "st-s", hu, "st-{}.dcm", **uids)
    rows = [rsna_row("st", f"st-{k}", int(level.any()), True) for k, level in enumerate(emboli)]
    write_csv(raw / "train.csv", rows)
    box = [["st", "st-s", "st-4", "Left lobar", "118", "72", "9", "12"]]
    return Rsna(raw, boxes=write_csv(raw / "boxes.csv", box, BOX_COLUMNS))


def write_cadpe(raw: Path) -> Cadpe:
    header = {"space": "left-posterior-superior", "space origin": [5, 6, -300], "encoding": "raw"}
    header["space directions"] = np.diag([MM, MM, STEP_MM])
    for name, array in zip(("images/001", "rs/0001RefStd"), chest(WHOLE, round_field=False)):
        path = raw / f"{name}.nrrd"
        path.parent.mkdir(parents=True)
        nrrd.write(str(path), array.transpose(2, 1, 0), header)
    return Cadpe(raw)


def write_read(raw: Path) -> Read:
    hu, emboli = chest(SMALL, round_field=True)
    folder = raw / "GE (DICOM files)" / "01GE"
    write_dicom(folder, hu, "I{}", StudyInstanceUID="1.7", SeriesInstanceUID="1.7.1")
    labels = (emboli > 0).astype(np.uint8).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-MM, -MM, 1, 1])), raw / "01GE.nii.gz")
    return Read(raw)


WRITERS = {"fumpe": write_fumpe, "rsna": write_rsna, "cadpe": write_cadpe, "read": write_read}


def converted(layout: str, root: Path) -> tuple[list[int] | None, str, str]:
    """As in GOLDEN."""
    out = root / "out"
    options = RunOptions(quiet=True, split=(1.0, 0.0, 0.0))
    report = convert(WRITERS[layout](root / "raw"), out, options)
    whole = json.loads((out / "annotations" / "train.json").read_text())
    told = [report["patients"], *(whole[key] for key in ("images", "annotations", "exams"))]
    text = json.dumps(told, sort_keys=True)
    text = json.dumps(json.loads(text, parse_float=lambda x: f"{float(x):.6g}"))
    pixels = hashlib.sha256()
    for image in whole["images"]:
        pixels.update(cv2.imread(str(out / image["file_name"]), cv2.IMREAD_UNCHANGED).tobytes())
    (box,) = {json.dumps(image["lung_box"]) for image in whole["images"]}
    return json.loads(box), _short(hashlib.sha256(text.encode())), _short(pixels)


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:16]


def test_the_version_is_noted() -> None:
    assert list(GOLDEN) == [CONVERTER_VERSION], "GOLDEN holds the present version alone"


@pytest.mark.parametrize("layout", WRITERS)
def test_what_is_converted_changes_with_the_version_only(layout: str, tmp_path: Path) -> None:
    found = converted(layout, tmp_path)
    assert found == GOLDEN[CONVERTER_VERSION][layout], f'{CURE}"{layout}": {found},'
