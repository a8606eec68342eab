import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from studies import study_of

from pe_unified.inference.reading import SliceReader, ahead


def test_slices_are_read_once_while_there_is_room():
    read = []
    hu = np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8)
    study = study_of(hu)
    object.__setattr__(study, "read", lambda index: read.append(index) or hu[index])
    reader = SliceReader(study, cache_bytes=0)  # room for 8 all the same
    for _ in range(2):
        for index in range(8):
            np.testing.assert_array_equal(reader.hu(index), hu[index])
    assert read == list(range(8))
    reader.hu(9)
    reader.hu(0)
    assert read == [*range(8), 9, 0]


def test_neighbours_repeat_at_the_ends():
    hu = np.arange(4, dtype=np.int16)[:, None, None] * np.ones((1, 2, 2), np.int16)
    reader = SliceReader(study_of(hu))
    assert reader.stack(0, 1)[0, 0].tolist() == [0, 0, 1]
    assert reader.stack(3, 2)[0, 0].tolist() == [1, 2, 3, 3, 3]


def test_ahead_keeps_order_and_stays_ahead_by_its_depth_only():
    made = []

    def make(item):
        made.append(item)
        return item * item

    results = []
    for result in ahead(make, range(10), depth=2):
        results.append(result)
        time.sleep(0.005)
        assert len(made) <= len(results) + 2
    assert results == [k * k for k in range(10)]


def test_ahead_raises_where_the_result_would_have_come():
    def make(item):
        if item == 2:
            raise ValueError("third")
        return item

    seen = []
    with pytest.raises(ValueError, match="third"):
        for result in ahead(make, range(5)):
            seen.append(result)
    assert seen == [0, 1]
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_threads_get_the_slices_they_ask_for():
    hu = np.arange(60, dtype=np.int16)[:, None, None] * np.ones((1, 4, 4), np.int16)
    reader = SliceReader(study_of(hu), cache_bytes=0)
    order = np.random.default_rng(0).integers(0, 60, (4, 500))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda own: [int(reader.hu(int(k))[3, 3]) for k in own], order))
    np.testing.assert_array_equal(found, order)
    # What was handed out is the caller's own.
    reader.hu(5)[:] = -1
    assert (reader.hu(5) == 5).all()
