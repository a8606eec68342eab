"""Decisions: kept at once and for good, undone, in conflict, by processes that are killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import started
from review_reports import MODEL, SHAPE, decision, write_report

from pe_unified.errors import DataError, UserError
from pe_unified.review.decisions import in_force, standing
from pe_unified.review.reports import find_reports
from pe_unified.review.store import ConflictError, Decision, DecisionError, ReviewStore

#: Waits for a line, then adds decisions, and tells the number of each once it is kept.
WRITER = f"""
import sys
from pe_unified.review.store import Decision, ReviewStore
root, reader, limit = sys.argv[1:]
store = ReviewStore(root)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(limit)):
    said = Decision("1.2.3", reader, "comment", 1, {{"text": "x" * 500}}, "{MODEL}")
    print(store.add(said).number, flush=True)
"""


@pytest.fixture
def root(tmp_path) -> Path:
    write_report(tmp_path / "one")
    write_report(tmp_path / "two", study="4.5")
    write_report(tmp_path / "place" / "three", study=None)
    return tmp_path


@pytest.fixture
def store(root) -> ReviewStore:
    return ReviewStore(root)


def writer(root: Path, reader: str, limit: int = 10**6):
    words = [sys.executable, "-c", WRITER, root, reader, limit]
    return started(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(*writers) -> None:
    """Once all of them are ready."""
    assert [each.stdout.readline() for each in writers] == ["ready\n"] * len(writers)
    for each in writers:
        each.stdin.write("\n")
        each.stdin.flush()


def test_a_decision_is_kept_as_it_was_made(store, root):
    before = datetime.now().astimezone()
    kept = store.add(decision("relabel", 2, {"label": "chronic"}))
    assert kept.number == 1 and (kept.kind, kept.value) == ("relabel", {"label": "chronic"})
    made = datetime.fromisoformat(kept.made)
    assert made.utcoffset().total_seconds() == 0
    assert abs((made - before).total_seconds()) < 60
    assert ReviewStore(root).history("1.2.3") == [kept]
    assert ReviewStore(root).history("4.5") == []


def test_what_is_undone_stays_in_the_history(store):
    first = store.add(decision("accept", 1))
    second = store.add(decision("reject", 1))
    assert [each.kind for each in store.current("1.2.3")] == ["reject"]
    undo = store.add(decision("undo", None, {"of": second.number}))
    assert undo.lesion == 1
    assert store.current("1.2.3") == [first]
    store.add(decision("undo", None, {"of": undo.number}))
    assert [each.kind for each in store.current("1.2.3")] == ["reject"]
    assert len(store.history("1.2.3")) == 4


def test_nobody_undoes_what_another_decided(store):
    kept = store.add(decision("accept", 1))
    with pytest.raises(DecisionError, match="not a decision of Bo"):
        store.add(decision("undo", None, {"of": kept.number}, reader="Bo"))
    with pytest.raises(DecisionError, match="7 is not a decision"):
        store.add(decision("undo", None, {"of": 7}))


def test_a_reader_who_has_not_seen_it_overwrites_nothing(store):
    seen = store.add(decision("accept", 1)).number
    store.add(decision("reject", 1, reader="Bo"), seen=seen)
    for kind, value in (("accept", {}), ("relabel", {"label": "acute"})):
        with pytest.raises(ConflictError, match="Bo has decided on lesion 1"):
            store.add(decision(kind, 1, value), seen=seen)
    assert isinstance(ConflictError(""), UserError)
    # Another lesion, a comment, and who has seen it, are no conflict.
    store.add(decision("accept", 2), seen=seen)
    store.add(decision("comment", 1, {"text": "why?"}), seen=seen)
    newest = store.history("1.2.3")[-1].number
    assert store.add(decision("accept", 1), seen=newest).number == newest + 1
    assert [each.kind for each in store.current("1.2.3", "Bo")] == ["reject"]
    assert [e.kind for e in store.current("1.2.3") if e.lesion == 1] == ["comment", "accept"]


def test_a_reader_may_not_know_of_others(store):
    store.add(decision("accept", 1))
    assert store.add(decision("reject", 1, reader="Bo"), seen=None).number == 2
    with pytest.raises(ConflictError):
        store.add(decision("reject", 1, reader="Cy"), seen=0)


def test_what_is_undone_is_no_conflict(store):
    kept = store.add(decision("accept", 1))
    store.add(decision("undo", 1, {"of": kept.number}))
    store.add(decision("reject", 1, reader="Bo"), seen=0)


def test_states(store):
    assert store.states() == {"1.2.3": "unread", "4.5": "unread", "place/three": "unread"}
    store.add(decision("comment", None, {"text": "odd"}))
    assert store.states()["1.2.3"] == "unread"
    accepted = store.add(decision("accept", 1))
    assert store.states()["1.2.3"] == "in work"
    store.add(decision("done"))
    store.add(decision("accept", 1, study="place/three"))
    assert store.states() == {"1.2.3": "done", "4.5": "unread", "place/three": "in work"}
    store.add(decision("accept", 1, reader="Bo"))
    assert store.states()["1.2.3"] == "in work"
    assert store.states("Ann")["1.2.3"] == "done" and store.states("Bo")["4.5"] == "unread"
    store.add(decision("undo", 1, {"of": accepted.number}))
    assert store.state("1.2.3", "Ann") == "done"
    store.add(decision("reject", 2))
    assert store.state("1.2.3", "Ann") == "in work"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (decision("approve", 1), "unknown decision 'approve'"),
        (decision("accept", 4), "no lesion 4"),
        (decision("accept", 0), "no lesion 0"),
        (decision("accept", 1, reader=" "), "without a reader"),
        (decision("accept", 1, study="9"), "there is no report of it"),
        (decision("redraw", None, {"box": [0, 0, 1, 1], "slice": 0}), "redraw which lesion"),
        (decision("redraw", 1), "neither a mask nor a box"),
        (decision("redraw", 1, {"mask": "../../secret.npz"}), "no redrawn mask"),
        (decision("redraw", 1, {"mask": "0" * 16 + ".npz"}), "no redrawn mask"),
        (decision("add", None, {"box": [5, 5, 6, 2], "slice": 0}), "outside"),
        (decision("add", None, {"box": [5, 5, 2, float("nan")], "slice": 0}), "outside"),
        (decision("add", None, {"box": [5, 5, 2, 2], "slice": 4}), "outside"),
        (decision("add", 1, {"box": [5, 5, 2, 2], "slice": 1}), "applies to the study"),
        (decision("relabel", 1, {"label": "positive"}), "unknown label 'positive'"),
        (decision("relabel", None, {"label": "chronic"}), "unknown label 'chronic'"),
        (decision("comment", 1), "without text"),
        (decision("undo"), "undo which"),
    ],
)
def test_what_does_not_fit_is_refused(store, wrong, words):
    with pytest.raises(DecisionError, match=words):
        store.add(wrong)
    assert store.history("1.2.3") == []


def test_decisions_on_the_report_of_another_model_do_not_stand(store, root):
    store.add(decision("accept", 1))
    store.add(decision("done"))
    write_report(root / "one", model="cd" * 32)
    assert store.current("1.2.3") == [] and store.states()["1.2.3"] == "unread"
    assert len(store.history("1.2.3")) == 2
    with pytest.raises(ConflictError, match="made anew by another model"):
        store.add(decision("accept", 1))


def test_masks_come_back_whole(store, root):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 3:5, 2:9] = 7
    name = store.save_mask("1.2.3", "Ann", mask, {1: "1.2.3.1"})
    assert store.load_mask("1.2.3", name).dtype == bool
    np.testing.assert_array_equal(store.load_mask("1.2.3", name), mask > 0)
    kept = store.add(decision("redraw", 1, {"mask": name}))
    assert kept.value == {"mask": name}
    assert [path.name for path in (root / "one" / "redrawn").iterdir()] == [name]
    with pytest.raises(DecisionError, match="the study has"):
        store.save_mask("1.2.3", "Ann", mask[:3], {})
    with pytest.raises(DecisionError, match="empty"):
        store.save_mask("1.2.3", "Ann", mask * 0, {})
    with pytest.raises(ConflictError, match="other slices"):
        store.save_mask("1.2.3", "Ann", mask, {1: "1.2.3.2"})
    (root / "one" / "redrawn" / name).write_bytes(b"PK damaged")
    with pytest.raises(DataError, match="no readable mask"):
        store.load_mask("1.2.3", name)


def test_the_history_cannot_be_rewritten(store, root):
    store.add(decision("accept", 1))
    with sqlite3.connect(root / "reviews.sqlite") as connection:
        for sql in ("DELETE FROM decisions", "UPDATE decisions SET kind = 'reject'"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(sql)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store._open() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_what_cannot_be_opened_is_named(root, tmp_path):
    (root / "reviews.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"reviews.sqlite.*cannot be kept"):
        ReviewStore(root)
    with pytest.raises(DataError, match="no such folder"):
        ReviewStore(tmp_path / "nowhere")


def test_reports_that_cannot_be_used_are_left_out_and_told(root):
    every = set(ReviewStore(root).states())
    for spoil, said in (
        (lambda: (root / "one" / "report.json").write_text("{"), "no readable report"),
        (lambda: write_report(root / "one", study="4.5"), "same study"),
        (
            lambda: (root / "one" / "report.json").write_text('{"schema": "pe_unified.report"}'),
            "lacks values that",
        ),
    ):
        spoil()
        left, faults = find_reports(root)
        assert len(faults) == 1 and said in faults[0].reason
        assert set(ReviewStore(root).states()) == set(left) < every


def test_a_newer_store_is_left_alone(store, root):
    with sqlite3.connect(root / "reviews.sqlite") as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(DataError, match="newer version"):
        ReviewStore(root)


def test_what_a_killed_process_has_told_is_kept(root):
    told = []
    for reader in ("Ann", "Bo", "Cy"):
        with writer(root, reader) as process:
            let_go(process)
            told += [(int(process.stdout.readline()), reader) for _ in range(20)]
            os.kill(process.pid, signal.SIGKILL)
            # Whatever it had told before it died, in the middle of the next one.
            told += [(int(line), reader) for line in process.stdout if line.endswith("\n")]
            process.wait()
    kept = [(each.number, each.reader) for each in ReviewStore(root).history("1.2.3")]
    assert set(told) <= set(kept)
    assert len(kept) <= len(told) + 3  # one each that was kept and not told
    assert [number for number, _ in kept] == list(range(1, len(kept) + 1))
    with sqlite3.connect(root / "reviews.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_write_side_by_side(root):
    with writer(root, "Ann", 60) as one, writer(root, "Bo", 60) as other:
        let_go(one, other)
        numbers = [int(line) for process in (one, other) for line in process.stdout]
        assert one.wait() == other.wait() == 0
    assert sorted(numbers) == list(range(1, 121))
    history = ReviewStore(root).history("1.2.3")
    assert [each.number for each in history] == sorted(numbers)
    assert Counter(each.reader for each in history) == {"Ann": 60, "Bo": 60}


def test_of_many_who_decide_at_once_one_is_first(store):
    def decide(reader: str) -> bool:
        try:
            store.add(decision("accept", 1, reader=reader), seen=0)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(decide, [f"reader {k}" for k in range(8)]))
    assert sum(won) == 1 and len(store.history("1.2.3")) == 1


def test_a_mask_of_a_killed_process_is_whole_or_absent(root):
    code = f"""
