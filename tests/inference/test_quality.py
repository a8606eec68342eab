"""What to abstain from, on painted studies whose faults are known, and on geometry."""

import functools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from studies import study_of, survey_of

from pe_unified.inference.quality import blood_hu, blurred_share, check_quality
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.phantom.study import PhantomParams, paint_study

STILL = PhantomParams(motion_rate=0.0, poor_contrast_rate=0.0, indeterminate_rate=0.0)


@functools.cache
def painted(seed, shape=(48, 160, 160), **changes):
    params = replace(STILL, **changes)
    study = paint_study(seed, shape, params=params)
    z_mm, row_mm, col_mm = study.spacing
    return study, SliceReader(study_of(study.hu, (row_mm, col_mm, z_mm)))


def names(reader, abstaining=True):
    found = check_quality(reader, survey(reader))
    return {flag.name for flag in found if flag.abstain or not abstaining}


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
def test_blood_is_measured_in_heart_and_great_vessels(seed):
    study, reader = painted(seed)
    assert blood_hu(survey(reader)) == pytest.approx(study.plan.artery_hu, rel=0.15)
    assert names(reader) <= {"thick_slices", "truncated_bases"}


def test_blood_is_the_brightest_third_of_the_mediastinum():
    shape = (20, 40, 60)
    hu = np.full(shape, 40, np.int16)  # muscle
    hu[:, :, 26:34] = 300
    assert blood_hu(replace(survey_of(shape), hu=hu)) == 300


