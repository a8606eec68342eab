"""What to abstain from, on painted studies whose faults are known, and on geometry."""

from dataclasses import replace

import numpy as np
import pytest
from studies import study_of, survey_of

from pe_unified.ct.phantom import PhantomParams, paint_study
from pe_unified.inference.quality import blood_hu, blurred_share, check_quality
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey

STILL = PhantomParams(motion_rate=0.0, poor_contrast_rate=0.0, indeterminate_rate=0.0)


def painted(seed, shape=(48, 160, 160), **changes):
    params = replace(STILL, **changes)
    study = paint_study(seed, shape, params=params)
    z_mm, row_mm, col_mm = study.spacing
    return study, SliceReader(study_of(study.hu, (row_mm, col_mm, z_mm)))


def names(reader, abstaining=True):
    found = check_quality(reader, survey(reader))
    return {flag.name for flag in found if flag.abstain or not abstaining}


@pytest.mark.parametrize("seed", range(4))
def test_blood_is_measured_in_heart_and_great_vessels(seed):
    study, reader = painted(seed)
    assert blood_hu(survey(reader)) == pytest.approx(study.plan.artery_hu, rel=0.15)
    assert names(reader) <= {"thick_slices", "truncated_bases"}


@pytest.mark.parametrize("seed", range(3))
def test_poor_and_missing_contrast(seed):
    poor = (140.0, 170.0)
    _, reader = painted(seed, poor_contrast_rate=1.0, poor_artery_hu_range=poor)
    assert "poor_opacification" in names(reader)
    none = (45.0, 55.0)
    _, reader = painted(seed, poor_contrast_rate=1.0, poor_artery_hu_range=none)
    assert "no_contrast" in names(reader)


def test_motion_blurs_part_of_the_slices():
    def shares(rate, studies):
        readers = [painted(seed, (60, 256, 256), motion_rate=rate)[1] for seed in range(studies)]
        return [blurred_share(reader, survey(reader)) for reader in readers]

    assert max(shares(0.0, 2)) < 0.1
    assert np.mean(shares(1.0, 4)) > 0.1


def test_lungs_that_go_on_beyond_the_scan():
    _, reader = painted(2)
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
