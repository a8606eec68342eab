"""What a reader sees of a mask that lies on the wrong side."""

import cv2
import SimpleITK as sitk

from pe_unified.cli import main
from pe_unified.phantom.command import write_layout

#: RGB of the outlines in the picture.
AS_IT_LIES, WHERE_IT_FITS = (0xF5, 0xA0, 0x00), (0x56, 0xB4, 0xE9)


def test_the_picture_of_a_mirrored_mask_shows_both_places(tmp_path, called, keep_picture):
    raw, export = tmp_path / "painted", tmp_path / "export"
    write_layout(raw, "cadpe", 2, seed=0, size=128, slices=64)
    export.mkdir()
    (raw / "images/002.nrrd").rename(export / "case7.nrrd")
    mask = sitk.ReadImage(str(raw / "rs/0002RefStd.nrrd"))
    mirrored = sitk.GetImageFromArray(sitk.GetArrayFromImage(mask)[:, :, ::-1])
    mirrored.CopyInformation(mask)
    sitk.WriteImage(mirrored, str(export / "case7_mask.nrrd"))
    out = tmp_path / "own"
    done = called(main, "pe-unified", "convert", "folder", str(export), str(out), "--workers", "1")
    assert done.returncode == 1
    assert "it would fit if placed 'left-right'" in done.stdout + done.stderr
    picture = out / "check/case7.png"
    seen = cv2.imread(str(picture))[..., ::-1].astype(int)
    for colour in (AS_IT_LIES, WHERE_IT_FITS):
        assert (abs(seen - colour).max(axis=2) < 8).sum() > 50
    keep_picture(picture, "own_data_misfit.png")