import sys, numpy as np
from pe_unified.review.store import ReviewStore
store = ReviewStore(sys.argv[1])
print("ready", flush=True)
rng = np.random.default_rng(0)
while True:
    store.save_mask("1.2.3", "Ann", rng.integers(0, 2, {SHAPE}, dtype=np.uint8), {{}})
"""
    with started([sys.executable, "-c", code, root], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    store = ReviewStore(root)
    names = [path.name for path in (root / "one" / "redrawn").glob("[!.]*")]
    assert names
    for name in names:
        assert store.load_mask("1.2.3", name).shape == SHAPE


@given(st.lists(st.tuples(st.sampled_from(["accept", "reject", "undo"]), st.integers(1, 12))))
def test_undoing_is_what_replaying_without_it_gives(steps):
    """In force is what is left if every undo takes back its decision at the time it is made."""
    history = []
    for number, (kind, of) in enumerate(steps, start=1):
        if kind == "undo" and not 1 <= of < number:
            continue
        value = {"of": of} if kind == "undo" else {}
        history.append(Decision("s", "r", kind, 1, value, "m", "", number))

    def is_alive(number: int) -> bool:
        undoing = [each for each in history if each.value.get("of") == number]
        return not any(is_alive(each.number) for each in undoing)

    alive = [each for each in history if each.kind != "undo" and is_alive(each.number)]
    assert in_force(history) == alive
    assert standing(history) == alive[-1:]
