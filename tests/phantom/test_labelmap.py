"""Reading anatomies: label maps in any orientation, and what TotalSegmentator writes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from pe_unified.phantom.labelmap import (
    ARTERY,
    LUNG,
    VEIN,
    list_anatomies,
    read_label_map,
)


def _labels() -> np.ndarray:
    """(slices, rows, cols) with two boxes of lung, and a tube of each kind of vessel."""
    labels = np.zeros((40, 50, 60), dtype=np.uint8)
    labels[5:35, 10:40, 5:25] = LUNG
    labels[5:35, 10:40, 35:55] = LUNG
    labels[8:30, 18:28, 12:24] = ARTERY
    labels[8:30, 18:28, 38:50] = VEIN
    return labels


def _save(path: Path, labels: np.ndarray, codes: str = "LPS", spacing: float = 1.5) -> None:
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine),
        nibabel.orientations.axcodes2ornt(tuple(codes)),
    )
    nibabel.save(image.as_reoriented(turn), path)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAR", "PIL"])
def test_orientation_has_no_effect(tmp_path: Path, codes: str) -> None:
    _save(tmp_path / "a.nii.gz", _labels(), codes)
    read = read_label_map(tmp_path / "a.nii.gz")
    assert (read.labels == _labels()).all()
    assert read.spacing == (1.5, 1.5, 1.5)
    assert read.name == "a"


def test_another_spacing_is_brought_to_the_working_one(tmp_path: Path) -> None:
    fine = _labels().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    _save(tmp_path / "a.nii.gz", fine, spacing=0.75)
    read = read_label_map(tmp_path / "a.nii.gz")
    assert (read.labels == _labels()).all()


def test_what_cannot_be_painted_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_anatomies(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no label maps"):
        list_anatomies(tmp_path)
    labels = _labels()
    labels[labels == VEIN] = 0
    _save(tmp_path / "noveins.nii.gz", labels)
    with pytest.raises(ValueError, match=r"noveins.*veins"):
        read_label_map(tmp_path / "noveins.nii.gz")
    labels[labels == 0] = 9
    _save(tmp_path / "other.nii.gz", labels)
    with pytest.raises(ValueError, match=r"other.*values"):
        read_label_map(tmp_path / "other.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "other.nii.gz").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut.*cannot be read"):
        read_label_map(tmp_path / "cut.nii.gz")


def test_patients_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii.gz"):
        _save(tmp_path / name, _labels())
    (tmp_path / "notes.txt").write_text("not a patient")
    assert list(list_anatomies(tmp_path)) == ["a", "b"]


def _segmentator(folder: Path) -> None:
    """One file per structure: arteries and veins in ``lung_vessels``, their roots apart."""
    folder.mkdir()
    labels = _labels()
    lobes = {
        "lung_upper_lobe_left": np.s_[20:35, :, 35:],
        "lung_lower_lobe_left": np.s_[:20, :, 35:],
        "lung_upper_lobe_right": np.s_[25:, :, :35],
        "lung_middle_lobe_right": np.s_[15:25, :, :35],
        "lung_lower_lobe_right": np.s_[:15, :, :35],
    }
    for name, part in lobes.items():
        mask = np.zeros_like(labels)
        mask[part] = labels[part] > 0
        _save(folder / f"{name}.nii.gz", mask)
    roots = {"pulmonary_artery": ARTERY, "pulmonary_vein": VEIN}
    for name, value in roots.items():
        mask = (labels == value).astype(np.uint8)
        mask[14:] = 0
        _save(folder / f"{name}.nii.gz", mask)
    _save(folder / "lung_vessels.nii.gz", (labels > LUNG).astype(np.uint8))


def test_a_segmentator_output_gives_the_three_labels(tmp_path: Path) -> None:
    _segmentator(tmp_path / "s0001")
    assert list(list_anatomies(tmp_path / "s0001")) == ["s0001"]
    found = list_anatomies(tmp_path)
    assert list(found) == ["s0001"]
    read = read_label_map(found["s0001"])
    assert (read.labels == _labels()).all()


def test_a_segmentator_output_without_a_structure_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "s0001"
    _segmentator(folder)
    (folder / "lung_vessels.nii.gz").unlink()
    (folder / "pulmonary_vein.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"s0001 lacks lung_vessels, pulmonary_vein \(or"):
        read_label_map(folder)
