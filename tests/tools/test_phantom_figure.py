"""Figures of the painted studies, and the sizes they rest on."""

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest


@pytest.fixture(scope="module")
def figure(load_tool):
    return load_tool("phantom_figure")


def _mask() -> np.ndarray:
    mask = np.zeros((10, 20, 20), dtype=np.uint8)
    mask[2:5, 3:7, 3:6] = 1
    mask[4, 12:14, 12:14] = 1
    mask[5, 7, 6] = 1  # hangs together with the first by a corner only
    return mask


def test_sizes_are_those_of_the_components(figure) -> None:
    sizes = figure.embolus_sizes(_mask(), (2.0, 0.5, 0.5))
    assert sorted(sizes.areas_mm2) == pytest.approx([0.25, 1.0, 3.0, 3.0, 3.0])
    assert sorted(sizes.volumes_ml) == pytest.approx([4 * 0.5e-3, 37 * 0.5e-3])
    assert sizes.positive_share == pytest.approx(0.4)
    none = figure.embolus_sizes(np.zeros((4, 5, 5)), (1, 1, 1))
    assert (len(none.areas_mm2), len(none.volumes_ml), none.positive_share) == (0, 0, 0.0)


@pytest.mark.slow
def test_the_command_draws_both_figures(figure, tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(_mask().transpose(2, 1, 0), affine), tmp_path / "a.nii.gz")
    small = ["--studies", "1", "--size", "64", "--slices", "12"]
    out = tmp_path / "sizes.png"
    assert figure.main(["sizes", str(out), "--reference", str(tmp_path), *small]) == 0
    assert cv2.imread(str(out)).std() > 0
    assert figure.main(["slices", str(tmp_path / "slices.png"), *small]) == 0
    assert cv2.imread(str(tmp_path / "slices.png")).shape == (64, 7 * 64, 3)


@pytest.mark.slow
def test_outlines_keep_their_colour_in_a_small_file(figure, tmp_path: Path) -> None:
    out = tmp_path / "page.png"
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1600), dtype=np.uint8)
    with pytest.raises(ValueError, match="smaller --size"):
        figure._write_page(np.repeat(np.tile(noise, (3, 1))[:, :, None], 3, axis=2), out)
    # Too much for all shades, not for some.
    page = np.repeat(cv2.GaussianBlur(noise, (3, 3), 0)[:, :, None], 3, axis=2)
    page[100:200, 300] = figure._OUTLINE
    figure._write_page(page, out)
    assert out.stat().st_size < 1_000_000
    read = cv2.imread(str(out))[:, :, ::-1]
    assert (read[100:200, 300] == figure._OUTLINE).all()
    rest = np.abs(read.astype(int) - page).max(-1)
    rest[100:200, 300] = 0
    assert rest.max() <= 12


def test_a_folder_without_masks_is_named(figure, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        figure.main(["sizes", "x.png", "--reference", str(tmp_path), "--studies", "1"])
    assert end.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
