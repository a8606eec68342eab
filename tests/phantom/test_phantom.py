"""The painted study as a whole: exact truth, same bytes, labels that follow, hard enough."""

import functools
import hashlib
import time

import numpy as np
import pytest
from rsna_rules import label_faults
from scipy import ndimage

from pe_unified.inference.right_heart import measure_ventricles
from pe_unified.phantom.labelmap import LabelMap, list_anatomies, read_label_map
from pe_unified.phantom.study import STRUCTURES, GasParams, PhantomStudy, paint_study, plan_study

SHAPE = (36, 112, 112)


def _digest(study: PhantomStudy) -> str:
    parts = (study.hu, study.emboli, study.structures)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@functools.cache
def painted(seed: int) -> PhantomStudy:
    return paint_study(seed, SHAPE, positive=True)


@pytest.fixture
def study() -> PhantomStudy:
    return painted(11)


@pytest.fixture(scope="module")
def label_map() -> LabelMap:
    """Lungs, arteries and veins of a made-up chest, as a patient's label map would have them."""
    source = paint_study(21, (87, 100, 120), (3.0, 3.0, 3.0), positive=False)
    wanted = {STRUCTURES["lung"]: 1, STRUCTURES["artery"]: 2, STRUCTURES["vein"]: 3}
    labels = np.zeros(source.hu.shape, dtype=np.uint8)
    for value, label in wanted.items():
        labels[source.structures == value] = label
    return LabelMap("made-up", labels, source.spacing)


def test_emboli_lie_in_arteries_and_nowhere_else(study: PhantomStudy) -> None:
    assert study.emboli.any()
    assert (study.structures[study.emboli > 0] == STRUCTURES["artery"]).all()


def test_findings_are_what_is_in_the_map(study: PhantomStudy) -> None:
    voxel_ml = np.prod(study.spacing) / 1000
    numbers = np.unique(study.emboli)[1:]
    assert [finding.number for finding in study.findings] == numbers.tolist()
    for finding in study.findings:
        mask = study.emboli == finding.number
        assert finding.volume_ml == pytest.approx(mask.sum() * voxel_ml, rel=1e-6)
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1


@pytest.mark.parametrize(
    "seed", [11, *(pytest.param(k, marks=pytest.mark.slow) for k in (31, 32, 33))]
)
def test_no_embolus_is_a_speck_in_its_slice(seed: int) -> None:
    emboli = painted(seed).emboli
    for plane in emboli[(emboli > 0).any((1, 2))]:
        for number in np.unique(plane)[1:]:
            pieces, _ = ndimage.label(plane == number, np.ones((3, 3)))
            assert np.bincount(pieces.ravel())[1:].min() >= 3


def _plain_seed(first: int) -> int:
    """A seed whose study has good contrast, no flow artefact and a large embolus."""
    for seed in range(first, first + 500):
        plan = plan_study(seed, positive=True)
        plain = not (plan.flow_artifact or plan.qa_contrast or plan.qa_motion)
        if plain and 3 < plan.emboli[0].volume_ml < 9 and plan.emboli[0].shape == "occlusive":
            return seed
    raise AssertionError("no plain study among 500 seeds")


def test_emboli_are_dark_in_bright_arteries() -> None:
    study = paint_study(_plain_seed(0), (60, 176, 176), positive=True)
    mask = study.emboli == 1
    clot = study.hu[mask].mean()
    around = ndimage.binary_dilation(mask, iterations=4) & (study.emboli == 0)
    lumen = ndimage.binary_erosion(study.structures == STRUCTURES["artery"], np.ones((1, 3, 3)))
    contrast = study.hu[around & lumen].mean()
    assert 20 <= clot <= 120
    assert 150 <= contrast <= 500


def test_another_seed_is_another_person(study: PhantomStudy) -> None:
    other = plan_study(12, positive=True)
    assert other.scale != study.plan.scale
    assert other.emboli != study.plan.emboli


def test_air_tissue_and_contrast_have_their_attenuation(study: PhantomStudy) -> None:
    def median(name: str) -> float:
        return float(np.median(study.hu[study.structures == STRUCTURES[name]]))

    assert study.hu.dtype == np.int16
    assert -950 < median("lung") < -700
    assert median("airway") < -700
    assert median("bone") > 150
    assert median("left_ventricle") == pytest.approx(study.plan.left_heart_hu, rel=0.1)


@pytest.mark.slow
def test_a_negative_study_has_no_embolus() -> None:
    study = paint_study(13, SHAPE, positive=False)
    assert not study.emboli.any()
    assert not study.findings
    assert label_faults(study.labels, any_slice_positive=False) == []


def test_labels_keep_the_rules(study: PhantomStudy) -> None:
    assert label_faults(study.labels, any_slice_positive=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 41, 57])
