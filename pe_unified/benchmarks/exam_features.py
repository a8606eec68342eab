"""Phase two on features stored on disk: its speed, and the memory that it takes."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pe_unified.benchmarks.common import in_turn, seconds_of
from pe_unified.checkpoints import save_atomically
from pe_unified.converters.contract.schema import exam_entry
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.hu import HU_OFFSET
from pe_unified.datasets.feature_store import FeatureSource, FeatureStore, stored_name
from pe_unified.engine import PERunner, load_config
from pe_unified.progress import track

_CONFIG = "exam/shared_gru"
#: Largest memory of training and its workers together.
_MOST_GB = 1.0
#: Exams in each split that training does not use.
_FEW = 8


def features(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of speed and of memory."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        store = _generate(root, args)
        seconds = _speed(args, root, store)
        loading, private, resident = _memory(args, root, store)
    size = f"{args.exams} exams of {args.slices} x {args.width}"
    print(
        f"{size}: training and its workers hold {private:.2f} GB of their own at most, "
        f"{resident:.2f} GB with the files that they map; before, the annotations take it to "
        f"{loading:.2f} GB"
    )
    return [
        {
            "case": f"{size}, features on disk / {min(args.in_memory, args.exams)} in memory",
            "ours": seconds[0],
            "reference": seconds[1],
            "unit": "s per iteration",
        },
        {
            "case": f"{size}, memory of training and its workers / {_MOST_GB:.0f} GB",
            "ours": private,
            "reference": _MOST_GB,
            "unit": "GB",
        },
    ]


def _generate(root: Path, args: argparse.Namespace) -> FeatureStore:
    """A converted set without images, and the features of its exams."""
    (root / "annotations").mkdir()
    parts = {"train": args.exams, "part": min(args.in_memory, args.exams), "val": _FEW}
    for split, exams in {**parts, "test": _FEW}.items():
        _annotate(root / "annotations" / f"{split}.json", min(exams, args.exams), args.slices)
    source = FeatureSource({}, "", [], {"type": "SliceSteps"}, {})
    store = FeatureStore.create(root / "features", source)
    save_atomically({}, store.encoder)  # training asks it for its past
    rng = np.random.default_rng(0)
    block = rng.standard_normal((2 * args.slices, args.width)).astype(np.float16)
    for number in track(range(args.exams), "features"):
        shift = number % args.slices
        store.write(_stored(number, args.slices), block[shift : shift + args.slices])
    return store


def _study(number: int) -> str:
    return f"1.2.{number}"


def _stored(number: int, slices: int) -> str:
    """The name of an exam in the store."""
    listed = [_slice(number, index) for index in range(slices)]
    return stored_name(_study(number), [{**each, "img_path": each["file_name"]} for each in listed])


def _annotate(path: Path, exams: int, slices: int) -> None:
    """Write slice by slice: a single object would take more memory than is measured."""
    entries = []
    with path.open("w", encoding="utf-8") as file:
        info = {"description": "features alone", "hu_offset": HU_OFFSET, "split_seed": 0}
        file.write(f'{{"info": {json.dumps(info)}, "annotations": [], "categories": [], ')
        file.write('"images": [')
        for number in range(exams):
            on = {"rightsided_pe", "rv_lv_ratio_lt_1"} if number % 2 else {"negative_exam_for_pe"}
            labels = {name: int(name in on) for name in EXAM_LABELS}
            entries.append(exam_entry(_study(number), f"PAT{number:05d}", labels))
            for index in range(slices):
                file.write("," if number or index else "")
                json.dump(_slice(number, index), file)
        file.write(f'], "exams": {json.dumps(entries)}}}')


def _slice(number: int, index: int) -> dict[str, Any]:
    study = _study(number)
    return {
        "id": number * 10_000 + index,
        "file_name": f"images/PAT{number:05d}/{index:04d}.png",
        "width": 512,
        "height": 512,
        "patient_id": f"PAT{number:05d}",
        "study_uid": study,
        "series_uid": f"{study}.1",
        "sop_uid": f"{study}.1.{index}",
        "slice_index": index,
        "z_mm": 2.5 * index,
        "spacing_mm": [0.7, 0.7, 2.5],
        "pe_present": number % 2,
        "labels_known": ["slice"],
        "lung_box": [40, 80, 430, 340],
        "lung_share": 0.3,
    }


class _InMemory(FeatureStore):
    """All features of some exams, in memory."""

    def __init__(self, store: FeatureStore, names: Sequence[str]) -> None:
        super().__init__(store.folder)
        self._kept = {name: np.array(store.read(name)) for name in names}

    def read(self, name: str) -> np.ndarray:
        return self._kept[name]


def _overrides(args: argparse.Namespace, store: FeatureStore) -> dict[str, Any]:
    chosen = {
        "features": str(store.folder),
        "batch_size": args.batch_size,
        "model.in_channels": args.width,
    }
    return chosen if args.workers is None else {**chosen, "num_workers": args.workers}


def _speed(args: argparse.Namespace, root: Path, store: FeatureStore) -> tuple[float, float]:
    """Seconds per iteration with features on disk, and with all in memory."""
    cfg = load_config(_CONFIG, _overrides(args, store), str(root))
    cfg.console_level, cfg.work_dir = "WARNING", str(root / "speed")
    runner = PERunner.from_cfg(cfg)
    loaders = []
    for split in ("train", "part"):
        place = Config(cfg.train_dataloader.to_dict())
        place.dataset.ann_file = f"annotations/{split}.json"
        # Workers of one side would load batches while the other is timed.
        place.persistent_workers = False
        loaders.append(PERunner.build_dataloader(place, seed=0))
    stored, kept = loaders
    number = range(min(args.in_memory, args.exams))
    kept.dataset.store = _InMemory(store, [_stored(each, args.slices) for each in number])
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.model.train()

    def stretch(loader: DataLoader) -> float:
        batches = iter(loader)
        _train(runner, batches, args.warmup)
        seconds = seconds_of(lambda: _train(runner, batches, args.iterations))
        return seconds / args.iterations

    def from_disk() -> float:
        _forget_files(store.folder)
        return stretch(stored)

    return in_turn(from_disk, lambda: stretch(kept), args.repeats)


def _train(runner: Runner, batches: Any, iterations: int) -> None:
    for batch in islice(batches, iterations):
        runner.model.train_step(batch, runner.optim_wrapper)


def _forget_files(folder: Path) -> None:
    """Drop the files from the system's cache, as if the set were larger than memory."""
    if not hasattr(os, "posix_fadvise"):
        return
    os.sync()  # data not yet written would stay in it
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(
    args: argparse.Namespace, root: Path, store: FeatureStore
) -> tuple[float, float, float]:
    """Peak memory of pe-unified train, GB: before training, in training, and all resident then.

    The first two are its own memory: anonymous or shared among processes, each page counted
    once. Resident memory includes pages of mapped files, which the system may take back.
    """
    options = {**_overrides(args, store), "max_iters": args.warmup + args.iterations}
    options |= {"warmup_iters": 1, "default_hooks.logger.interval": 1}
    words = [f"{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "pe_unified", "train", _CONFIG, "--data-root", str(root)]
    command += ["--work-dir", str(root / "memory"), "--cfg-options", *words]
    held = []
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, cwd=root) as process:
        while process.poll() is None:
            trains = any(root.glob("memory/*/vis_data/scalars.json"))  # the first iteration's log
            held.append((*_held_by(process.pid), trains))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    first = next((at for at, (*_, trains) in enumerate(held) if trains), 0)
    own, whole, _ = zip(*held[first:], strict=True)
    return max((each[0] for each in held[:first]), default=own[0]), max(own), max(whole)


def _held_by(pid: int) -> tuple[float, float]:
    """Memory of a process and its children, GB: their own, and all that is resident."""
    own = whole = 0
    with suppress(psutil.Error, OSError):  # it may just have ended
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(OSError):
                text = Path(f"/proc/{each.pid}/smaps_rollup").read_text(encoding="utf-8")
                kib = {name: int(value) for name, value in re.findall(r"(\w+):\s+(\d+) kB", text)}
                own += kib["Pss_Anon"] + kib["Pss_Shmem"]
                whole += kib["Pss"]
    return own * 1024 / 1e9, whole * 1024 / 1e9
