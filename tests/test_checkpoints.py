"""Checkpoint files: what may be read, and what a kill leaves."""

import multiprocessing
import os
import re
import time

import numpy as np
import pytest
import torch
from killed_run import save_for_ever
from mmengine.logging import MessageHub
from packaging.version import parse
from torch import nn

from pe_unified.checkpoints import (
    checkpoints_of,
    is_whole,
    load_checkpoint_safely,
    newest_checkpoint,
    save_atomically,
)
from pe_unified.errors import CheckpointError

#: Whether torch tells what a checkpoint would run, and lets single methods pass.
ENTRIES_HAVE_NAMES = parse(torch.__version__) >= parse("2.6")


def _saved(tmp_path, width=3, **more):
    path = tmp_path / "s1.pth"
    torch.save({"state_dict": nn.Conv2d(3, width, 3).state_dict(), "meta": {}, **more}, path)
    return path


class _RunsCode:
    def __reduce__(self):
        return os.system, ("true",)


def test_pickled_code_is_refused_unless_trusted(tmp_path):
    path = _saved(tmp_path, extra=_RunsCode())
    named = ".*system" if ENTRIES_HAVE_NAMES else ""
    with pytest.raises(CheckpointError, match=rf"s1\.pth: refused{named}.*--trust-checkpoint"):
        load_checkpoint_safely(path)
    assert set(load_checkpoint_safely(path, trust=True)) == {"state_dict", "meta", "extra"}


@pytest.mark.skipif(not ENTRIES_HAVE_NAMES, reason="torch before 2.6 cannot be told of methods")
def test_what_mmengine_writes_is_read_without_trust(tmp_path):
    hub = MessageHub.get_instance("test_weights")
    hub.update_scalar("train/loss", 1.5)
    hub.update_info("best", np.float32(0.25))
    path = _saved(tmp_path, message_hub=hub.state_dict())
    loaded = load_checkpoint_safely(path)["message_hub"]
    assert loaded["log_scalars"]["train/loss"].mean() == 1.5
    assert loaded["runtime_info"]["best"] == np.float32(0.25)


def test_getattr_in_a_checkpoint_reaches_nothing_else(tmp_path):
    class Reaches:
        def __reduce__(self):
            return getattr, (np.ndarray, "tofile")

    path = _saved(tmp_path, extra=Reaches())
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint_safely(path)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.98])
@pytest.mark.parametrize("trust", [False, True])
def test_a_file_cut_off_is_named(tmp_path, share, trust):
    path = _saved(tmp_path, width=64)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(str(path))}: not a complete checkpoint"
    ):
        load_checkpoint_safely(path, trust)


def test_other_files_are_named(tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"notes\.pth"):
        load_checkpoint_safely(tmp_path / "notes.pth")
    for content, kind in (
        ("<!DOCTYPE html><html>404</html>", "a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid", "a pointer of git-lfs"),
    ):
        (tmp_path / "notes.pth").write_text(content)
        with pytest.raises(
            CheckpointError, match=f"not a checkpoint .{kind}.*fetch it again"
        ) as found:
            load_checkpoint_safely(tmp_path / "notes.pth")
        assert "trust" not in str(found.value)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint_safely(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint_safely(tmp_path / "absent.pth")


def test_half_written_checkpoint_is_passed_over(tmp_path):
    save_atomically({"state_dict": {"x": torch.ones(1000)}}, tmp_path / "iter_2.pth")
    whole = (tmp_path / "iter_2.pth").read_bytes()
    (tmp_path / "iter_4.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "iter_3.pth").write_bytes(b"")
    assert newest_checkpoint(tmp_path) == str(tmp_path / "iter_2.pth")
    assert not is_whole(tmp_path / "iter_4.pth")


def test_flipped_bit_is_noticed(tmp_path):
    save_atomically({"state_dict": {"x": torch.ones(1000)}}, tmp_path / "iter_2.pth")
    content = bytearray((tmp_path / "iter_2.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "iter_2.pth").write_bytes(content)
    assert newest_checkpoint(tmp_path) is None


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "iter_2.pth"
    save_atomically({"state_dict": {"x": torch.zeros(3)}}, path)
    process = multiprocessing.get_context("forkserver").Process(target=save_for_ever, args=(path,))
    process.start()
    while not any(1e6 < file.stat().st_size < 2e8 for file in tmp_path.iterdir()):
        assert process.is_alive()
        time.sleep(0.001)
    process.kill()
    process.join()
    assert is_whole(path)


def test_a_copy_of_a_checkpoint_is_left_alone(tmp_path):
    for name in ("iter_9.pth", "iter_10.pth", "iter_9_keep.pth", "iter_best.pth", "best.pth"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in checkpoints_of(tmp_path)] == ["iter_9.pth", "iter_10.pth"]