def test_poor_and_missing_contrast():
    """What is brighter than water made darker, and no brighter than tissue."""
    study, reader = painted(0)
    hu, spacing = reader.study.all_hu(), reader.study.spacing_mm
    faint = np.where(hu > 0, hu * (155 / study.plan.artery_hu), hu).astype(np.int16)
    assert "poor_opacification" in names(SliceReader(study_of(faint, spacing)))
    assert "no_contrast" in names(SliceReader(study_of(np.minimum(hu, 50), spacing)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poor_and_missing_contrast_as_painted(seed):
    poor = (140.0, 170.0)
    _, reader = painted(seed, poor_contrast_rate=1.0, poor_artery_hu_range=poor)
    assert "poor_opacification" in names(reader)
    none = (45.0, 55.0)
    _, reader = painted(seed, poor_contrast_rate=1.0, poor_artery_hu_range=none)
    assert "no_contrast" in names(reader)


@pytest.fixture(scope="module")
def pair():
    """HU of a still and of a moving study, and their spacing (row, col, slice)."""
    studies = [painted(3, (96, 144, 144), motion_rate=rate)[0] for rate in (0.0, 1.0)]
    z_mm, row_mm, col_mm = studies[0].spacing
    return [study.hu for study in studies], (row_mm, col_mm, z_mm)


def thicker(hu, spacing, slices):
    """A study whose slices are the means of so many."""
    row_mm, col_mm, z_mm = spacing
    hu = hu[: len(hu) // slices * slices].reshape(-1, slices, *hu.shape[1:]).mean(axis=1)
    return SliceReader(study_of(np.rint(hu).astype(np.int16), (row_mm, col_mm, slices * z_mm)))


@pytest.mark.parametrize("slices", [1, 2, 4])
def test_motion_is_told_from_slopes(pair, slices):
    """Apices and bases slope, so that thick slices blur them without any motion."""
    (still, moving), spacing = pair
    for hu, moved in ((still, False), (moving, True)):
        reader = thicker(hu, spacing, slices)
        looked = survey(reader)
        assert ("motion" in {flag.name for flag in check_quality(reader, looked)}) == moved
        share = blurred_share(reader, looked)
        assert share > 0.15 if moved else share < 0.05


def test_too_few_slices_to_judge_motion():
    _, reader = painted(0)
    row_mm, col_mm, z_mm = reader.study.spacing_mm
    reader = SliceReader(study_of(reader.study.all_hu()[::7], (row_mm, col_mm, 7 * z_mm)))
    assert blurred_share(reader, survey(reader)) is None
    assert "motion_not_judged" in names(reader, abstaining=False) - names(reader)


def test_large_pixels_do_not_tell_motion(pair):
    (_, moving), (_, _, z_mm) = pair
    small = np.stack([cv2.resize(hu, (96, 96), interpolation=cv2.INTER_AREA) for hu in moving])
    reader = SliceReader(study_of(small, (3.4, 3.4, z_mm)))
    found = names(reader, abstaining=False)
    assert "motion_not_judged" in found and "motion" not in found


@pytest.mark.parametrize("round_field", [False, True])
def test_lungs_cut_at_the_sides(round_field):
    _, reader = painted(1, (30, 128, 128))
    hu, spacing = reader.study.all_hu(), reader.study.spacing_mm
    down, across = np.mgrid[:128, :128] - 63.5
    flagged = {}
    for half in (64, 58, 36):
        view = slice(64 - half, 64 + half)
        seen = np.where(round_field & (np.hypot(down, across) > half), np.int16(-1024), hu)
        cut = SliceReader(study_of(seen[:, view, view].copy(), spacing))
        flagged[half] = "truncated_lungs" in names(cut)
    assert flagged == {64: False, 58: False, 36: True}


def test_lungs_that_go_on_beyond_the_scan():
    _, reader = painted(0)
    hu = reader.study.all_hu()
    assert "truncated_apices" not in names(reader)
    cut = SliceReader(study_of(hu[:30], reader.study.spacing_mm))
    assert "truncated_apices" in names(cut)
    cut = SliceReader(study_of(hu[20:], reader.study.spacing_mm))
    assert "truncated_bases" in names(cut)


def test_geometry():
    hu = np.zeros((10, 64, 64), np.int16)
    reader = SliceReader(study_of(hu, (1.0, 1.0, 5.0)))
    assert names(reader) == {"no_lungs", "thick_slices"}
    thin = study_of(hu, (1.0, 1.0, 1.0))
    assert names(SliceReader(thin)) == {"no_lungs"}
    assert "missing_slices" in names(SliceReader(replace(thin, missing_slices=4)))
    assert "missing_slices" not in names(SliceReader(replace(thin, missing_slices=0)))
    uneven = SliceReader(replace(thin, uneven_steps=True))
    assert "uneven_steps" in names(uneven, abstaining=False) - names(uneven)
    assert "thick_slices" in names(SliceReader(replace(thin, thickness_mm=5.0)))
    assert "thick_slices" in names(SliceReader(study_of(hu, (3.5, 1.0, 1.0))))  # reformatted
    assert "unknown_position" in names(SliceReader(replace(thin, placed=False)))
    mirrored = SliceReader(replace(thin, direction=np.diag([-1.0, 1.0, 1.0])))
    assert "mirrored" in names(mirrored, abstaining=False) - names(mirrored)
    turned = replace(thin, direction=np.diag([-1.0, -1.0, 1.0]))
    assert "prone" in names(SliceReader(turned))
    tilted = SliceReader(replace(thin, step_mm=(0.0, 0.3, 1.0)))
    assert "tilted_gantry" in names(tilted, abstaining=False) - names(tilted)


def test_one_missing_slice_of_many_is_told_but_no_reason_to_abstain():
    reader = SliceReader(replace(study_of(np.zeros((200, 64, 64), np.int16)), missing_slices=1))
    assert "missing_slices" in names(reader, abstaining=False) - names(reader)


def test_a_hidden_mediastinum():
    shape = (20, 40, 60)
    flags = check_quality(SliceReader(study_of(np.zeros(shape, np.int16))), survey_of(shape))
    assert "no_contrast" in {flag.name for flag in flags}
    hidden = replace(survey_of(shape), body=np.zeros(shape, bool))
    flags = check_quality(SliceReader(study_of(np.zeros(shape, np.int16))), hidden)
    assert "no_mediastinum" in {flag.name for flag in flags}
