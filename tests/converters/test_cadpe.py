import re

import nrrd
import numpy as np
import pytest
from raw_sets import all_images, painted

from pe_unified.converters.contract.schema import decode_mask
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.cadpe import Cadpe
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png

QUIET = RunOptions(quiet=True)
SPACING = np.array([0.8, 0.7, 1.2])  # of the axes i (columns), j (rows), k (slices)


def instances(seed, size=40, count=9):
    """Labels (cols, rows, slices): two touching emboli of 2D parts, one far away."""
    labels = np.zeros((size, size - 4, count), dtype=np.uint16)
    x, y = np.random.default_rng(seed).integers(4, 12, 2)
    labels[x : x + 8, y : y + 6, 1:4] = 1
    labels[x + 8 : x + 14, y : y + 6, 1:4] = 2
    labels[x : x + 5, y + 12 : y + 20, 2:4] = 1
    labels[x + 16 : x + 22, y + 12 : y + 19, 3] = 17
    return labels


def write_case(raw, case, label_name, *, seed=0, flips=(0, 0, 0), encoding="gzip", **header):
    """Returns HU and labels, both (slices, rows, cols) from feet to head."""
    labels = instances(seed)
    mask = (labels.transpose(1, 0, 2) > 0).astype(np.uint8)
    hu = painted(mask, np.random.default_rng(seed)).transpose(2, 1, 0)  # (i, j, k)
    signs = 1 - 2 * np.array(flips)
    fields = {
        "space": "left-posterior-superior",
        "space directions": np.diag(SPACING * signs),
        "space origin": (SPACING * (np.array(hu.shape) - 1) * np.array(flips)) + [5, 6, -300],
        "encoding": encoding,
        **header,
    }
    axes = [axis for axis, flip in enumerate(flips) if flip]
    for folder, name, array in (("images", case, hu), ("rs", label_name, labels)):
        (raw / folder).mkdir(parents=True, exist_ok=True)
        nrrd.write(str(raw / folder / f"{name}.nrrd"), np.flip(array, axes).copy(), fields)
    return hu.transpose(2, 1, 0), labels.transpose(2, 1, 0)


def assert_exact(out, case, hu, labels, reversed_file=False):
    images = [image for image in all_images(out) if image["patient_id"] == case]
    images.sort(key=lambda image: image["slice_index"])
    assert len(images) == len(hu)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(read_slice_png(out / image["file_name"]), hu[index])
        rebuilt = np.zeros_like(labels[index])
        for annotation in image["annotations"]:
            rebuilt[decode_mask(annotation["segmentation"]) > 0] = annotation["instance_id"]
        np.testing.assert_array_equal(rebuilt, labels[index])
        assert image["pe_present"] == int(labels[index].any())
        assert image["file_index"] == (len(hu) - 1 - index if reversed_file else index)
    return images


