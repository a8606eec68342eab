"""A record of which exams a run uses and which it leaves out, saved with its results."""

import json
from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pe_unified.evaluation.figures import flow_figure
from pe_unified.json_files import write_json
from pe_unified.registry import HOOKS

_SPLITS = ("train", "val", "test")


@HOOKS.register_module()
class ExamFlowHook(Hook):
    """Write ``exam_flow.json``, which lists all exams that are left out, and ``exam_flow.png``.

    Training writes its splits; a test adds its own to the record of a training in the same folder.
    Data sets without ``flow``, such as those of slices, are skipped.
    """

    priority = "LOW"

    def before_train(self, runner: Runner) -> None:
        loaders = {"train": runner.train_dataloader}
        if runner.val_loop is not None:
            loaders["val"] = runner.val_dataloader
        _write(Path(runner.work_dir), loaders)

    def before_test(self, runner: Runner) -> None:
        """The file's name gives the split, since thresholds are chosen by a test on validation."""
        loader = runner.test_dataloader
        called = Path(getattr(loader.dataset, "ann_file", "")).stem
        _write(Path(runner.work_dir), {called if called in _SPLITS else "test": loader})


@master_only
def _write(work_dir: Path, loaders: Mapping[str, DataLoader]) -> None:
    own = {name: getattr(loader.dataset, "flow", None) for name, loader in loaders.items()}
    found = {name: flow for name, flow in own.items() if flow}
    if not found:
        return
    path = work_dir / "exam_flow.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {**before, **found}
    flows = {name: known[name] for name in _SPLITS if name in known}
    write_json(path, flows)
    flow_figure(flows, path.with_suffix(".png"))