def test_ventricles_are_drawn_to_the_ratio(seed: int) -> None:
    study = paint_study(seed, (64, 112, 112), positive=True)
    right, left = (
        study.structures == STRUCTURES[f"{side}_ventricle"] for side in ("right", "left")
    )
    measured = measure_ventricles(right, left, study.grid.spacing[1:]).ratio
    assert measured == pytest.approx(study.rv_lv_ratio, abs=0.12)
    assert study.rv_lv_ratio == pytest.approx(study.plan.rv_lv_ratio, abs=0.1)
    assert study.labels["rv_lv_ratio_gte_1"] == int(study.rv_lv_ratio >= 1)


def test_a_grid_that_shows_no_embolus_is_refused() -> None:
    with pytest.raises(ValueError, match="finer spacing"):
        paint_study(11, (8, 8, 8), (40.0, 40.0, 40.0), positive=True)


def test_a_study_painted_on_a_label_map(label_map: LabelMap) -> None:
    study = paint_study(14, SHAPE, anatomy=label_map, positive=True)
    assert study.anatomy.name == "made-up"
    assert (study.structures[study.emboli > 0] == STRUCTURES["artery"]).all()
    assert label_faults(study.labels, any_slice_positive=True) == []


def test_a_label_map_keeps_the_patients_vessels(label_map: LabelMap) -> None:
    study = paint_study(15, (80, 144, 144), anatomy=label_map, positive=False)
    wanted = (label_map.labels == 2).sum() * np.prod(label_map.spacing)
    painted = (study.structures == STRUCTURES["artery"]).sum() * np.prod(study.spacing)
    # The patient is stretched by up to 5 % along each axis.
    assert painted == pytest.approx(wanted, rel=0.25)


@pytest.mark.slow
def test_a_study_on_a_real_patient(shared_data) -> None:
    name, path = next(iter(list_anatomies(shared_data / "anatomy").items()))
    study = paint_study(16, SHAPE, anatomy=read_label_map(path, name), positive=True)
    assert study.anatomy.name == name
    assert study.emboli.any()
    lung = np.count_nonzero(study.structures == STRUCTURES["lung"]) * np.prod(study.spacing)
    assert 1.5e6 < lung < 9e6


@pytest.mark.slow
@pytest.mark.parametrize("painted_on", ["procedural", "real"])
def test_a_full_study_takes_under_15_seconds_of_one_core(painted_on: str, request) -> None:
    anatomy = None
    if painted_on == "real":
        folder = request.getfixturevalue("shared_data") / "anatomy"
        anatomy = read_label_map(next(iter(list_anatomies(folder).values())))
    start = time.process_time()
    paint_study(17, (150, 256, 256), anatomy=anatomy, positive=True)
    assert time.process_time() - start < 15


@pytest.mark.slow
def test_emboli_are_of_the_size_of_real_ones() -> None:
    """Medians of FUMPE's 35 reference masks: 68 mm² in a slice, 1.05 ml in all; 26 % positive."""
    areas, volumes, positive = [], [], []
    for seed in range(800, 830):
        study = paint_study(seed, (120, 192, 192), positive=True)
        mask = study.emboli > 0
        positive.append(mask.any((1, 2)).mean())
        volumes += [finding.volume_ml for finding in study.findings]
        for plane in mask[mask.any((1, 2))]:
            labels, _ = ndimage.label(plane, np.ones((3, 3)))
            areas += (np.bincount(labels.ravel())[1:] * np.prod(study.spacing[1:])).tolist()
    assert 0.6 < np.median(areas) / 67.7 < 1.6
    assert 0.5 < np.median(volumes) / 1.05 < 2.0
    assert 0.17 < np.mean(positive) < 0.35


@pytest.mark.slow
def test_gas_is_painted_on_request_and_changes_nothing_else(study: PhantomStudy) -> None:
    gas = GasParams(stomach_ml=250, bowel_loops=2, table_gap_mm=15)
    with_gas = paint_study(11, SHAPE, positive=True, gas=gas)
    np.testing.assert_array_equal(with_gas.structures, study.structures)
    np.testing.assert_array_equal(with_gas.emboli, study.emboli)
    changed = with_gas.hu != study.hu
    dark = changed & (with_gas.hu < -800)
    voxel_ml = np.prod(study.spacing) / 1000
    below = dark & (study.hu > -300)
    assert below.sum() * voxel_ml > 20  # what of it lies above the lowest slice
    inside = np.isin(study.structures, [STRUCTURES[part] for part in ("lung", "artery", "vein")])
    assert changed[inside].mean() < 0.01
    assert _digest(paint_study(11, SHAPE, positive=True, gas=GasParams())) == _digest(study)
