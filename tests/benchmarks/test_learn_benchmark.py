"""Learning at equal time: the curves, the reference of a metric, going on after a stop."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from tiny_run import small_settings

from pe_unified.benchmarks import learn
from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.engine.knobs import apply_knobs
from pe_unified.engine.pace import of_length
from pe_unified.errors import UserError

#: The reference first.
NAMES = ("seg", "cls_seg")


@pytest.fixture
def arguments(tiny_dataset, tmp_path):
    """For the two configs, made small."""
    for name in NAMES:
        settings = "".join(
            f"{key} = {value!r}\n" for key, value in small_settings(*name.split("_")).items()
        )
        text = f'_base_ = "pe_unified::pe_{name}_r50"\n{settings}'
        (tmp_path / f"{name}.py").write_text(text)
    configs = [str(tmp_path / f"{name}.py") for name in NAMES]
    before = torch.get_num_threads()
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["learn"](parser)
    words = ["--data-root", str(tiny_dataset), "--configs", *configs, "--input-size", "32"]
    words += ["--batch-size", "2", "--points", "2", "--work-dir", str(tmp_path / "learn")]
    yield parser.parse_args(words)
    torch.set_num_threads(before)


@pytest.fixture
def trained(monkeypatch):
    """Names of the configs that were trained, of four iterations each."""
    names = []

    def fit_into(cfg, minutes):
        names.append(cfg.step)
        cfg.update(of_length(cfg, 4))
        apply_knobs(cfg)

    monkeypatch.setattr(learn, "fit_into", fit_into)
    return names


@pytest.mark.slow
def test_rows_compare_with_the_first_config_that_has_a_metric(arguments, trained):
    row, auc = learn.run(arguments)  # slices are classified by one config alone
    assert auc["unit"].startswith("Slice AUC, highest pixel")
    assert row["case"].startswith(f"{arguments.configs[1]} beside {arguments.configs[0]}")
    files = [arguments.work_dir / f"{name}_seed0/record.json" for name in NAMES]
    reference, ours = (json.loads(file.read_text())["test"]["seg/dice"] for file in files)
    assert (row["ours"], row["reference"]) == (ours, reference)
    assert (arguments.work_dir / "learning.png").stat().st_size > 10_000
    assert len(trained) == 2
    assert learn.run(arguments) == [row, auc]
    assert len(trained) == 2
    record = json.loads(files[1].read_text())
    first, last = record["curve"]  # a point for every validation, over the time trained
    assert 0 < first["seconds"] < last["seconds"] == pytest.approx(60 * record["minutes"])
    assert set(first) == {"seconds", "seg/dice", "seg/slice_auc", "cls/auc"}
    assert record["iterations"] == 4
    arguments.minutes *= 2
    with pytest.raises(UserError, match=r"seg_seed0/record\.json: made with other arguments"):
        learn.run(arguments)


def test_time_trained_leaves_validation_out(monkeypatch):
    clock = iter([0.0, 2.0, 2.0, 10.0, 13.0, 13.0])
    monkeypatch.setattr(learn.time, "perf_counter", lambda: next(clock))
    curve = learn.LearningCurve()
    curve.before_train(None)
    curve.after_train_iter(None, 0)
    curve.after_val_epoch(None, {"seg/dice": 0.5, "other": 1.0})
    curve.after_train_iter(None, 1)
    assert curve.points == [{"seconds": 2.0, "seg/dice": 0.5}]
    assert curve.seconds == 5.0


@pytest.mark.slow
def test_seeds_of_a_config_have_one_length(arguments, trained, capsys):
    """Their speeds differ by chance, and their curves have to have points in common."""
    arguments.configs, arguments.seeds = arguments.configs[:1], [0, 1]
    learn.run(arguments)
    records = [
        json.loads((arguments.work_dir / f"seg_seed{seed}/record.json").read_text())
        for seed in (0, 1)
    ]
    assert [each["iterations"] for each in records] == [4, 4] and len(trained) == 1
    assert records[0]["test"] != records[1]["test"]
    low, high = sorted(each["test"]["seg/dice"] for each in records)
    assert f"seeds {low:.3f} to {high:.3f}" in capsys.readouterr().out


def test_a_changed_config_or_set_is_not_read_from_the_record(arguments, trained):
    arguments.configs = arguments.configs[:1]
    learn.run(arguments)
    config = Path(arguments.configs[0])
    config.write_text(config.read_text() + "\nwarmup_iters = 1\n")
    with pytest.raises(UserError, match="another config or other data"):
        learn.run(arguments)
