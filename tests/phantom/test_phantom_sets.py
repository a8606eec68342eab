"""Painted sets: same bytes, resumable, never mixed."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mat_masks import read_mask

from pe_unified.phantom import command as make_phantom
from pe_unified.phantom import sets as phantom_set
from pe_unified.phantom.sets import (
    DEFAULT_SEEDS,
    LAYOUTS,
    PhantomSettings,
    make_set,
    paint_number,
    study_seed,
)

SMALL = {"size": 96, "slices": 20}


def digest(folder: Path) -> str:
    parts = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        parts.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return parts.hexdigest()


@pytest.fixture(scope="module")
def fumpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fumpe")
    make_phantom.write_layout(out, "fumpe", 2, seed=3, **SMALL)
    return out


def test_same_seed_same_bytes_whatever_the_workers(fumpe: Path, tmp_path: Path) -> None:
    make_phantom.write_layout(tmp_path, "fumpe", 2, seed=3, workers=2, **SMALL)
    assert digest(tmp_path) == digest(fumpe)


def test_a_study_does_not_depend_on_how_many_there_are(fumpe: Path, tmp_path: Path) -> None:
    make_phantom.write_layout(tmp_path, "fumpe", 1, seed=3, **SMALL)
    for place in ("CT_scans/PAT001", ".phantom/00001.json", "GroundTruth/PAT001.mat"):
        one, other = tmp_path / place, fumpe / place
        tell = digest if one.is_dir() else Path.read_bytes
        assert tell(one) == tell(other), place
    assert study_seed(3, 1) != study_seed(3, 2) != study_seed(4, 2)


def test_a_killed_run_is_finished_and_nothing_redone(
    fumpe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set"
    shutil.copytree(fumpe, out)
    # As a kill within the second study leaves it.
    (out / ".phantom" / "00002.json").unlink()
    (out / "phantom.json").unlink()
    shutil.move(out / "CT_scans" / "PAT002", out / "CT_scans" / ".PAT002.part")
    (out / "GroundTruth" / ".PAT002.mat.4711.part").write_bytes(b"half")
    painted = []
    original = phantom_set.paint_number
    monkeypatch.setattr(
        phantom_set, "paint_number", lambda s, n: painted.append(n) or original(s, n)
    )
    make_phantom.write_layout(out, "fumpe", 2, seed=3, **SMALL)
    assert painted == [2]
    assert digest(out) == digest(fumpe)


def test_the_files_hold_the_study_that_was_painted(fumpe: Path) -> None:
    study = paint_number(PhantomSettings("fumpe", seed=3, **SMALL), 2)
    mask = read_mask(fumpe / "GroundTruth" / "PAT002.mat")
    assert mask.sum() == (study.emboli > 0).sum() > 0
    told = json.loads((fumpe / "phantom.json").read_text())["studies"][1]
    assert told["seed"] == study.plan.seed
    assert told["labels"] == study.labels
    assert told["anatomy"] == "procedural"
    assert [e["number"] for e in told["emboli"]] == np.unique(study.emboli)[1:].tolist()


def test_another_set_in_the_same_folder_is_refused(fumpe: Path) -> None:
    with pytest.raises(ValueError, match="other settings"):
        make_phantom.write_layout(fumpe, "fumpe", 2, seed=4, **SMALL)


def test_what_was_not_painted_is_never_replaced(tmp_path: Path) -> None:
    real = tmp_path / "CT_scans" / "PAT001" / "D0001.dcm"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a patient")
    with pytest.raises(ValueError, match="not painted by this command"):
        make_phantom.write_layout(tmp_path, "fumpe", 1, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


def test_what_a_stopped_run_left_is_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []

    def paint(settings: PhantomSettings, number: int):
        manifest = json.loads((tmp_path / "phantom.json").read_text())
        listed.append([study["number"] for study in manifest["studies"]])
        if number == 3:
            raise KeyboardInterrupt
        return paint_number(settings, number)

    monkeypatch.setattr(phantom_set, "paint_number", paint)
    with pytest.raises(KeyboardInterrupt):
        make_phantom.write_layout(tmp_path, "read", 3, **SMALL)
    assert listed[0] == [] and listed[-1] == [1, 2]


def test_layouts_have_different_bodies_if_no_seed_is_given(tmp_path: Path) -> None:
    assert DEFAULT_SEEDS.keys() == LAYOUTS.keys()
    seeds = [study_seed(seed, k) for seed in DEFAULT_SEEDS.values() for k in range(1, 501)]
    assert len(set(seeds)) == len(seeds)
    for layout, words in (("read", []), ("fumpe", ["--seed", "5"])):
        small = ["--studies", "1", "--size", "64", "--slices", "10", "--quiet"]
        make_phantom.main([str(tmp_path / layout), "--layout", layout, *small, *words])
        told = json.loads((tmp_path / layout / "phantom.json").read_text())["settings"]["seed"]
        assert told == (5 if words else DEFAULT_SEEDS[layout])


def test_positive_rate_and_truth(tmp_path: Path) -> None:
    record = make_set(
        tmp_path,
        1,
        PhantomSettings("cadpe", seed=1, positive_rate=0.0, truth=True, size=64, slices=10),
        quiet=True,
    )[0]
    assert record["positive_slices"] == 0
    truth = np.load(tmp_path / "truth" / "001.npz")
    assert truth["emboli"].shape == truth["structures"].shape == (10, 64, 64)
    assert truth["structures"].max() > 1


def test_a_preset_has_its_own_share_of_positive_studies() -> None:
    def share(**settings) -> float:
        chosen = PhantomSettings("fumpe", seed=2, **settings)
        return np.mean([phantom_set._positive(chosen, number) for number in range(1, 401)])

    assert share() > 0.9
    assert share(preset="exams") == pytest.approx(0.5, abs=0.08)
    assert share(preset="exams", positive_rate=0.9) == pytest.approx(0.9, abs=0.05)


def test_settings_are_checked() -> None:
    for wrong in (
        {"layout": "nifti"},
        {"layout": "fumpe", "transfer_syntax": "mp3"},
        {"layout": "fumpe", "boxes": True},
        {"layout": "rsna", "preset": "every"},
        {"layout": "fumpe", "slices": 2},
    ):
        with pytest.raises(ValueError):
            PhantomSettings(**{"seed": 0, **wrong})


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path), "--layout", "fumpe", "--anatomy", str(tmp_path / "none")]
    with pytest.raises(SystemExit, match="2"):
        make_phantom.main(arguments)
    assert "no folder of anatomies" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_phantom.main(["--help"])
    assert "--positive-rate" in capsys.readouterr().out


def test_chosen_anatomies_are_dealt_in_turn(shared_data: Path) -> None:
    settings = PhantomSettings(
        "rsna", seed=0, anatomy=str(shared_data / "anatomy"), anatomies=("003", "001")
    )
    names = [phantom_set.anatomy_of(settings, n)[0] for n in (1, 2, 3)]
    assert names == ["003", "001", "003"]
    wrong = PhantomSettings(
        "rsna", seed=0, anatomy=str(shared_data / "anatomy"), anatomies=("999",)
    )
    with pytest.raises(ValueError, match="no anatomy 999"):
        phantom_set.anatomy_of(wrong, 1)


def test_boxes_beside_jpegs_need_slices_of_512() -> None:
    with pytest.raises(ValueError, match="take size 512"):
        PhantomSettings("rsna", seed=0, size=64, slices=8, jpeg=True, boxes=True)


def test_fewer_studies_than_before_lose_none(tmp_path):
    """Their folders are still there: without their rows they would be nobody's."""
    settings = PhantomSettings("rsna", seed=3, positive_rate=1.0, **SMALL)
    make_set(tmp_path, 2, settings, quiet=True)
    before = {name: (tmp_path / name).read_bytes() for name in ("phantom.json", "train.csv")}
    assert len(make_set(tmp_path, 1, settings, quiet=True)) == 2
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--studies", "0"], "above 0"),
        (["--positive-rate", "5"], "a share, 0 to 1"),
        (["--anatomies", "001"], "give that, too"),
    ],
)
def test_options_that_cannot_be(tmp_path, capsys, options, message):
    try:
        status = make_phantom.main([str(tmp_path / "out"), "--layout", "fumpe", *options])
    except SystemExit as end:  # argparse's own
        status = end.code
    assert status == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
