import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from matplotlib.figure import Figure
from tiny_run import small_recipe, small_settings

from pe_unified.engine import ConfigError, load_config
from pe_unified.engine.publish import publish
from pe_unified.evaluation.slices import SliceTable
from pe_unified.recipes import run_recipe

pytestmark = pytest.mark.usefixtures("unrendered")

NOTE = "Synthetic data"
#: Enough where only two runs are compared.
FEW = {"max_iters": 4, "default_hooks.checkpoint.interval": 2}


@dataclass(frozen=True)
class Run:
    """A recipe that was run to its end."""

    work_dir: Path
    data: Path
    summary: dict


@pytest.fixture(scope="module")
def recipe(repository, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.py"
    path.write_text(small_recipe(repository / "configs"))
    return path


@pytest.fixture(scope="module")
def finished(recipe, tiny_dataset, tmp_path_factory, unrendered):
    """Both steps with one seed, on a copy of the data, with figures that are rendered."""
    folder = tmp_path_factory.mktemp("finished")
    data, work_dir = folder / "data", folder / "run"
    shutil.copytree(tiny_dataset, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", unrendered)
        summary = run_recipe(recipe, work_dir, str(data), report=quiet, note=NOTE)
    return Run(work_dir, data, summary)


@pytest.fixture(scope="module")
def two_seeds(recipe, tiny_dataset, tmp_path_factory):
    """The same with two seeds, one step after another."""
    work_dir = tmp_path_factory.mktemp("seeds") / "run"
    summary = run_recipe(recipe, work_dir, str(tiny_dataset), FEW, report=quiet, seeds=(0, 1))
    return Run(work_dir, tiny_dataset, summary)


@pytest.fixture(scope="module")
def side_by_side(two_seeds, recipe, tmp_path_factory):
    """The same, two steps at a time; and the lines that were told."""
    work_dir = tmp_path_factory.mktemp("beside") / "run"
    lines = []
    settings = dict(seeds=(0, 1), jobs=2, report=lines.append)
    summary = run_recipe(recipe, work_dir, str(two_seeds.data), FEW, **settings)
    return Run(work_dir, two_seeds.data, summary), lines


def quiet(line):
    pass


def test_two_steps_leave_a_summary(finished, tmp_path):
    work_dir, summary = finished.work_dir, finished.summary
    assert json.loads((work_dir / "summary.json").read_text())["steps"] == summary["steps"]
    scratch, reused = summary["steps"]
    assert scratch["name"] == "s1_cls" and scratch["reused"] == []
    assert scratch["iterations"] == 12 and scratch["seconds"] > 0
    assert (work_dir / scratch["checkpoint"]).is_file()
    modules = {each["module"]: each for each in reused["reused"]}
    assert set(modules) == {"backbone", "cls_head"}
    for each in modules.values():
        assert each["from"] == "s1_cls" and each["tensors"] == each["total"] > 0
    low, high = reused["metrics"]["cls/auc_ci"]
    assert low <= reused["metrics"]["cls/auc"] <= high
    (comparison,) = summary["comparisons"]
    expected = reused["metrics"]["cls/auc"] - scratch["metrics"]["cls/auc"]
    assert comparison["difference"] == pytest.approx(expected) and expected
    assert comparison["by_seed"] == [pytest.approx(expected)]
    for name in ("summary.md", "roc.png", "auc_by_step.png", "overlays.png"):
        assert (work_dir / name).stat().st_size > 0
    written = (work_dir / "summary.md").read_text()
    assert NOTE in written
    assert "| step | reused | slice AUC | parameters | iterations |" in written
    # The folder of a step holds its config as it was trained, fit for tools/publish.py.
    cfg = load_config(work_dir / "s4_cls_reused/pe_cls_r50.py", {}, str(finished.data))
    cfg.work_dir = str(tmp_path / "publish")
    assert (
        publish(cfg, work_dir / reused["checkpoint"], tmp_path / "model.pth").validated["cls/gate"]
        <= 1
    )


def test_a_control_trains_as_long_as_the_whole_chain(recipe, tiny_dataset, tmp_path):
    """In half the batch, with the recipe's length overridden."""
    text = recipe.read_text().replace(
        "]\ncomparisons = [",
        "    dict(name='s1_long', like='s1_cls', as_long_as='s4_cls_reused',\n"
        "        settings=dict(batch_size=2)),\n"
        "]\ncomparisons = [('cls/auc', 's1_long', 's4_cls_reused'), ",
    )
    (tmp_path / "recipe.py").write_text(text)
    work_dir = tmp_path / "run"
    told = {"max_iters": 4}
    summary = run_recipe(tmp_path / "recipe.py", work_dir, str(tiny_dataset), told, report=quiet)
    lengths = [(step["iterations"], step["total_iterations"]) for step in summary["steps"]]
    assert lengths == [(4, 4), (4, 8), (16, 16)]
    trained = [
        load_config(path, {}, str(tiny_dataset))
        for path in sorted(work_dir.glob("*/pe_cls_r50.py"))
    ]
    assert [cfg.param_scheduler[0].end for cfg in trained] == [2, 8, 2]
    assert len({cfg.train_dataloader.sampler.seed for cfg in trained}) == 3
    control, plain = summary["comparisons"]
    assert (control["equal"], plain["equal"]) == ("total", "step")
    assert control["total_iterations"] == [16, 8]
    written = (work_dir / "summary.md").read_text()
    assert "| 16 / 4 | **16 / 8** |" in written and "| **4 / 4** | 4 / 8 |" in written
    again = []
    run_recipe(tmp_path / "recipe.py", work_dir, str(tiny_dataset), told, report=again.append)
    assert len(again) == 3 and all("finished before" in line for line in again)


def test_few_patients_are_warned_of(finished):
    (warning,) = finished.summary["warnings"]
    assert warning.startswith("cls: 3 patients: intervals over fewer than 10")
    assert warning in (finished.work_dir / "summary.md").read_text()
    kept = json.loads((finished.work_dir / "s1_cls/metrics.json").read_text())
    assert kept["warnings"] == [warning]


def test_only_test_patients_are_measured(finished):
    table = SliceTable.load(finished.work_dir / "s1_cls/cls.npz")
    split = json.loads((finished.data / "annotations/test.json").read_text())
    assert set(table.patients) == {image["patient_id"] for image in split["images"]}


@pytest.mark.slow
def test_steps_side_by_side_find_the_same(two_seeds, side_by_side):
    found, lines = side_by_side
    assert len([line for line in lines if "iterations" in line]) == 4
    for alone, beside in zip(two_seeds.summary["steps"], found.summary["steps"]):
        assert beside["reused"] == alone["reused"]
        # Another number of threads adds up in another order.
        assert beside["metrics"]["cls/auc"] == pytest.approx(alone["metrics"]["cls/auc"], abs=0.05)


def test_several_seeds_are_kept_apart_and_averaged(two_seeds):
    work_dir, summary = two_seeds.work_dir, two_seeds.summary
    singles = [
        json.loads((work_dir / f"seed{seed}/summary.json").read_text())["steps"][0]
        for seed in (0, 1)
    ]
    first, second = (single["metrics"] for single in singles)
    # The AUC of so few slices may be the same.
    apart = [key for key in first if isinstance(first[key], float) and first[key] != second[key]]
    assert apart
    for key in ("cls/auc", *apart):
        values = [first[key], second[key]]
        assert summary["steps"][0]["metrics"][key] == pytest.approx(sum(values) / 2)
        assert summary["steps"][0]["seeds"][key] == values
    low, high = summary["steps"][0]["metrics"]["cls/auc_ci"]
    assert low <= summary["steps"][0]["metrics"]["cls/auc"] <= high
    for checkpoint in summary["steps"][0]["checkpoints"]:
        assert (work_dir / checkpoint).is_file()
    by_seed = summary["comparisons"][0]["by_seed"]
    assert len(by_seed) == 2 and (work_dir / "seeds.png").is_file()
    written = (work_dir / "summary.md").read_text()
    assert written.endswith(" | " + " / ".join(f"{each:+.3f}" for each in by_seed) + " |\n")
    assert "over these, not over seeds" in written


def test_nothing_has_to_be_compared(two_seeds, recipe, tmp_path):
    """Also over finished steps: what is compared does not bear on what is trained."""
    alone = tmp_path / "recipe.py"
    alone.write_text(recipe.read_text().replace("comparisons", "left_out"))
    work_dir = tmp_path / "run"
    shutil.copytree(two_seeds.work_dir, work_dir, ignore=shutil.ignore_patterns("*.png"))
    summary = run_recipe(alone, work_dir, str(two_seeds.data), FEW, report=quiet, seeds=(0, 1))
    assert summary["comparisons"] == []
    assert summary["steps"] == two_seeds.summary["steps"]
    assert (work_dir / "auc_by_step.png").is_file()
    assert not (work_dir / "seeds.png").exists()


@pytest.mark.slow
def test_killed_recipe_goes_on_and_finished_steps_stay(finished, recipe, tmp_path):
    broken = tmp_path / "broken"
    script = f"""
import os, signal
from pe_unified.engine import hooks
from pe_unified.recipes import run_recipe
save = hooks.WholeCheckpointHook._save
def save_and_die(self, runner, finished):
    save(self, runner, finished)
    if runner.cfg.step == "s4_cls_reused":
        os.kill(os.getpid(), signal.SIGKILL)
hooks.WholeCheckpointHook._save = save_and_die
from pathlib import Path
run_recipe({str(recipe)!r}, Path({str(broken)!r}), {str(finished.data)!r})
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert (broken / "s4_cls_reused/iter_4.pth").is_file()
    first = (broken / "s1_cls/iter_12.pth").stat().st_mtime_ns
    lines = []
    resumed = run_recipe(recipe, broken, str(finished.data), report=lines.append)
    assert "finished before" in lines[0]
    assert (broken / "s1_cls/iter_12.pth").stat().st_mtime_ns == first
    for one, other in zip(resumed["steps"], finished.summary["steps"]):
        assert one["metrics"] == other["metrics"]


@pytest.mark.slow
def test_steps_side_by_side_go_on_after_a_kill(side_by_side, recipe, tmp_path):
    """The whole family dies with its parent, and the second call ends with the same metrics."""
    whole, broken = side_by_side[0], tmp_path / "broken"
    script = (
        "from pathlib import Path\n"
        "from pe_unified.recipes import run_recipe\n"
        f"run_recipe({str(recipe)!r}, Path({str(broken)!r}), {str(whole.data)!r}, {FEW!r}, jobs=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    while not list((broken / "s4_cls_reused").glob("iter_*.pth")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    psutil.wait_procs(family)
    assert not (broken / "s4_cls_reused/metrics.json").exists()
    resumed = run_recipe(recipe, broken, str(whole.data), FEW, jobs=2, report=quiet)
    expected = json.loads((whole.work_dir / "seed0/summary.json").read_text())
    for one, other in zip(resumed["steps"], expected["steps"]):
        assert one["metrics"] == other["metrics"]


def test_other_workers_go_on_with_an_old_run(finished, recipe):
    lines = []
    work_dir, data = finished.work_dir, str(finished.data)
    told = {"num_workers": 1, "log_level": "WARNING"}
    run_recipe(recipe, work_dir, f"{data}/", told, report=lines.append, note=NOTE)
    assert len([line for line in lines if "finished before" in line]) == 2


def test_other_annotations_are_another_run(finished, recipe):
    file = finished.data / "annotations/train.json"
    text = file.read_text()
    file.write_text(text + " ")
    try:
        with pytest.raises(ConfigError, match=r"other settings \(a config, the annotations"):
            run_recipe(recipe, finished.work_dir, str(finished.data), report=quiet)
    finally:
        file.write_text(text)


def test_another_earlier_step_is_another_run(finished, recipe, tmp_path):
    """The step itself is as it was; what it starts from is trained otherwise."""
    shutil.copytree(finished.work_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/s1_cls")
    changed = recipe.read_text() + "\nstep_settings = dict(s1_cls=dict(lr=5e-4))\n"
    (tmp_path / "recipe.py").write_text(changed)
    with pytest.raises(ConfigError, match=r"s4_cls_reused was started with .* or an earlier step"):
        run_recipe(tmp_path / "recipe.py", tmp_path / "run", str(finished.data), report=quiet)


def test_other_settings_do_not_mix_with_an_old_run(finished, recipe):
    work_dir, data = finished.work_dir, str(finished.data)
    with pytest.raises(
        ConfigError, match=r"started with other settings \(lr was 0\.001, is 0\.0005\)"
    ):
        run_recipe(recipe, work_dir, data, {"lr": 5e-4, "num_workers": 1}, report=quiet)


def one_step(repository, folder, **more):
    """A recipe of classification alone, written into a folder."""
    settings = {**small_settings("cls"), "max_iters": 2, **more}
    step = dict(name="s1_cls", config=str(repository / "configs/pe_cls_r50.py"))
    (folder / "recipe.py").write_text(f"settings = {settings!r}\nsteps = [{step!r}]\n")
    return folder / "recipe.py"


def test_the_weights_that_a_config_names_are_taken(finished, repository, tmp_path):
    """A step that takes none of the recipe's: its config's own reuse is kept."""
    source = finished.work_dir / finished.summary["steps"][0]["checkpoint"]
    alone = one_step(repository, tmp_path, reuse=dict(backbone=str(source)))
    summary = run_recipe(alone, tmp_path / "run", str(finished.data), report=quiet)
    (taken,) = summary["steps"][0]["reused"]
    assert taken["module"] == "backbone" and taken["tensors"] == taken["total"] > 0


@pytest.mark.parametrize("seeds", [(0,), pytest.param((0, 1), marks=pytest.mark.slow)])
def test_what_the_test_patients_cannot_tell_is_said(recipe, tiny_dataset, tmp_path, seeds):
    """All else stands in the summary: nothing is lost that was trained."""
    data = tmp_path / "data"
    shutil.copytree(tiny_dataset, data)
    path = data / "annotations/test.json"
    coco = json.loads(path.read_text())
    patient = coco["images"][0]["patient_id"]
    coco["images"] = [i for i in coco["images"] if i["patient_id"] == patient]
    path.write_text(json.dumps(coco))
    summary = run_recipe(
        recipe, tmp_path / "run", str(data), {"max_iters": 2}, report=quiet, seeds=seeds
    )
    assert len(summary["steps"]) == 2
    (comparison,) = summary["comparisons"]
    assert comparison["difference"] is None and "two patients or more" in comparison["reason"]
    written = (tmp_path / "run/summary.md").read_text()
    assert "undefined: a paired comparison needs two patients" in written and "nan" not in written


def test_weights_of_another_make_are_not_adopted(finished, recipe, tmp_path):
    """As tools/train.py leaves them, which says nothing of a recipe's settings."""
    work_dir = tmp_path / "run"
    shutil.copytree(finished.work_dir, work_dir)
    (work_dir / "s1_cls/fingerprint.txt").unlink()
    (work_dir / "s1_cls/metrics.json").write_text('{"metrics": {}, "thresholds": {}}')
    with pytest.raises(ConfigError, match="s1_cls was started with other settings"):
        run_recipe(recipe, work_dir, str(finished.data), report=quiet)


def test_a_first_try_without_weights_claims_nothing(repository, tiny_dataset, tmp_path):
    alone, work_dir = one_step(repository, tmp_path), tmp_path / "run"
    with pytest.raises(ValueError, match="frozen_stages"):
        run_recipe(alone, work_dir, str(tiny_dataset), {"frozen_stages": 7}, report=quiet)
    assert (work_dir / "s1_cls/fingerprint.txt").is_file()
    run_recipe(alone, work_dir, str(tiny_dataset), report=quiet)
