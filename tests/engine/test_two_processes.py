"""Two processes train as one does.

To the digit only where a loss is a mean over slices and no layer looks at the whole batch: batch
norm, and Dice pooled over a batch, see the share of each process.
"""

import json
import sys

import numpy as np
import pytest
import torch
from processes import run
from tiny_run import small_settings

from pe_unified.checkpoints import load_checkpoint_safely

SCRIPT = """
import os, sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
from tiny_run import small_config
from pe_unified.engine import PERunner

torch.set_num_threads(1)
processes = int(os.environ.get("WORLD_SIZE", 1))
cfg = small_config(
    Path({repository!r}), Path({data!r}), Path({work_dir!r}) / str(processes),
    task="cls", max_iters=3, batch_size=8 // processes,
    **{{"model.cls_head.pool": "avg", "model.cls_head.dropout": 0.0}},
)
cfg.model.backbone.norm_eval = {norm_eval}
cfg.launcher = "pytorch" if processes > 1 else "none"
cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
cfg.default_hooks.logger.interval = 1
model = PERunner.from_cfg(cfg).train()
torch.save(model.state_dict(), Path(cfg.work_dir) / f"rank{{os.environ.get('RANK', 0)}}.pt")
"""

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
TORCHRUN += ["--standalone"]


def write_script(folder, repository, data, norm_eval):
    script = folder / "train.py"
    paths = [str(repository / "tests"), str(repository / "tests/engine")]
    script.write_text(
        SCRIPT.format(
            paths=paths,
            repository=str(repository),
            data=str(data),
            work_dir=str(folder),
            norm_eval=norm_eval,
        )
    )
    return script


@pytest.fixture(scope="module")
def runs(repository, tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    script = write_script(folder, repository, tiny_dataset, norm_eval=True)
    for command in ([sys.executable], TORCHRUN):
        done = run([*command, script])
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def losses(folder):
    (log,) = folder.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_same_loss(runs):
    one, two = losses(runs / "1"), losses(runs / "2")
    assert len(one) == 3
    assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.slow
def test_same_weights(runs):
    one, two = (
        load_checkpoint_safely(runs / f"{processes}/iter_3.pth")["state_dict"]
        for processes in (1, 2)
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_processes_share_batch_norm_statistics(repository, tiny_dataset, tmp_path):
    script = write_script(tmp_path, repository, tiny_dataset, norm_eval=False)
    done = run([*TORCHRUN, script])
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"2/rank{rank}.pt") for rank in (0, 1))
    moved = [name for name in first if name.endswith("running_mean") and first[name].any()]
    assert moved
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


RESUMED = """
import os, sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
from mmengine.hooks import Hook
from tiny_run import small_config
from pe_unified.engine import PERunner

torch.set_num_threads(1)
rank, work_dir = int(os.environ["RANK"]), Path({work_dir!r})


class Draws(Hook):
    '''Every process has its own generator; its state before the second iteration is kept.'''

    def before_train(self, runner):
        if runner.iter == 0:
            torch.manual_seed(rank)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 1:
            self.state = torch.get_rng_state()


states = []
for resume in (False, True):
    cfg = small_config(Path({repository!r}), Path({data!r}), work_dir, task="cls", max_iters=2)
    cfg.merge_from_dict(dict(launcher="pytorch", resume=resume))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.interval = 1
    draws = Draws()
    runner = PERunner.from_cfg(cfg)
    runner.register_hook(draws)
    runner.train()
    states.append(draws.state)
    torch.distributed.barrier()
    if rank == 0:
        (work_dir / "iter_2.pth").unlink()
    torch.distributed.barrier()
torch.save(states, work_dir / f"rank{{rank}}.pt")
"""


@pytest.mark.slow
def test_every_process_resumes_its_own_random_state(repository, tiny_dataset, tmp_path):
    script = tmp_path / "resume.py"
    script.write_text(
        RESUMED.format(
            paths=[str(repository / "tests"), str(repository / "tests/engine")],
            repository=str(repository),
            data=str(tiny_dataset),
            work_dir=str(tmp_path),
        )
    )
    done = run([*TORCHRUN, script])
    assert done.returncode == 0, done.stderr[-3000:]
    (first, first_resumed), (second, second_resumed) = (
        torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)
    )
    assert not torch.equal(first, second)
    assert torch.equal(first_resumed, first) and torch.equal(second_resumed, second)


@pytest.mark.slow
def test_recipe_and_evaluation_by_two_processes(repository, tiny_dataset, tmp_path):
    """One summary, one table on the console, metrics over the slices of both."""
    settings = {**small_settings("cls"), "max_iters": 2}
    step = dict(name="s1_cls", config=str(repository / "configs/pe_cls_r50.py"))
    (tmp_path / "recipe.py").write_text(f"settings = {settings!r}\nsteps = [{step!r}]\n")
    out = tmp_path / "run"
    train = ["tools/train_steps.py", str(tmp_path / "recipe.py"), "--work-dir", str(out)]
    train += ["--data-root", str(tiny_dataset), "--launcher", "pytorch"]
    done = run([*TORCHRUN, *train], cwd=repository)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("test patients") == 1
    (record,) = json.loads((out / "summary.json").read_text())["steps"]
    config = next((out / "s1_cls").glob("*.py"))
    test = ["tools/test.py", str(config), str(out / record["checkpoint"])]
    test += ["--work-dir", str(tmp_path / "test"), "--launcher", "pytorch"]
    done = run([*TORCHRUN, *test], cwd=repository)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("metrics written") == 1
    metrics = json.loads((tmp_path / "test/metrics.json").read_text())["metrics"]
    assert metrics["cls/auc"] == pytest.approx(record["metrics"]["cls/auc"])
    slices = json.loads((tiny_dataset / "annotations/test.json").read_text())["images"]
    with np.load(tmp_path / "test/cls.npz") as table:
        assert len(table["score"]) == len(
            [each for each in slices if each["pe_present"] is not None]
        )
