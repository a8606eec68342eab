"""Masks laid over a study: the same grid, another grid, and what is none."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from studies import study_of

from pe_unified.ct.structures import LEFT_VENTRICLE, RIGHT_VENTRICLE, Structure, read_structures
from pe_unified.errors import DataError

SHAPE = (9, 12, 14)  # slices, rows, cols
SPACING = (0.8, 0.6, 2.0)  # row, col, slice
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def study():
    return study_of(np.zeros(SHAPE, np.int16), SPACING)


def block(low, high, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*ends) for ends in zip(low, high, strict=True))] = 1
    return mask


RIGHT, LEFT = block((2, 3, 4), (6, 8, 7)), block((3, 3, 8), (7, 9, 12))


def save(path, mask, affine, extension=None):
    """A mask (slices, rows, cols) whose affine from (col, row, slice) leads to LPS mm."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(mask.T), _RAS @ affine)
    if extension is not None:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, extension.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def on_study(structure):
    return structure.on((0, 0, 0), SHAPE)


def test_a_folder_as_totalsegmentator_writes_it(study, tmp_path):
    for name, mask in ((RIGHT_VENTRICLE, RIGHT), (LEFT_VENTRICLE, LEFT), ("aorta", LEFT)):
        save(tmp_path / f"{name}.nii.gz", mask, study.affine_lps())
    found = read_structures(tmp_path, study)
    assert list(found.masks) == [RIGHT_VENTRICLE, LEFT_VENTRICLE] and found.notes == ()
    np.testing.assert_array_equal(on_study(found.masks[RIGHT_VENTRICLE]), RIGHT)
    np.testing.assert_array_equal(on_study(found.masks[LEFT_VENTRICLE]), LEFT)
    assert found.masks[RIGHT_VENTRICLE].start == (2, 3, 4)
    assert found.masks[RIGHT_VENTRICLE].stop == (6, 8, 7)
    assert found.masks[RIGHT_VENTRICLE].mask.all()


def test_files_of_other_orientations_lie_where_their_headers_say(study, tmp_path):
    """TotalSegmentator keeps the orientation that its input was stored in."""
    image = nibabel.Nifti1Image(RIGHT.T, _RAS @ study.affine_lps())
    for number, axes in enumerate(("RAS", "LPI", "PSR")):
        turn = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        nibabel.save(image.as_reoriented(turn), folder / f"{RIGHT_VENTRICLE}.nii")
        found = read_structures(folder, study)
        assert found.notes == ()
        np.testing.assert_array_equal(on_study(found.masks[RIGHT_VENTRICLE]), RIGHT)


@pytest.mark.parametrize("how", ["header", "beside"])
def test_a_label_map_names_its_labels(study, tmp_path, how):
    labels = np.where(LEFT > 0, 3, RIGHT * 5).astype(np.uint8)
    names = {"heart_atrium_left": 2, LEFT_VENTRICLE: 3, RIGHT_VENTRICLE: 5}
    table = "".join(
        f'<Label Key="{value}" Red="1"><![CDATA[{name}]]></Label>' for name, value in names.items()
    )
    head = '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><LabelTable>'
    xml = f"{head}{table}</LabelTable></CaretExtension>"
    path = tmp_path / "heart.nii.gz"
    save(path, labels, study.affine_lps(), xml if how == "header" else None)
    if how == "beside":
        (tmp_path / "heart.json").write_text(json.dumps(names))
    found = read_structures(path, study).masks
    assert set(found) == {RIGHT_VENTRICLE, LEFT_VENTRICLE}
    np.testing.assert_array_equal(on_study(found[RIGHT_VENTRICLE]), labels == 5)
    np.testing.assert_array_equal(on_study(found[LEFT_VENTRICLE]), labels == 3)


def test_another_grid_gives_the_nearest_voxel(study, tmp_path):
    """Turned, shifted and coarser; voxels that lie halfway between two may go to either."""
    angle = np.radians(10)
    affine = study.affine_lps() @ np.array(
        [
            [1.7 * np.cos(angle), -1.4 * np.sin(angle), 0, -1.3],
            [1.7 * np.sin(angle), 1.4 * np.cos(angle), 0, -2.2],
            [0, 0, 0.7, 0.15],
            [0, 0, 0, 1],
        ]
    )
    affine[:3, 0] *= 1.03
    mask = block((2, 3, 3), (9, 7, 7), (11, 9, 9))
    save(tmp_path / f"{RIGHT_VENTRICLE}.nii.gz", mask, affine)
    found = read_structures(tmp_path, study)
    col, row, level = np.meshgrid(*map(np.arange, SHAPE[::-1]), indexing="ij")
    centres = np.stack([col, row, level, np.ones_like(col)], axis=-1)
    at = np.rint(centres @ (np.linalg.inv(affine) @ study.affine_lps()).T)[..., :3].astype(int)
    inside = ((at >= 0) & (at < mask.shape[::-1])).all(axis=-1)
    expected = np.zeros(SHAPE[::-1], bool)
    expected[inside] = mask.T[tuple(at[inside].T)]
    np.testing.assert_array_equal(on_study(found.masks[RIGHT_VENTRICLE]), expected.T)
    assert expected.sum() > 50
    assert found.notes[0].startswith("heart_ventricle_right: nearest voxels of a mask of 11 x 9 x")


