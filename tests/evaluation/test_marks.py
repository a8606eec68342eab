import numpy as np
import pytest
from painted_masks import SHAPE, SPACING, affine_lps, blocks

from pe_unified.ct.overlay import EvenSlices
from pe_unified.errors import DataError
from pe_unified.evaluation.components import find_lesions
from pe_unified.evaluation.marks import marks_of, read_marks

GRID = EvenSlices(SHAPE, affine_lps())


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_physical_marks_and_pixels_of_one_place_agree(tmp_path):
    """Voxel (slice 3, row 5, col 7) in both units."""
    x, y, z = affine_lps()[:3] @ [7, 5, 3, 1]
    lps = read_marks(write(tmp_path / "a.csv", f"id,x,y,z,prob\ns1,{x},{y},{z},0.9\n"))["s1"]
    pixel = read_marks(write(tmp_path / "b.txt", "s1 7 5 3 0.9\n"))["s1"]
    for found, unit in ((lps, "lps"), (pixel, "pixel")):
        assert found.unit == unit and found.scored
        marks = found.on(GRID, affine_lps())
        np.testing.assert_allclose(marks.points, [[3, 5, 7]])
        assert marks.confidences.tolist() == [0.9]


def test_pixels_are_those_of_the_file_whichever_way_it_runs(tmp_path):
    """The scan's file runs from head to feet; slice 3 from the feet is its slice 8."""
    affine = affine_lps()
    affine[:3, 3] += affine[:3, 2] * (SHAPE[0] - 1)
    affine[:3, 2] *= -1
    found = read_marks(write(tmp_path / "b.txt", "s1 7 5 8 0.9\n"))["s1"]
    np.testing.assert_allclose(found.on(GRID, affine).points, [[3, 5, 7]], atol=1e-9)


def test_kinds_of_files(tmp_path):
    plain = read_marks(write(tmp_path / "a.csv", "\ufeffScan;X;Y;Z\ns1;1;2;3\ns2;4;5;6\n"))
    assert list(plain) == ["s1", "s2"] and not plain["s1"].scored
    assert plain["s2"].confidences.tolist() == [1.0] and plain["s2"].unit == "lps"
    assert read_marks(tmp_path / "a.csv", "pixel")["s1"].unit == "pixel"
    folder = tmp_path / "marks"
    folder.mkdir()
    write(folder / "c1.txt", "1 2 3 0.5\n4 5 6 0.25\n")
    write(folder / "c2.txt", "")
    found = read_marks(folder)
    assert [len(found[name].places) for name in ("c1", "c2")] == [2, 0]
    assert found["c1"].confidences.tolist() == [0.5, 0.25] and found["c1"].unit == "pixel"


@pytest.mark.parametrize(
    "text",
    ["id,x,y\ns1,1,2\n", "s1 1 2 x 0.5\n", "s1 1 2 nan 0.5\n", "id,x,y,z,prob\ns1,1,2\n", "s1 1\n"],
)
def test_lines_that_are_no_marks_are_named(tmp_path, text):
    with pytest.raises(DataError, match=r"m\.csv.*write a line id,x,y,z,prob"):
        read_marks(write(tmp_path / "m.csv", text))
    with pytest.raises(DataError, match="no such file"):
        read_marks(tmp_path / "absent.csv")


def test_a_file_in_a_folder_names_its_own_scan_or_none(tmp_path):
    """A column of numbers of marks is none of scans."""
    write(tmp_path / "c1.csv", "id,x,y,z,prob\nc1,1,2,3,0.5\n")
    assert len(read_marks(tmp_path)["c1"].places) == 1
    write(tmp_path / "c2.csv", "id,x,y,z,prob\n1,1,2,3,0.5\n")
    with pytest.raises(DataError, match=r"c2\.csv.*line 2 names the scan '1'.*column out"):
        read_marks(tmp_path)


def test_marks_of_probabilities_lie_at_their_maxima():
    mask = blocks(((1, 2, 3), (2, 4, 4)), ((7, 10, 8), (3, 3, 5))) > 0
    probability = np.where(mask, 0.6, 0.1)
    probability[2, 4, 5], probability[9, 10, 12] = 0.95, 0.8
    parts = find_lesions(mask, 1.0)
    box = tuple(slice(a, a + n) for a, n in zip(parts.start, parts.labels.shape, strict=True))
    marks = marks_of(parts, SPACING, probability[box])
    assert marks.points.tolist() == [[2, 4, 5], [9, 10, 12]]
    assert marks.confidences.tolist() == [0.95, 0.8]


def test_marks_of_plain_masks_lie_in_them():
    """The centroid of a ring lies in its hole; the mark is on the ring."""
    ring = blocks(((5, 5, 5), (1, 9, 9))) > 0
    ring[5, 6:13, 6:13] = False
    bar = blocks(((1, 1, 1), (1, 1, 5))) > 0
    marks = marks_of(find_lesions(ring | bar, 1.0), SPACING)
    assert marks.points.tolist()[0] == [1, 1, 3] and marks.confidences.tolist() == [1, 1]
    assert ring[tuple(marks.points.astype(int)[1])]
    # Rows are 0.7 mm apart and columns 0.8: above or below the middle is nearer than beside it.
    assert marks.points[1][2] == 9
