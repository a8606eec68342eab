"""Data loaders that cannot hand over a batch end with one line, and do not hang."""

import gc
import time
from collections import namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pe_unified.engine import loaders
from pe_unified.engine.loaders import LoaderError, loaders_tell, watch_loader


class Stuck(Dataset):
    """Its process comes back long after it is waited for."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        time.sleep(1.3)


class Full(Dataset):
    """What a batch says when it is handed over and the shared memory is full."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return NoRoom()


class NoRoom:
    def __reduce__(self):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")


def first_batch(dataset, **options):
    loader = DataLoader(dataset, collate_fn=list, num_workers=1, **options)
    watch_loader(loader)
    with loaders_tell():
        return next(iter(loader))


def told_by(dataset, **options):
    """The error's message; its loader is put away before anything else begins."""
    try:
        first_batch(dataset, **options)
    except LoaderError as error:
        told = str(error)
    gc.collect()
    return told


def test_a_stall_is_told_with_the_cure(monkeypatch):
    usage = namedtuple("usage", "total used free")(64e6, 60e6, 4e6)
    monkeypatch.setattr(loaders.shutil, "disk_usage", lambda _: usage)
    told = told_by(Stuck(), timeout=1)
    assert (
        "no batch for 1 s" in told
        and "0.00 of 0.06 GB are free" in told
        and "--shm-size 8g" in told
    )
    assert "num_workers=0" in told and "\n" not in told


def test_no_room_to_hand_over_a_batch_is_told_at_once(capfd):
    assert "before it had delivered its batch" in told_by(Full())
    said = capfd.readouterr().err
    assert "a batch cannot be delivered: unable to allocate shared memory" in said
    assert "Traceback" not in said


def test_a_low_limit_of_open_files_is_told(monkeypatch):
    """Each batch in shared memory is an open file."""
    for limit, told in ((128, True), (1024, False)):
        monkeypatch.setattr(loaders.resource, "getrlimit", lambda _, limit=limit: (limit, 4096))
        assert (f"of which {limit} are allowed: ulimit -n 4096" in told_by(Full())) == told


def test_the_wait_is_limited_unless_the_config_says_otherwise():
    for given, kept in ((0, loaders.PATIENCE), (7, 7)):
        loader = DataLoader([1], num_workers=1, timeout=given)
        watch_loader(loader)
        assert loader.timeout == kept
    alone = DataLoader([1], timeout=7)
    watch_loader(alone)
    assert not alone.timeout and [int(each) for each in alone] == [1]


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes differ") as error, loaders_tell():
        raise RuntimeError("shapes differ")
    assert not isinstance(error.value, LoaderError)
    assert torch.equal(first_batch([torch.ones(2)])[0], torch.ones(2))
