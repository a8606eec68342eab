"""Studies, lines of the table and masks; a line that does not fit is told why."""

import pytest

from pe_unified.converters.own.matching import match
from pe_unified.converters.own.table import StudyRow
from pe_unified.converters.own.tree import FoundMask, FoundStudy, Tree


@pytest.fixture
def matched(tmp_path):
    """The one line of a table against two studies of patient P and a mask beside the first."""
    raw = tmp_path / "raw"
    studies = [FoundStudy(raw / name, (raw / name / "1",), f"1.2.{name}", "P") for name in "ab"]
    for study in studies:
        study.path.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()

    def of(**line):
        tree = Tree(studies=studies, masks=[FoundMask(raw / "a" / "mask.nii")])
        return match(tree, [StudyRow(2, **line)], raw)

    return raw, of


@pytest.mark.parametrize(
    ("study", "path", "said"),
    [
        ("Q", None, "'Q' names no study (UID, PatientID, folder or file); name its path in line 2"),
        (
            "p",
            None,
            "'p' names 2 studies (UID, PatientID, folder or file); name its path in line 2",
        ),
        ("p", None, "or its StudyInstanceUID as study: 1.2.a, 1.2.b"),
        ("a", ".", "2 studies lie in this folder; name the folder or file of the study in line 2"),
        ("a", "../elsewhere", "this folder lies outside raw; move or link it into raw"),
    ],
)
def test_the_reason_why_a_line_has_no_study(matched, study, path, said):
    raw, of = matched
    (place,) = of(study=study, path=path and raw / path).places
    assert said in str(place.problem)


def test_a_mask_that_the_table_leaves_out_is_told_so(matched):
    _, of = matched
    (problem,) = (each for each in of(study="a", masks=()).problems if "mask" in each)
    assert problem.startswith("a/mask.nii: the table names no study for this mask")
    found = of(study="a")
    assert [path.name for path in found.places[0].masks] == ["mask.nii"]
