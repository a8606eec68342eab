"""The queue: a study is done once, whatever comes in between."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.archive.backoff import Backoff
from pe_unified.archive.overview import (
    counts,
    finished_before,
    oldest_waiting,
    recent,
    waiting_results,
)
from pe_unified.archive.store import Result, Store

ALL = {"archive": ("seg", "sr")}


class Clock:
    now = 1000.0

    def __call__(self):
        self.now += 0.001  # no two moments are one
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    made = Store(tmp_path / "q.sqlite", Backoff(10.0, 100.0, give_up_h=1.0), clock)
    yield made
    made.close()


def add(store, study="1.2", images=("a",), series="s", **options):
    return store.add_images(study, f"k{study}", series, images, {}, "SCANNER", **options)


def queue(store, study="1.2", images=("a",), priority=0):
    add(store, study, images)
    assert store.decide(study, ["s"], "r", priority) == "queued"


def results(number=1):
    made = [Result("seg", Path("seg"), f"{number}.1"), Result("sr", Path("sr"), f"{number}.2")]
    return [*made, Result("key_images", Path("key"), f"{number}.3")]


def test_the_way_of_a_study(store, clock):
    assert add(store) and not add(store)
    assert store.quiet(60) == []
    clock.now += 61
    assert [row["uid"] for row in store.quiet(60)] == ["1.2"]
    assert store.decide("1.2", ["s"], "CTPA", 3) == "queued"
    study = store.take()
    assert (study["key"], study["rule"], study["priority"]) == ("k1.2", "CTPA", 3)
    assert store.take() is None
    assert store.analysed(study, results(), ALL, "positive", 1.0) == "sending"
    waiting = store.due("archive")
    assert [row["kind"] for row in waiting] == ["seg", "sr"]
    (shown,) = recent(store)
    assert (shown["images"], shown["sent"], shown["results"]) == (1, 0, 2)
    store.sent(waiting[:1])
    assert store.state_of("1.2") == "sending"
    store.sent(waiting[1:])
    assert store.state_of("1.2") == "done" and store.due("archive") == []


def test_a_second_delivery_is_not_done_again_and_new_images_are(store):
    queue(store)
    store.analysed(store.take(), results(), ALL, "negative", 1.0)
    store.sent(store.due("archive"))
    assert not add(store, again=True) and store.state_of("1.2") == "done"
    add(store, images=("scout",), series="other")  # which no rule wants
    assert store.state_of("1.2") == "arriving"
    assert store.decide("1.2", ["s"], "r", 0) == "done"
    add(store, images=("b",))
    assert store.decide("1.2", ["s"], "r", 0) == "queued"
    store.analysed(store.take(), results(2), ALL, "negative", 1.0)
    assert [row["sop_uid"] for row in store.due("archive")] == ["2.1", "2.2"]


def test_frames_count_as_images(store):
    """One image of Enhanced CT holds many slices."""
    store.add_images("1.2", "k", "s", ["a", "b"], {"frames": 60}, "SCANNER")
    (series,) = store.series_of("1.2")
    assert series.facts["images"] == 120


def test_waiting_before_the_first_failure_is_no_failure(store, clock):
    queue(store)
    clock.now += 3600 * 73
    study = store.take()
    assert oldest_waiting(store) == pytest.approx(1000, abs=0.1)
    assert store.again(study, "away") == "queued"


def test_a_study_with_new_images_waits_from_these_on(store, clock):
    queue(store)
    store.analysed(store.take(), [], {}, "negative", 1.0)
    clock.now += 86400
    queue(store, images=("b",))
    assert oldest_waiting(store) == pytest.approx(87400, abs=0.1)


def test_a_delivery_long_after_is_known_by_its_whole(store, clock):
    queue(store, images=("a", "b"))
    store.analysed(store.take(), results(), ALL, "negative", 1.0)
    store.sent(store.due("archive"))
    store.forget_images(clock.now - 100)
    assert not add(store, images=("a",))
    store.forget_images(clock.now + 100)
    assert store.series_of("1.2") == []
    queue(store, "3")
    store.failed(store.take(), "damaged")
    store.forget_images(clock.now + 100)
    assert store.retry_failed(["archive"]) == 0 and store.state_of("3") == "failed"
    assert add(store, images=("a", "b"))
    assert store.decide("1.2", ["s"], "r", 0) == "done"


def test_images_that_come_during_the_analysis_make_it_void(store):
    queue(store)
    study = store.take()
    add(store, images=("b",))
    assert store.analysed(study, results(), ALL, "positive", 1.0) == "arriving"
    assert store.due("archive") == []
    queue(store, images=())
    study = store.take()
    add(store, images=("c",))
    store.failed(study, "8 slices are too few")
    assert store.state_of("1.2") == "arriving"


def test_images_that_come_while_results_are_sent(store):
    queue(store)
    store.analysed(store.take(), results(), ALL, "positive", 1.0)
    under_way = store.due("archive")
    add(store, images=("b",))
    assert store.due("archive") == [] and waiting_results(store) == {}
    store.not_sent(under_way, "away")
    assert store.state_of("1.2") == "arriving"
    queue(store, images=())
    store.analysed(store.take(), results(2), ALL, "positive", 1.0)
    assert [row["sop_uid"] for row in store.due("archive")] == ["2.1", "2.2"]
    store.sent(under_way)  # a slow sending of the old ones ends
    assert [row["sop_uid"] for row in store.due("archive")] == ["2.1", "2.2"]


def test_what_was_held_back_for_a_scout_is_sent_after_all(store):
    queue(store)
    store.analysed(store.take(), results(), ALL, "positive", 1.0)
    add(store, images=("scout",), series="other")
    assert store.decide("1.2", ["s"], "r", 0) == "sending" and len(store.due("archive")) == 2


def test_an_end_on_purpose_costs_no_attempt_and_forgets_no_image(store):
    queue(store, "1")
    queue(store, "2")
    store.take(), store.take()
    add(store, "2", images=("b",))
    store.put_back()
    assert store.state_of("1") == "queued" and store.state_of("2") == "arriving"
    assert store.take()["tries"] == 0


def test_what_found_no_taker_waits_for_a_new_analysis(store, clock):
    queue(store)
    store.analysed(store.take(), results(), ALL, "positive", 1.0)
    clock.now += 4000
    store.not_sent(store.due("archive"), "away")
    queue(store, images=("b",))
    study = store.take()
    assert store.retry_failed(["archive"]) == 0 and store.due("archive") == []
    store.analysed(study, results(2), ALL, "positive", 1.0)
    assert [row["sop_uid"] for row in store.due("archive")] == ["2.1", "2.2"]


def test_a_delay_holds_from_the_start(store, clock):
    queue(store)
    assert store.again(store.take(), "away") == "queued"
    assert store.take() is None
    clock.now += 11
    assert store.take()["tries"] == 1


@pytest.mark.parametrize(("order", "expected"), [("oldest", "1324"), ("newest", "1423")])
def test_priority_then_age(store, order, expected):
    for study, priority in (("3", 1), ("1", 5), ("2", 1), ("4", 1)):
        queue(store, study, priority=priority)
    taken = "".join(store.take(order)["uid"] for _ in range(4))
    assert taken == expected


def test_what_is_at_work_is_taken_up_again_but_not_for_ever(store):
    queue(store)
    for _ in range(2):
        store.take()
        assert store.recover(crashes=3) == [("k1.2", "queued")]
    store.take()
    assert store.recover(crashes=3) == [("k1.2", "failed")]
    assert "ended while" in store.rows("SELECT reason FROM studies")[0]["reason"]


def test_a_failed_study_is_tried_again_when_it_is_delivered_again(store):
    queue(store)
    store.failed(store.take(), "damaged")
    assert not add(store) and store.state_of("1.2") == "failed"  # seen again by a poll
    assert not add(store, again=True) and store.state_of("1.2") == "arriving"
    assert store.decide("1.2", ["s"], "r", 0) == "queued"


def test_delays_of_results_grow_until_they_are_given_up(store, clock):
    queue(store)
    store.analysed(store.take(), results(), ALL, "positive", 1.0)
    for low, high in ((5, 10), (10, 20), (20, 40)):
        store.not_sent(store.due("archive"), "away")
        clock.now += low - 0.1
        assert store.due("archive") == []
        clock.now += high - low + 0.2
        assert len(store.due("archive")) == 2
    failures = 3
    while store.state_of("1.2") == "sending":
        clock.now += 101
        store.not_sent(store.due("archive"), "away")
        failures += 1
    # Mean delays: 7.5, 15, 30, 60, then 75 s each.
    assert failures == 51 and store.state_of("1.2") == "undelivered"
    assert store.retry_failed(["archive"]) == 1 and len(store.due("archive")) == 2
    store.sent(store.due("archive"))
    assert store.state_of("1.2") == "done"


def test_what_waits_for_a_destination_that_is_gone(store):
    queue(store)
    store.analysed(store.take(), results(), {**ALL, "old": ("sr",)}, "positive", 1.0)
    store.sent(store.due("archive"))
    store.keep_destinations(["archive"])
    assert store.state_of("1.2") == "undelivered"
    assert store.retry_failed(["archive"]) == 0 and store.state_of("1.2") == "undelivered"
    assert store.retry_failed(["archive", "old"]) == 1 and store.state_of("1.2") == "sending"


def test_what_is_told(store, clock):
    queue(store, "1")
    queue(store, "2")
    add(store, "3")
    store.decide("3", [], "", 0)
    told = counts(store)
    assert (told["queued"], told["skipped"], told["done"]) == (2, 1, 0)
    assert oldest_waiting(store) == pytest.approx(1000, abs=0.1)
    assert finished_before(store, clock.now - 10) == []
    assert finished_before(store, clock.now + 10) == ["k3"]


EVENTS = (
    *("deliver", "deliver again", "scout", "decide", "take", "analyse", "fail", "kill", "stop"),
    *("send", "away", "retry"),
)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), max_size=40), seed=st.integers(0, 99))
def test_once_whatever_happens(tmp_path_factory, events, seed):
    """Random lives of two studies, then peace: the archive has one set of results per set of
    images at most, and the newest set in the end."""
    rng, clock = random.Random(seed), Clock()
    path = tmp_path_factory.mktemp("life") / "q.sqlite"
    store = Store(path, Backoff(0.01, 0.02), clock)
    images = {"1": 0, "2": 0}
    at_work, archive, made = [], [], {}

    def step(event):
        study = rng.choice("12")
        if event == "deliver":
            images[study] += 1
            add(store, study, [f"i{images[study]}"])
        elif event == "deliver again" and images[study]:
            add(store, study, ["i1"], again=True)
        elif event == "scout" and images[study]:
            add(store, study, [f"scout{clock()}"], "other")
        elif event == "decide":
            for row in store.quiet(0):
                store.decide(row["uid"], ["s"], "r", 0)
        elif event == "take":
            taken = store.take()
            at_work.extend([(taken, images[taken["uid"]])] if taken else [])
        elif event == "analyse" and at_work:
            taken, seen = at_work.pop()
            number = len(made) + 1
            made[f"{number}.1"] = (taken["uid"], seen)
            store.analysed(taken, [Result("sr", Path("sr"), f"{number}.1")], ALL, "", 1.0)
        elif event == "fail" and at_work:
            store.again(at_work.pop()[0], "crashed", 10**6)
        elif event == "kill":
            at_work.clear()
            store.recover(10**6)
        elif event == "stop":
            at_work.clear()
            store.put_back()
        elif event == "retry":
            store.retry_failed(["archive"])
        elif event in ("send", "away"):
            for row in store.due("archive"):
                archive.append(row["sop_uid"])
            # Killed, or the answer lost, between sending and noting it: sent again.
            due = store.due("archive")
            if event == "send":
                store.sent(due)
            elif due:
                store.not_sent(due, "away")

    for event in events:
        step(event)
    for _ in range(12):
        clock.now += 1
        for event in ("kill", "decide", "take", "analyse", "take", "analyse", "send"):
            step(event)
    store.close()
    for study, count in images.items():
        kept = [made[uid] for uid in dict.fromkeys(archive) if made[uid][0] == study]
        assert len(kept) == len(set(kept)), "two results of one set of images"
        assert (count == 0 and kept == []) or kept[-1] == (study, count)
