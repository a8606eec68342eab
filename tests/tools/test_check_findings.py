"""Findings against the truth of a painted study."""

import importlib
import json

import numpy as np
import pytest

from pe_unified.benchmarks.painted_hearts import summarise_hearts
from pe_unified.benchmarks.painted_placings import check_placings, summarise_placings
from pe_unified.phantom.study import paint_study


@pytest.fixture(scope="module")
def painted():
    return paint_study(3, (60, 128, 128), positive=True)


@pytest.fixture
def truth(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("pe_unified.benchmarks.painted_truth")


@pytest.fixture
def faults(truth):
    return importlib.import_module("pe_unified.benchmarks.painted_faults")


def test_a_study_is_checked_against_its_truth(truth, painted):
    checked = truth.check_study("made up", painted)
    dice = checked.lung_dice
    assert 0.8 < dice["sharp, without vessels"] < dice["sharp, with vessels"] <= 1
    assert 0.7 < dice["grid, with vessels"] < dice["sharp, with vessels"]
    assert len(checked.emboli) + checked.undescribed == len(painted.findings) > 0
    for true, _, _, _ in checked.emboli:
        assert true in ("left", "right", "both")
    assert len(checked.boxes) == len(painted.findings) and all(own for own, _ in checked.boxes)
    # Against lungs in the wrong place the figure falls: it does measure.
    moved = np.roll(painted.structures, 30, axis=2)
    worse = truth.check_study("moved", type(painted)(**{**vars(painted), "structures": moved}))
    assert all(worse.lung_dice[kind] < dice[kind] - 0.1 for kind in dice)


@pytest.mark.parametrize("hu, held", [(40, True), (300, False)])
def test_a_box_holds_a_clot_where_its_attenuation_is_and_none_in_lung(truth, painted, hu, held):
    lung = np.zeros(painted.hu.shape, bool)
    lung[:, :40, :40] = True
    levels = np.where(lung, -850.0, painted.hu)
    levels[painted.emboli > 0] = hu
    reader = truth.SliceReader(truth.as_study(levels, painted.spacing))
    looked = truth.survey(reader, lungs_from="classical")
    middle = np.zeros_like(lung)
    middle[:, 18:22, 18:22] = True  # whatever pixel is drawn, the box stays in lung
    embolus = painted.emboli == painted.findings[0].number
    found = truth._box_rule(embolus, middle, reader, looked, np.random.default_rng(0))
    assert found == (held, False)


def test_figures_are_counts_of_the_studies(truth):
    Checked = truth.Checked
    emboli = [("left", "left", "central", "central"), ("right", "midline", "segmental", "central")]
    wrong = ("left", "right", "segmental", "segmental")
    here = [(True, False), (False, None)]
    studies = [
        Checked("a", {"grid": 0.9}, emboli, 0, [], ["motion"], True, True),
        Checked("b", {"grid": 0.7}, [("both", "left", "central", "segmental")], 2, here, [], 0, 0),
        Checked("c", {"grid": 0.8}, [wrong], 1, [(True, True)], ["motion"], 0, 0),
    ]
    found = truth.summarise(studies)
    assert found["lungs"]["mean Dice, grid"] == pytest.approx(0.8)
    assert found["lungs"]["lowest Dice, grid"] == 0.7
    assert found["side"] == {
        "emboli not described": 3,
        "emboli of one side": 3,
        "right side": 1,
        "called midline": 1,
        "wrong side": 1,
    }
    assert set(found["level"].values()) == {1} and len(found["level"]) == 4
    assert found["boxes"] == {
        "around an embolus": 3,
        "cannot hold a clot by the rule": 1,
        "moved to lung": 2,
        "cannot hold a clot there": 1,
    }
    assert found["motion"] == {"painted": 1, "flagged of them": 1, "flagged of the others": 1}
    assert found["poor_opacification"]["flagged of them"] == 0


@pytest.mark.slow
def test_the_command_writes_what_it_shows(truth, load_tool, tmp_path, capsys):
    tool = load_tool("check_findings")
    words = ["--studies", "1", "--slices", "40", "--size", "96", "--out", str(tmp_path / "f.json")]
    assert tool.main(words) == 0
    stored = json.loads((tmp_path / "f.json").read_text())
    assert stored["summary"]["lungs"]["studies"] == len(stored["studies"]) == 1
    assert (
        f"{stored['summary']['lungs']['mean Dice, grid, with vessels']:.3f}"
        in capsys.readouterr().out
    )


def test_larger_voxels_are_means(faults):
    volume = np.arange(4 * 4 * 6, dtype=np.float32).reshape(4, 4, 6)
    means = faults.resample(volume, (1.0, 1.0, 1.0), (2.0, 2.0, 3.0))
    expected = volume.reshape(2, 2, 2, 2, 2, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    thick = faults.resample(volume, (1.0, 1.0, 1.0), (1.5, 1.0, 1.0))
    np.testing.assert_allclose(thick[0], volume[0] / 1.5 + volume[1] / 3, rtol=1e-5)
    assert len(thick) == 2


def test_flags_are_counted_by_kind(faults):
    first = [("motion", "5 mm", True, True), ("motion", "5 mm", False, True)]
    second = [("motion", "5 mm", True, False), ("no_lungs", "", False, False)]
    found = faults.summarise_faults([(first, {"a": 0.9}), (second, {"a": 0.7})])
    assert found["lungs beside gas, a"] == {"mean Dice": pytest.approx(0.8), "lowest Dice": 0.7}
    assert found["motion, 5 mm"] == {
        "painted": 2,
        "flagged of them": 1,
        "others": 1,
        "flagged of the others": 1,
    }
    assert found["no_lungs"]["others"] == 1 and found["no_lungs"]["painted"] == 0


@pytest.mark.slow
def test_faults_are_found_in_a_painted_study(truth, load_tool, tmp_path):
    tool = load_tool("check_findings")
    out = tmp_path / "faults.json"
    assert tool.main(["--faults", "1", "--size", "96", "--out", str(out)]) == 0
    summary = json.loads(out.read_text())["summary"]
    for flag in ("no_lungs", "no_contrast", "truncated_apices", "truncated_bases"):
        assert summary[flag] == {
            "painted": summary[flag]["painted"],
            "flagged of them": summary[flag]["painted"],
            "others": 1,
            "flagged of the others": 0,
        }


@pytest.mark.slow
def test_ratios_of_hearts_are_measured_beside_the_painted_ones(load_tool, tmp_path):
    out = tmp_path / "hearts.json"
    assert (
        load_tool("check_findings").main(["--hearts", "2", "--step", "3", "--out", str(out)]) == 0
    )
    (found,) = json.loads(out.read_text())["summary"].values()
    assert found["hearts"] == 2 and 0 < found["largest"] < 0.2


def test_hearts_are_summarised_by_hand():
    (found,) = summarise_hearts([(0.9, 0.8), (1.1, 1.2), (0.98, 1.01)]).values()
    assert found["mean"] == pytest.approx(0.01) and found["largest"] == pytest.approx(0.1)
    assert found["on the same side of 1"] == 2


def test_masks_are_laid_in_all_eight_ways(painted):
    right = check_placings(painted)
    assert (right.refused, right.mirrored, right.caught, right.named) == (False, 7, 7, 7)
    moved = np.roll(painted.emboli, 40, axis=2)
    wrong = check_placings(type(painted)(**{**vars(painted), "emboli": moved}))
    assert wrong.refused and wrong.named == 0
    found = summarise_placings([right, wrong, None])
    assert found["true masks"] == {"studies": 2, "fewest pixels": right.pixels, "refused": 1}
    assert found["mirror images"]["tried"] == 14
    healthy = type(painted)(**{**vars(painted), "emboli": np.zeros_like(painted.emboli)})
    assert check_placings(healthy) is None
