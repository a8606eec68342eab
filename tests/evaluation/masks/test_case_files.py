import pytest
from painted_masks import blocks, save_nifti

from pe_unified.errors import DataError
from pe_unified.evaluation.masks.case_files import find_references, find_system, plain_name

MASK = blocks(((1, 1, 1), (2, 2, 2)))


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def matched(predictions, references, **options):
    cases = find_references(references)
    options = {"marks": None, "unit": None, "pairs": None, **options}
    system = find_system(predictions, cases, **options)
    return {
        case: (each.mask or each.probabilities).relative_to(predictions).as_posix()
        for case, each in system.predicted.items()
    }


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        *(("0001RefStd", "1"), ("e0032RefStd", "e0032"), ("PE_001_0000", "PE_001"), ("000", "000")),
        *(("case_seg", "case"), ("case-1.mask", "case-1"), ("a_prob_0000", "a"), ("PE_2000", None)),
    ],
)
def test_names_without_what_is_put_behind_them(name, plain):
    assert plain_name(name) == (plain or name)


def test_names_are_paired(tmp_path):
    references = write(tmp_path / "rs", "0001RefStd.nrrd", "e0032RefStd.nrrd", "0007RefStd.nrrd")
    predictions = write(tmp_path / "p", "001.nii.gz", "e0032_0000.nii", "0007/mask.nii.gz", "x.txt")
    write(predictions, "0007/mask.seg.dcm", "999.nii.gz")
    assert matched(predictions, references) == {
        "0001RefStd": "001.nii.gz",
        "e0032RefStd": "e0032_0000.nii",
        "0007RefStd": "0007/mask.nii.gz",
    }


def test_the_same_name_goes_before_a_similar_one(tmp_path):
    """Patient 0000 of nnU-Net is no channel."""
    references = write(tmp_path / "r", "PE_0000.nii.gz", "PE.nii.gz")
    predictions = write(tmp_path / "p", "PE.nii.gz", "PE_0000.nii.gz", "PE_0000.npz")
    found = matched(predictions, references)
    assert found == {"PE_0000": "PE_0000.nii.gz", "PE": "PE.nii.gz"}


def test_what_does_not_tell_is_refused(tmp_path):
    references = write(tmp_path / "r", "1.nii.gz", "01.nii.gz")
    with pytest.raises(DataError, match=r"ambiguous names: 01, 1, 001; pair them with --pairs"):
        matched(write(tmp_path / "p", "001.nii.gz"), references)
    with pytest.raises(DataError, match=r"two files of case 1: 1\.nii, 1\.nrrd"):
        matched(write(tmp_path / "q", "1.nii", "1.nrrd"), references)
    with pytest.raises(DataError, match="none of its names is one of the 2 cases"):
        matched(write(tmp_path / "s", "other.nii"), references)
    for folder in ("none", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=folder):
            find_references(tmp_path / folder)


def test_a_table_of_pairs(tmp_path):
    references = write(tmp_path / "r", "1.nii.gz", "2.nii.gz")
    predictions = write(tmp_path / "p", "one.nii.gz", "two.nii.gz", "1.nii.gz")
    table = tmp_path / "pairs.csv"
    table.write_text("case,prediction\n1.nii.gz,one\n2,two.nii.gz\n")
    found = matched(predictions, references, pairs=table)
    assert found == {"1": "one.nii.gz", "2": "two.nii.gz"}
    table.write_text("case,prediction\n1,one\n2,three\n")
    assert matched(predictions, references, pairs=table) == {"1": "one.nii.gz"}
    table.write_text("case,prediction\n1,three\n")
    with pytest.raises(DataError, match=r"pairs\.csv: no line names .* the first names 1,three"):
        matched(predictions, references, pairs=table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="header case,prediction"):
        matched(predictions, references, pairs=table)


def test_pairs_of_names_with_dots(tmp_path):
    """Only known endings are cut off."""
    references = write(tmp_path / "r", "c1.nii.gz")
    predictions = write(tmp_path / "p", "1.2.840.1.nii.gz")
    marks, table = tmp_path / "marks.csv", tmp_path / "pairs.csv"
    marks.write_text("seriesuid,coordX,coordY,coordZ,probability\n1.2.840.1,6,6,6,0.9\n")
    for name in ("1.2.840.1", "p/1.2.840.1.nii.gz"):
        table.write_text(f"case,prediction\nc1,{name}\n")
        assert matched(predictions, references, pairs=table) == {"c1": "1.2.840.1.nii.gz"}
        system = find_system(marks, find_references(references), None, None, table)
        assert len(system.predicted["c1"].marks.places) == 1


def test_one_file_of_marks_names_no_scan_without_marks(tmp_path):
    references = write(tmp_path / "r", "0001RefStd.nrrd", "0002RefStd.nrrd")
    marks = tmp_path / "marks.csv"
    marks.write_text("id,x,y,z,prob\n1,0,0,0,0.5\n")
    system = find_system(marks, find_references(references), None, None, None)
    assert system.name == "marks" and not system.unmatched
    counts = {case: len(each.marks.places) for case, each in system.predicted.items()}
    assert counts == {"0001RefStd": 1, "0002RefStd": 0}
    masks = tmp_path / "p"
    save_nifti(masks / "1.nii.gz", MASK)
    system = find_system(masks, find_references(references), marks, None, None)
    assert list(system.predicted) == ["0001RefStd"], "the other one has no mask: it is missing"
    marks.write_text("id,x,y,z,prob\n")
    system = find_system(marks, find_references(references), None, None, None)
    assert [len(each.marks.places) for each in system.predicted.values()] == [0, 0]


def test_a_scan_without_a_file_of_marks_is_missing(tmp_path):
    """Marks of its mask would be among others of less confidence."""
    references, masks, marks = (tmp_path / name for name in "rpm")
    for folder in (references, masks):
        for name in ("a", "b"):
            save_nifti(folder / f"{name}.nii.gz", MASK)
    marks.mkdir()
    (marks / "a.csv").write_text("x,y,z,prob\n0,0,0,0.5\n")
    system = find_system(masks, find_references(references), marks, None, None)
    assert list(system.predicted) == ["a"]
