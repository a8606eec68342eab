"""Whole folders: what is pooled, what is missing, two systems, and the files that are left."""

import csv
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted_masks import SPACING, blocks, save_nifti

from pe_unified.errors import UserError
from pe_unified.evaluation.masks.case_files import find_references, find_system
from pe_unified.evaluation.masks.case_score import CaseScore
from pe_unified.evaluation.masks.case_table import lesion_tables, metrics_of
from pe_unified.evaluation.masks.folders import evaluate_folders, read_groups
from pe_unified.evaluation.masks.result_files import as_record, summary_text, write_results
from pe_unified.evaluation.masks.rules import Rules

BOX = ((2, 4, 5), (3, 6, 6))
SHIFTED = ((2, 5, 5), (3, 6, 6))
FAR = ((8, 16, 12), (2, 4, 4))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five cases: found, shifted, found twice, missed, and two that are empty in part."""
    root = tmp_path_factory.mktemp("folders")
    cases = {
        "c1": ((BOX,), (BOX,)),
        "c2": ((BOX,), (SHIFTED, FAR)),
        "c3": ((BOX, FAR), (FAR,)),
        "c4": ((), ()),
        "c5": ((), (FAR,)),
        "c6": ((BOX,), ()),
    }
    for case, (truth, found) in cases.items():
        save_nifti(root / "ref" / f"{case}.nii.gz", blocks(*truth))
        save_nifti(root / "a" / f"{case}.nii.gz", blocks(*found))
        save_nifti(root / "b" / f"{case}.nii.gz", blocks(*truth))
    return root


def evaluated(root, *names, rules=None, **options):
    references = find_references(root / "ref")
    systems = [find_system(root / name, references, None, None, None) for name in names]
    return evaluate_folders(references, systems, rules or Rules(), **options)


def values(result, number=0):
    return {name: each.value for name, each in result.systems[number].metrics.items()}


def test_what_is_pooled_by_hand(folders):
    result = evaluated(folders, "a")
    found = values(result)
    box, far = 108, 32
    shifted = 2 * 90 / (2 * box + far)
    third = 2 * far / (box + 2 * far)
    # c4 has nothing to agree on, c5 and c6 agree on nothing.
    assert found["mask/dice"] == pytest.approx((1 + shifted + third + 0 + 0) / 5)
    inside = 2 * (box + 90 + far)
    assert found["mask/dice_pooled"] == pytest.approx(
        inside / ((2 * box) + (2 * box + far) + (box + 2 * far) + far + box)
    )
    errors = np.array([0, far, -box, far, -box]) * np.prod(SPACING) / 1000
    assert found["mask/volume_error_ml"] == pytest.approx(errors.mean())
    assert found["mask/volume_error_abs_ml"] == pytest.approx(np.abs(errors).mean())
    assert (found["overlap/recall"], found["overlap/precision"]) == (3 / 5, 3 / 5)
    assert found["0mm/recall"] == 3 / 5 and found["0mm/false_positives_per_scan"] == 2 / 6
    assert "0mm/sensitivity_at_1" not in found, "marks without confidences have no curve"
    counts = as_record(result)["systems"][0]["counts"]
    assert counts["both_masks_empty"] == 1 and counts["cases_without_lesion"] == 2
    assert counts["reference_alone_empty"] == counts["prediction_alone_empty"] == 1
    assert counts["lesions"] == 5


def test_two_systems_on_the_same_cases(folders):
    result = evaluated(folders, "a", "b", by="jackknife")
    assert values(result, 1)["mask/dice"] == 1 and values(result, 1)["mask/hd95_mm"] == 0
    gain = result.differences["mask/dice"]
    assert gain.value == pytest.approx(1 - values(result)["mask/dice"])
    assert gain.low < gain.value < gain.high
    both = evaluated(folders, "a", "a")
    assert both.by == "bootstrap"
    assert both.differences["mask/dice"].low == both.differences["mask/dice"].high == 0


def test_groups_are_what_intervals_rest_on(folders, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("case,group\nc1,p\nc2,p\nc3,q\nc4,q\n")
    groups = read_groups(table, find_references(folders / "ref"))
    result = evaluated(folders, "a", groups=groups)
    alone = evaluated(folders, "a")
    assert (result.units, alone.units) == (4, 6) and values(result) == values(alone)
    ends = [each.systems[0].metrics["mask/dice"] for each in (result, alone)]
    assert ends[0].low != ends[1].low
    table.write_text("case,group\nx9,p\n")
    with pytest.raises(UserError, match="x9: not in the reference"):
        read_groups(table, find_references(folders / "ref"))


def test_a_missing_prediction_is_refused_empty_or_left_out(folders, tmp_path):
    for name in ("c1", "c4"):
        path = tmp_path / "few" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folders / "a" / path.name).read_bytes())
    references = find_references(folders / "ref")
    system = find_system(tmp_path / "few", references, None, None, None)
    with pytest.raises(UserError, match=r"no prediction for 4 of 6 cases \(c2, c3, c5, c6\)"):
        evaluate_folders(references, [system], Rules())
    empty = evaluate_folders(references, [system], Rules(), "empty")
    assert values(empty)["overlap/recall"] == 1 / 5
    assert empty.systems[0].missing == ["c2", "c3", "c5", "c6"]
    assert values(empty)["mask/dice"] == pytest.approx(1 / 4)
    left = evaluate_folders(references, [system], Rules(), "leave-out")
    assert values(left)["overlap/recall"] == 1 and left.left_out == ["c2", "c3", "c5", "c6"]


def test_a_damaged_file_is_named_and_the_rest_scored(folders, tmp_path):
    for path in (folders / "a").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "c3.nii.gz").write_bytes(b"\x1f\x8bno")
    references = find_references(folders / "ref")
    system = find_system(tmp_path, references, None, None, None)
    result = evaluate_folders(references, [system], Rules())
    assert list(result.damaged) == ["c3"] and "c3.nii.gz" in str(result.damaged["c3"])
    assert [score.case for score in result.systems[0].scores] == ["c1", "c2", "c4", "c5", "c6"]


@pytest.mark.slow
def test_workers_give_the_same(folders):
    one, two = (as_record(evaluated(folders, "a", "b", workers=count)) for count in (1, 2))
    assert json.dumps(one) == json.dumps(two)


def test_files_that_are_left(folders, tmp_path):
    result = evaluated(folders, "a", "b")
    write_results(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("cases.csv", "froc.png", "results.json", "results.md")
    ]
    stored = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert stored["rules"]["connectivity"] == 26 and stored["rules"]["smallest_mm3"] == 10
    first = stored["systems"][0]
    low, high = first["metrics"]["mask/dice_ci"]
    assert low < first["metrics"]["mask/dice"] < high
    rows = list(csv.DictReader((tmp_path / "cases.csv").open(encoding="utf-8")))
    assert [row["case"] for row in rows] == ["c1", "c2", "c3", "c4", "c5", "c6"] * 2
    assert rows[3]["dice"] == "" and rows[4]["dice"] == "0.0" and rows[4]["assd_mm"] == ""
    assert (rows[2]["found_2mm"], rows[2]["false_2mm"]) == ("1", "0")
    summary = summary_text(result)
    assert "Dice, mean of cases" in summary and "26-connected" in summary
    assert "b minus a" in summary and "6 cases: bootstrap intervals are too narrow" in summary
    assert "a: its marks have no confidence, so there is no curve" in summary


def test_marks_that_lie_nowhere_are_questioned(folders, tmp_path):
    marks = tmp_path / "marks.csv"
    marks.write_text("id,x,y,z,prob\n" + "".join(f"c{k},300,300,20,0.9\n" for k in (1, 2)))
    references = find_references(folders / "ref")
    system = find_system(marks, references, None, None, None)
    with pytest.raises(UserError, match=r"2 of 2 marks lie outside their scans.*--mark-unit"):
        evaluate_folders(references, [system], Rules())


def test_names_that_belong_to_no_case_are_told(folders, tmp_path):
    marks = tmp_path / "marks.csv"
    lines = [f"{name},-26,-36,104,0.9\n" for name in ("c1", *(f"case_{k}" for k in range(6)))]
    marks.write_text("id,x,y,z,prob\n" + "".join(lines))
    references = find_references(folders / "ref")
    result = evaluate_folders(
        references, [find_system(marks, references, None, None, None)], Rules()
    )
    (system,) = as_record(result)["systems"]
    assert system["unmatched"] == [f"case_{k}" for k in range(6)]
    names = r"case_0, case_1, case_2, case_3, case_4 and 1 more"
    assert re.search(rf"marks: not scored, .*: {names}", summary_text(result))


def test_one_is_told_as_one(folders):
    references = {"c2": find_references(folders / "ref")["c2"]}
    system = find_system(folders / "a", references, None, None, None)
    summary = summary_text(evaluate_folders(references, [system], Rules()))
    assert "a: 1 case, 1 lesion counted (0 too small, 0 cases without any), 2 marks" in summary
    assert "bootstrap intervals" not in summary and "| overlap: recall | 1.000 |" in summary


def scores_of(generator, cases=6):
    """Cases of marks alone."""
    found = []
    for number in range(cases):
        marks, lesions = generator.integers(0, 6), generator.integers(0, 4)
        distances = generator.uniform(0, 8, (marks, lesions))
        confidences = generator.random(marks)
        counted = generator.random(lesions) < 0.8
        sizes = np.full(lesions, 20.0)
        found.append(CaseScore(f"c{number}", sizes, counted, confidences, distances, True, None))
    return found


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_marks_far_away_never_raise_sensitivity_and_more_allowed_never_lowers_it(seed):
    generator = np.random.default_rng(seed)
    before = scores_of(generator)
    after = []
    for score in before:
        extra = int(generator.integers(0, 4))
        far = np.full((extra, score.distances_mm.shape[1]), 1e3)
        after.append(
            CaseScore(
                score.case,
                score.volumes_mm3,
                score.counted,
                np.concatenate([score.confidences, generator.random(extra)]),
                np.concatenate([score.distances_mm, far]),
                True,
                None,
            )
        )
    rules = Rules()
    ones = np.ones((1, len(before)))
    one, other = (metrics_of(each, rules, {})(ones) for each in (before, after))
    for name in one:
        if "sensitivity_at" in name and not np.isnan(one[name][0]):
            assert other[name][0] <= one[name][0] + 1e-12
    for epsilon in rules.epsilons_mm:
        curve = [one[f"{epsilon:g}mm/sensitivity_at_{rate:g}"][0] for rate in rules.rates]
        assert np.isnan(curve).all() or (np.diff(curve) >= 0).all()
    tables = lesion_tables(before, rules, {})
    assert all(len(t.best) == sum(s.counted.sum() for s in before) for t in tables.values())
