"""Which series a rule is about."""

import pytest
from dicom_files import enhanced_dataset, slice_dataset
from numpy import zeros

from pe_unified.archive.rules import Rule, decide, facts_of


def rule(**found):
    return Rule.of({"name": "r", "do": "analyse", **found})


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({}, True),
        ({"modality": "^CT$"}, True),
        ({"modality": "MR"}, False),
        ({"description": "ctpa"}, True),
        ({"description": ["scout", "pulm"]}, True),
        ({"description": "ctpa", "body_part": "abdomen"}, False),
        ({"image_type": r"ORIGINAL\\PRIMARY"}, True),
        ({"station": "^$"}, True),
        ({"slice_thickness": "<= 1.25"}, True),
        ({"slice_thickness": "< 1.25"}, False),
        ({"slice_thickness": "0.5 to 1.25"}, True),
        ({"slice_thickness": "1.3 to 3"}, False),
        ({"slice_thickness": 1.25}, True),
        ({"images": "> 40"}, False),
        ({"images": ">= 40"}, True),
    ],
)
def test_conditions(where, fits):
    header = slice_dataset(
        zeros((4, 4), "u2"),
        SeriesDescription="CTPA 1.25 pulmonary",
        BodyPartExamined="CHEST",
        SliceThickness=1.25,
    )
    assert rule(where=where).fits({**facts_of(header), "images": 40}) is fits


def test_what_a_header_does_not_say_fits_no_number():
    facts = facts_of(slice_dataset(zeros((4, 4), "u2"), SliceThickness=None))
    assert not rule(where={"slice_thickness": "<= 3"}).fits(facts)
    assert not rule(where={"slice_thickness": "> 3"}).fits(facts)


def test_facts_of_enhanced_ct_come_from_its_frames():
    """Thickness, kernel and kind of image are in functional groups there."""
    header = enhanced_dataset(
        zeros((60, 4, 4), "u2"), [{}] * 60, {"SliceThickness": 1.0, "ConvolutionKernel": "B30f"}
    )
    facts = facts_of(header)
    assert (facts["slice_thickness"], facts["kernel"], facts["frames"]) == (1.0, "B30f", 60)
    assert facts["image_type"].startswith("ORIGINAL")
    assert facts_of(slice_dataset(zeros((4, 4), "u2")))["frames"] == 1


def test_the_first_rule_that_fits_decides():
    rules = [rule(name="a", where={"modality": "MR"}), rule(name="b", do="ignore"), rule(name="c")]
    assert decide(rules, {"modality": "CT"}) is rules[1] and not rules[1].analyse
    assert decide(rules, {"modality": "MR"}) is rules[0]
    assert decide(rules[:1], {"modality": "CT"}) is None


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"patient": "x"}, "unknown 'patient' in a rule"),
        ({"description": "(ct"}, "is not a regular expression"),
        ({"images": "many"}, "is not a range such as '<= 3'"),
    ],
)
def test_conditions_that_are_none(where, said):
    with pytest.raises(ValueError, match=said):
        rule(where=where)


def test_facts_hold_no_patient():
    header = slice_dataset(zeros((4, 4), "u2"), PatientName="DOE^JANE", PatientID="MRN-1")
    assert not {"DOE^JANE", "MRN-1"} & set(map(str, facts_of(header).values()))
