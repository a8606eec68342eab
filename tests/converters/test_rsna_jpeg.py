import numpy as np
from raw_sets import (
    BOX_COLUMNS,
    all_images,
    load_splits,
    smooth_hu,
    write_csv,
    write_jpeg_edition,
)

from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png

QUIET = RunOptions(quiet=True)


def by_sop(out):
    return {image["sop_uid"]: image for image in all_images(out)}


def write_boxes(raw, rows):
    return write_csv(raw / "boxes.csv", [[str(v) for v in row] for row in rows], BOX_COLUMNS)


def test_jpeg_edition(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_jpeg_edition(raw, smooth_hu)
    report = convert(Rsna(raw), out, QUIET)
    assert report_faults(report) == [] and verify(out) == []
    images = by_sop(out)
    assert len(images) == 11
    info = load_splits(out)["train"]["info"]
    assert info["edition"] == "jpeg256" and info["approximate_hu"] is True
    for k in range(6):
        image = images[f"st1-{k}"]
        assert image["slice_index"] == k and image["z_mm"] is None
        assert image["spacing_mm"] == [None, None, None]
        error = read_slice_png(out / image["file_name"]) - smooth_hu(k).clip(-1024, 450)
        assert np.percentile(np.abs(error), 95) < 12


def test_broken_jpegs_are_named(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_jpeg_edition(raw, smooth_hu)
    folder = raw / "train-jpegs" / "st1" / "st1-s"
    path = folder / "8_st1-1.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    (folder / "9_st1-2.jpg").rename(folder / "st1-2.jpg")
    faults = "\n".join(report_faults(convert(Rsna(raw), out, QUIET)))
    assert "8_st1-1.jpg: the JPEG is cut short; download the file again" in faults
    assert "st1-2.jpg: not named NNN_<SOPInstanceUID>.jpg; restore the name" in faults
    assert "no file for 1 (st1-2)" in faults


def test_boxes_shrink_with_the_jpeg_edition(tmp_path):
    """Boxes are in pixels of the 512 x 512 slices, whatever edition is read."""
    raw = tmp_path / "raw"
    write_jpeg_edition(raw, smooth_hu)
    boxes = write_boxes(raw, [["st1", "st1-s", "st1-2", "", 100, 301, 40, 20]])
    report = convert(Rsna(raw, boxes=boxes), tmp_path / "out", QUIET)
    assert report_faults(report) == []
    assert by_sop(tmp_path / "out")["st1-2"]["annotations"][0]["bbox"] == [50, 150.5, 20, 10]