def test_cases_by_both_kinds_of_names(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    truths = {
        "001": write_case(raw, "001", "0001RefStd"),
        "e0032": write_case(raw, "e0032", "e0032RefStd", seed=1, encoding="raw"),
        "7": write_case(raw, "7", "7RefStd", seed=2),
    }
    report = convert(Cadpe(raw), out, QUIET)
    assert report_faults(report) == [] and verify(out) == []
    for case, (hu, labels) in truths.items():
        images = assert_exact(out, case, hu, labels)
        assert images[2]["z_mm"] == pytest.approx(-300 + 2 * 1.2)
        assert images[2]["spacing_mm"] == pytest.approx([0.7, 0.8, 1.2])
        assert images[2]["study_uid"] == f"cadpe-{case}" and images[2]["sop_uid"] is None
    slice_3 = next(i for i in all_images(out) if i["patient_id"] == "001" and i["slice_index"] == 3)
    assert sorted(a["instance_id"] for a in slice_3["annotations"]) == [1, 1, 2, 17]


@pytest.mark.parametrize("flips", [(0, 0, 1), (1, 1, 0), (1, 0, 1)])
def test_volumes_are_turned_by_their_header(tmp_path, flips):
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, labels = write_case(raw, "001", "0001RefStd", flips=flips)
    assert report_faults(convert(Cadpe(raw), out, QUIET)) == []
    images = assert_exact(out, "001", hu, labels, reversed_file=bool(flips[2]))
    assert images[0]["z_mm"] == pytest.approx(-300) and verify(out) == []


def test_headers_without_geometry_or_that_disagree(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, labels = write_case(raw, "001", "0001RefStd")
    array, header = nrrd.read(str(raw / "rs" / "0001RefStd.nrrd"))
    header["space directions"] = header["space directions"] * [1, 1, -1]
    nrrd.write(str(raw / "rs" / "0001RefStd.nrrd"), array, header)
    array, _ = nrrd.read(str(raw / "images" / "001.nrrd"))
    nrrd.write(str(raw / "images" / "002.nrrd"), (array.astype(np.int32) + 1024).astype(np.uint16))
    nrrd.write(str(raw / "rs" / "0002RefStd.nrrd"), labels.transpose(2, 1, 0).copy())
    report = convert(Cadpe(raw), out, QUIET)
    assert report_faults(report) == []
    assert_exact(out, "001", hu, labels)
    images = assert_exact(out, "002", hu, labels)
    assert images[0]["z_mm"] is None and images[0]["spacing_mm"] == [None, None, None]
    notes = [" ".join(entry["notes"]) for entry in report["patients"]]
    assert "disagree" in notes[0] and "1024 HU subtracted" in notes[1]


def test_a_reference_stored_the_other_way_is_turned_as_it_says(tmp_path):
    """As a program that keeps its own order of slices saves it."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, labels = write_case(raw, "001", "0001RefStd")
    path = str(raw / "rs" / "0001RefStd.nrrd")
    array, header = nrrd.read(path)
    directions = header["space directions"]
    header["space origin"] = header["space origin"] + directions[2] * (array.shape[2] - 1)
    header["space directions"] = directions * [1, 1, -1]
    nrrd.write(path, np.flip(array, 2).copy(), header)
    report = convert(Cadpe(raw), out, QUIET)
    assert report_faults(report) == []
    assert_exact(out, "001", hu, labels)
    (note,) = report["patients"][0]["notes"]
    assert "the direction of slices; paired by the headers, as the HU under the masks say" in note


def test_bad_input_is_named_and_the_rest_converted(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    good = write_case(raw, "001", "0001RefStd")
    for case in ("002", "003", "004", "005", "006", "007"):
        write_case(raw, case, f"0{case}RefStd", seed=3)
    (raw / "rs" / "0002RefStd.nrrd").unlink()
    (raw / "images" / "003.nrrd").unlink()
    path = raw / "images" / "004.nrrd"
    path.write_bytes(path.read_bytes()[:-300])
    array, _ = nrrd.read(str(raw / "rs" / "0005RefStd.nrrd"))
    nrrd.write(str(raw / "rs" / "0005RefStd.nrrd"), array[:, :, 1:].copy())
    nrrd.write(str(raw / "rs" / "0006RefStd.nrrd"), array[:, :, ::-1].copy())
    nrrd.write(str(raw / "rs" / "0007RefStd.nrrd"), (array + 0.5).astype(np.float32))
    faults = "\n".join(report_faults(convert(Cadpe(raw), out, QUIET)))
    assert "002 skipped: images/002.nrrd: an image without a reference; put rs/0002RefStd" in faults
    assert "0003 skipped: rs/0003RefStd.nrrd: a reference without an image" in faults
    assert re.search("004 skipped: images/004.nrrd: the data .*; copy the file again", faults)
    assert "005 skipped: rs/0005RefStd.nrrd: labels of shape (40, 36, 8), image" in faults
    assert "006 skipped: 006: the HU check fails" in faults
    assert "007 skipped: rs/0007RefStd.nrrd: labels that are no whole numbers" in faults
    assert_exact(out, "001", *good)
    assert verify(out) == []


def test_one_instance_per_case_keeps_its_number(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_case(raw, "001", "0001RefStd")
    array, header = nrrd.read(str(raw / "rs" / "0001RefStd.nrrd"))
    nrrd.write(str(raw / "rs" / "0001RefStd.nrrd"), (array == 1).astype(np.uint8), header)
    convert(Cadpe(raw), out, QUIET)
    numbers = {a["instance_id"] for image in all_images(out) for a in image["annotations"]}
    assert numbers == {1}


def test_nothing_of_the_unpacked_volumes_stays(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_case(raw, "001", "0001RefStd")
    convert(Cadpe(raw), out, RunOptions(quiet=True, workers=2))
    assert not list(out.rglob("*.raw"))
