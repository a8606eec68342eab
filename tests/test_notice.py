import pytest

from pe_unified.disclaimer import SYNTHETIC_LINE, UNKNOWN_LINE, training_notice, unique


def entry(synthetic, slices=100):
    named = {"set": "a", "source": None, "patients": 1, "step": None}
    return {**named, "slices": slices, "synthetic": synthetic}


@pytest.mark.parametrize(
    ("entries", "notice"),
    [
        ([], UNKNOWN_LINE),
        ([entry(None, None)], UNKNOWN_LINE),
        ([entry(True), entry(True)], SYNTHETIC_LINE),
        ([entry(True, 50), entry(False, 150)], "in part on synthetic data (25% of its slices)"),
        ([entry(True), entry(None, None)], "in part on synthetic data; the rest is not known"),
        ([entry(False), entry(None)], "not known in part"),
    ],
)
def test_the_notice_says_what_the_data_are(entries, notice):
    assert notice in training_notice(entries)
    assert len(training_notice(entries)) <= 64  # what DICOM takes


def test_of_patients_alone_nothing_is_said():
    assert training_notice([entry(False), entry(False)]) == ""


def test_each_training_is_told_once():
    assert unique([entry(True), entry(False), entry(True)]) == [entry(True), entry(False)]