def test_a_coarser_grid_as_simpleitk_resamples_it(study, tmp_path):
    image = sitk.GetImageFromArray(block((1, 2, 2), (5, 6, 6), (7, 8, 8)))
    image.SetSpacing((1.3, 1.1, 2.7))
    image.SetOrigin((-10.4, -20.7, -300.2))
    sitk.WriteImage(image, str(tmp_path / f"{LEFT_VENTRICLE}.nii.gz"))
    grid = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8))
    grid.SetSpacing((SPACING[1], SPACING[0], SPACING[2]))
    grid.SetOrigin(study.origin_mm)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    )
    found = read_structures(tmp_path, study)
    np.testing.assert_array_equal(on_study(found.masks[LEFT_VENTRICLE]), expected)
    assert "of 7 x 8 x 8 voxels of 2.70 x 1.10 x 1.30 mm" in found.notes[0]


def test_slices_lie_where_the_study_has_them(study, tmp_path):
    """Slice 5 and those above it lie one step higher than evenly spaced ones would."""
    places = np.array([study.position_mm(k + (k >= 5), 0, 0) for k in range(SHAPE[0])])
    gap = replace(study, places_mm=places)
    even = block((0, 0, 0), (10, 12, 14), (10, *SHAPE[1:]))
    even[5] = 0
    even[7:] = 0
    save(tmp_path / f"{RIGHT_VENTRICLE}.nii.gz", even, study.affine_lps())
    found = on_study(read_structures(tmp_path, gap).masks[RIGHT_VENTRICLE])
    assert found.any(axis=(1, 2)).tolist() == [True] * 6 + [False] * 3


def test_what_lies_outside_the_study_is_told(study, tmp_path):
    affine = study.affine_lps()
    affine[:3, 3] += affine[:3, :3] @ (0, 0, -4)
    save(tmp_path / f"{RIGHT_VENTRICLE}.nii.gz", RIGHT, affine)
    found = read_structures(tmp_path, study)
    assert found.notes[1] == "heart_ventricle_right: 50 % of its volume lies outside the study"


def test_an_empty_mask_is_no_fault(study, tmp_path):
    """TotalSegmentator writes one for what the scan does not show."""
    save(tmp_path / f"{RIGHT_VENTRICLE}.nii.gz", 0 * RIGHT, study.affine_lps())
    found = read_structures(tmp_path, study).masks[RIGHT_VENTRICLE]
    assert not found.mask.size and not on_study(found).any()


def test_a_mask_of_another_study_is_refused_by_its_name(study, tmp_path):
    affine = study.affine_lps()
    affine[:3, 3] += (0, 0, 500)
    save(tmp_path / f"{RIGHT_VENTRICLE}.nii.gz", RIGHT, study.affine_lps())
    save(tmp_path / f"{LEFT_VENTRICLE}.nii.gz", LEFT, affine)
    with pytest.raises(DataError, match=r"left\.nii\.gz: heart_ventricle_left does not overlap"):
        read_structures(tmp_path, study)


def test_what_cannot_be_read_is_refused(study, tmp_path):
    with pytest.raises(DataError, match="no such file or folder; check --structures"):
        read_structures(tmp_path / "nowhere", study)
    with pytest.raises(DataError, match=r"none of heart_ventricle_right\.nii\.gz, heart"):
        read_structures(tmp_path, study)
    (tmp_path / "masks.txt").write_text("none")
    with pytest.raises(DataError, match="neither a folder nor NIfTI"):
        read_structures(tmp_path / "masks.txt", study)
    (tmp_path / f"{RIGHT_VENTRICLE}.nii.gz").write_bytes(b"no mask")
    with pytest.raises(DataError, match=r"right\.nii\.gz: no readable NIfTI"):
        read_structures(tmp_path, study)
    with pytest.raises(DataError, match="has no position"):
        read_structures(tmp_path, replace(study, placed=False))


@pytest.mark.parametrize(
    "names",
    [
        *("[1]", "{", '{"heart_ventricle_left": "x"}', '{"heart_ventricle_left": null}'),
        *("absent", "other"),
    ],
)
def test_labels_without_names_are_refused(study, tmp_path, names):
    save(tmp_path / "map.nii.gz", LEFT, study.affine_lps(), "<a>" if names == "absent" else None)
    if names == "other":
        (tmp_path / "map.json").write_text('{"liver": 1}')
    elif names != "absent":
        (tmp_path / "map.json").write_text(names)
    with pytest.raises(DataError, match=r"map\.nii\.gz: (unreadable names|names none of)"):
        read_structures(tmp_path / "map.nii.gz", study)


def test_a_part_of_the_study():
    whole = np.zeros((5, 6, 7), bool)
    whole[1:3, 2:5, 3:4] = whole[2, 5, 6] = True
    cut = Structure.cut(whole)
    np.testing.assert_array_equal(cut.on((0, 0, 0), whole.shape), whole)
    np.testing.assert_array_equal(cut.on((1, 1, 2), (3, 5, 5)), whole[1:4, 1:6, 2:7])
    assert Structure.cut(whole[1:], (1, 0, 0)).start == cut.start == (1, 2, 3)
