"""Thin slices are passed over where no slice beside them gives a reason to look at them."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import VALIDATED, study_of, survey_of, write_checkpoint

from pe_unified.ct.opening import open_study
from pe_unified.evaluation.coarse import coarse_step
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor, _passed_over
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction, probabilities_along
from pe_unified.inference.survey import survey
from pe_unified.inference.thresholds import Thresholds
from pe_unified.reports.report import _reading

COARSE = {"cls/coarse_gate": 0.3, "cls/coarse_gate_lost": 0.004}
COARSE |= {"cls/coarse_gate_positives": 250.0, "cls/coarse_gate_studies": 4.0}


class Told(StudyPredictor):
    """Answers what it is told, and keeps the batches in which it was asked."""

    def __init__(self, probability, found, gate=0.3, batch_size=4):
        thresholds = Thresholds(gate=0.1, coarse_gate=gate)
        model = SimpleNamespace(members=[], lungs=None, tasks=("cls",), thresholds=thresholds)
        self.neighbours, self.asked = 0, []
        self._told = probability, found
        self.coarse_gate, self.batch_size, self.model = gate, batch_size, model

    def prepare(self, slices):
        return [[each["slice_index"] for each in slices]]

    def predict_batch(self, numbers, packed):
        assert packed == [list(numbers)]
        self.asked.append(list(numbers))
        probability, found = self._told
        pixels = [np.arange(int(found[number]), dtype=np.int32) for number in numbers]
        nothing = np.empty(0, np.float32), np.empty((0, 4), np.float32), np.empty(0, np.float32)
        return [
            SlicePrediction(number, probability[number], True, own, *nothing)
            for number, own in zip(numbers, pixels, strict=True)
        ]


def read(predictor, count, step_mm=1.0, first=0, every_slice=False, told=None, **changes):
    hu = np.zeros((count, 8, 8), np.int16)
    study = replace(study_of(hu, spacing=(1.0, 1.0, step_mm)), **changes)
    looked = replace(survey_of(hu.shape), slices=range(first, count))
    progress = None if told is None else lambda *each: told.append(each)
    return predictor.predict(SliceReader(study), looked, progress, every_slice)


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.29, 0.3, 0.9]), st.booleans()), min_size=8),
    st.sampled_from([0.7, 1.0, 1.5, 2.5]),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_nothing_beside_a_slice_that_matters_is_passed_over(cases, step_mm, first, size):
    probability, found = zip(*((p, f and p == 0.1) for p, f in cases), strict=True)
    predictor, told = Told(probability, found, batch_size=size), []
    count, every = len(cases), coarse_step(step_mm)
    predictions = read(predictor, count, step_mm, first, told=told)
    assert [each.index for each in predictions] == list(range(first, count))
    at_first = {*range(first, count, every), count - 1}
    asked = [number for batch in predictor.asked for number in batch]
    assert len(asked) == len(set(asked)) and set(asked[: len(at_first)]) == at_first
    for each in predictions:
        below = max(k for k in at_first if k <= each.index)
        above = min(k for k in at_first if k >= each.index)
        matters = any(probability[k] >= 0.3 or found[k] for k in (below, above))
        assert each.looked_at == (each.index in at_first or matters) == (each.index in asked)
        if each.looked_at:
            assert each.probability == probability[each.index] and each.examined
        else:
            assert each.probability is None and not each.examined and not len(each.pixels)
    # Batches are full, but for the last of each pass.
    short = [number for number, batch in enumerate(predictor.asked) if len(batch) < size]
    assert len(short) <= 2 and all(len(batch) <= size for batch in predictor.asked)
    done = [each for each, _ in told]
    assert done == sorted(done) and {total for _, total in told} == {count - first}
    assert done[-1] == count - first
    # What a report says of it.
    said = _reading(predictions)
    ranges = [range(r["first_slice"], r["last_slice"] + 1, r["every"]) for r in said["ranges"]]
    assert [index for each in ranges for index in each] == sorted(asked)
    assert said["looked_at"] == len(asked) and said["passed_over"] == count - first - len(asked)


def asked_of_nothing(count=12, gate=0.3, **options):
    predictor = Told([0.0] * count, [False] * count, gate)
    read(predictor, count, **options)
    return sum(map(len, predictor.asked))


def test_everything_is_read_where_it_is_asked_for_or_places_are_not_known():
    assert asked_of_nothing() == 5  # 0, 3, 6, 9, 11
    assert asked_of_nothing(every_slice=True) == 12
    assert asked_of_nothing(gate=None) == 12
    assert asked_of_nothing(missing_slices=1) == 12
    assert asked_of_nothing(uneven_steps=True) == 12
    assert asked_of_nothing(step_mm=2.0) == 12


@pytest.fixture(scope="module")
def thin(painted_set):
    """A painted study as if its slices lay 1 mm apart."""
    with open_study(min((painted_set[1].parent / "CT_scans").iterdir())) as study:
        hu = study.all_hu()
    return study_of(hu, spacing=(*study.known_spacing()[:2], 1.0))


def coarse_model(folder, heads, gate):
    path = folder / f"{'-'.join(heads)}-{gate}.pth"
    validated = {**VALIDATED, "cls/gate": 0.0, **COARSE, "cls/coarse_gate": gate}
    return load_model(write_checkpoint(path, heads, validated), device="cpu", precision="fp32")


def predictions(model, study, every_slice=False, **options):
    reader = SliceReader(study)
    looked = survey(reader, every_slice=True)
    return StudyPredictor(model, batch_size=1, **options).predict(
        reader, looked, every_slice=every_slice
    )


def test_what_is_looked_at_is_answered_as_if_all_were(thin, tmp_path):
    everything = predictions(coarse_model(tmp_path, ("cls", "det"), 0.0), thin)
    assert all(each.looked_at for each in everything)
    ranked = sorted(each.probability for each in everything[::3])
    model = coarse_model(tmp_path, ("cls", "det"), ranked[-1])
    high = replace(model, thresholds=replace(model.thresholds, box=1.0))
    everything = predictions(high, thin, every_slice=True)
    found = predictions(high, thin)
    assert {each.looked_at for each in found} == {True, False}
    for one, other in zip(found, everything, strict=True):
        assert other.looked_at
        if one.looked_at:
            assert (one.probability, one.examined) == (other.probability, other.examined)
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.pixels, other.pixels)
    assert all(each.looked_at for each in predictions(high, thin, gate=False))
    without = replace(high, thresholds=replace(high.thresholds, coarse_gate=None))
    assert all(each.looked_at for each in predictions(without, thin))


def test_lesions_are_looked_at_whole(thin, tmp_path):
    """However low the probability, no slice beside one with pixels or boxes is passed over."""
    found = predictions(coarse_model(tmp_path, ("cls", "seg"), 1.0), thin)
    assert any(len(each.pixels) for each in found)
    for below, above in pairwise(found):
        if len(below.pixels) or len(above.pixels):
            assert below.looked_at and above.looked_at


def test_models_that_take_every_slice_get_every_slice(tmp_path):
    model = coarse_model(tmp_path, ("cls",), 0.3)
    assert StudyPredictor(model).coarse_gate == 0.3
    assert StudyPredictor(model, gate=False).coarse_gate is None
    assert StudyPredictor(model, volume_model=SimpleNamespace()).coarse_gate is None
    own = {"key": model.key, "precision": model.precision, "device": model.device}
    assert StudyPredictor(model, exam_model=SimpleNamespace(**own)).coarse_gate is None
    other = SimpleNamespace(**{**own, "key": "another"})
    assert StudyPredictor(model, exam_model=other).coarse_gate == 0.3


def test_what_the_gate_was_fixed_on_is_told(tmp_path):
    model = coarse_model(tmp_path, ("cls",), 0.3)
    assert model.thresholds.coarse_origin == (
        "4 thin-slice studies of the validation split: 0.40 % of their 250 positive slices left out"
    )
    plain = load_model(write_checkpoint(tmp_path / "plain.pth", ("cls",)))
    assert plain.thresholds.coarse_gate is None and plain.thresholds.coarse_origin == ""


def test_probabilities_run_straight_between_the_slices_looked_at():
    found = Told([0.1, 0.7, 0.7, 0.4, 0.9], [False] * 5).predict_batch(range(5), [list(range(5))])
    assert probabilities_along(found) == [0.1, 0.7, 0.7, 0.4, 0.9]
    found[1:3] = [_passed_over(1), _passed_over(2)]
    np.testing.assert_allclose(probabilities_along(found), [0.1, 0.2, 0.3, 0.4, 0.9])
    unclassified = [replace(each, probability=None) for each in found]
    assert probabilities_along(unclassified) == []
