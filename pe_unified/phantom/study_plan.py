"""The content of a synthetic study, drawn from its seed before anything is painted."""

from dataclasses import dataclass

import numpy as np

#: Shapes of acute emboli.
SHAPES = ("occlusive", "polo_mint", "mural")
#: Shapes of chronic emboli.
CHRONIC_SHAPES = ("crescent", "web", "recanalised")
#: Volume of a web relative to its original clot, and the range of its volume, ml.
_WEB_SHARE, _WEB_RANGE_ML = 0.25, (0.15, 1.0)


@dataclass(frozen=True)
class PhantomParams:
    """Distributions that studies are drawn from. Lengths in mm, attenuation in HU.

    Numbers and sizes of emboli follow the 35 reference masks of FUMPE (Masoudi et al. 2018):
    95 emboli in 33 patients, volume median 1.05 ml with quartiles 0.30 and 4.9.
    Noise is given for pixels of 0.75 mm; larger ones average some of it out.

    Attributes:
        chronic_rate, acute_and_chronic_rate: of studies with emboli; the second of those with two
            or more.
        calcified_rate: of chronic emboli other than webs.
        strain_rate: how often the right ventricle is the wider one, with almost no clot and with
            very much clot.
        indeterminate_rate: of studies without emboli.
    """

    positive_rate: float = 33 / 35
    embolus_count_weights: tuple[float, ...] = (9, 11, 5, 2, 2, 2, 1, 1)
    embolus_volume_median_ml: float = 2.2
    embolus_volume_sigma: float = 1.65
    embolus_volume_range_ml: tuple[float, float] = (0.15, 45.0)
    embolus_hu: tuple[float, float] = (56.0, 14.0)
    chronic_rate: float = 0.12
    acute_and_chronic_rate: float = 0.05
    calcified_rate: float = 0.3
    strain_rate: tuple[float, float] = (0.12, 0.62)
    artery_hu: tuple[float, float] = (300.0, 62.0)
    artery_hu_range: tuple[float, float] = (210.0, 490.0)
    poor_artery_hu_range: tuple[float, float] = (155.0, 205.0)
    vein_to_artery: tuple[float, float] = (0.55, 1.1)
    noise_hu: tuple[float, float] = (14.0, 32.0)
    motion_rate: float = 0.12
    poor_contrast_rate: float = 0.12
    flow_artifact_rate: float = 0.3
    other_defect_rate: float = 0.03
    indeterminate_rate: float = 0.04
    consolidation_rate: float = 0.25
    effusion_rate: float = 0.15


#: Named distributions: as in FUMPE, and for sets of exams. In the latter each exam label is
#: frequent and visible at the size in which a few hundred exams are painted: half of all exams are
#: positive, a fifth has only chronic emboli, and a tenth has both kinds.
PRESETS = {
    "reference": PhantomParams(),
    "exams": PhantomParams(
        positive_rate=0.5,
        embolus_count_weights=(5, 4, 2, 1),
        embolus_volume_median_ml=4.5,
        embolus_volume_sigma=1.4,
        embolus_volume_range_ml=(0.5, 45.0),
        chronic_rate=0.4,
        acute_and_chronic_rate=0.36,
        calcified_rate=0.6,
        strain_rate=(0.3, 0.7),
        indeterminate_rate=0.1,
    ),
}


@dataclass(frozen=True)
class EmbolusPlan:
    """An embolus to paint: volume in ml, shape, attenuation in HU without calcium, age, calcium."""

    volume_ml: float
    shape: str
    hu: float
    chronic: bool
    calcified: bool = False


@dataclass(frozen=True)
class PaintingPlan:
    """A patient, a contrast injection and a scan. See :func:`plan_study`."""

    seed: int
    sex: str
    age: int
    scale: float
    fat_mm: float
    muscle: float
    emboli: tuple[EmbolusPlan, ...]
    rv_lv_ratio: float
    artery_hu: float
    vein_hu: float
    right_heart_hu: float
    left_heart_hu: float
    aorta_hu: float
    svc_hu: float
    noise_hu: float
    sharpness_mm: float
    indeterminate: bool
    qa_motion: bool
    qa_contrast: bool
    flow_artifact: bool
    other_defect: bool
    consolidation: bool
    effusion: bool
    lymph_nodes: int
    streaks: float

    @property
    def positive(self) -> bool:
        return bool(self.emboli)

    def rng(self, purpose: str) -> np.random.Generator:
        """A separate stream of random numbers for each purpose, the same on every call."""
        key = [self.seed, *purpose.encode()]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _plan_emboli(
    rng: np.random.Generator, old_rng: np.random.Generator, params: PhantomParams
) -> tuple[EmbolusPlan, ...]:
    """Draw the emboli; properties of chronic ones are drawn from a separate stream."""
    weights = np.asarray(params.embolus_count_weights, dtype=float)
    count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
    age = rng.random()
    all_chronic = age < params.chronic_rate
    mixed = not all_chronic and age < params.chronic_rate + params.acute_and_chronic_rate
    burden = rng.normal(0, 0.8)
    emboli = []
    for number in range(count):
        size = burden + rng.normal(0, np.sqrt(max(params.embolus_volume_sigma**2 - 0.64, 0.01)))
        volume = float(
            np.clip(params.embolus_volume_median_ml * np.exp(size), *params.embolus_volume_range_ml)
        )
        chronic = all_chronic or (mixed and number % 2 == 1)
        shapes = CHRONIC_SHAPES if chronic else SHAPES
        shares = (0.5, 0.2, 0.3) if chronic else (0.5, 0.28, 0.22)
        shape = shapes[int(rng.choice(3, p=shares))]
        hu = float(np.clip(rng.normal(*params.embolus_hu) + (22 if chronic else 0), 26, 104))
        calcified = chronic and bool(old_rng.random() < params.calcified_rate)
        if shape == "web":
            volume = float(np.clip(_WEB_SHARE * volume, *_WEB_RANGE_ML))
        emboli.append(EmbolusPlan(volume, shape, hu, chronic, calcified and shape != "web"))
    return tuple(sorted(emboli, key=lambda plan: -plan.volume_ml))


def _strain_rate(params: PhantomParams, load_ml: float) -> float:
    least, most = params.strain_rate
    return most - (most - least) * float(np.exp(-load_ml / 15))


def plan_study(
    seed: int, params: PhantomParams | None = None, positive: bool | None = None
) -> PaintingPlan:
    """Draw a patient and a scan.

    Args:
        seed: of this study; different seeds are different people.
        params: the distributions.
        positive: force emboli, or none; by default drawn with ``params.positive_rate``.
    """
    params = params or PhantomParams()
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(seed), 7])))
    has_pe = bool(rng.random() < params.positive_rate)
    has_pe = has_pe if positive is None else positive
    sex = "F" if rng.random() < 0.5 else "M"
    poor = bool(rng.random() < params.poor_contrast_rate)
    artery = float(np.clip(rng.normal(*params.artery_hu), *params.artery_hu_range))
    artery = float(rng.uniform(*params.poor_artery_hu_range)) if poor else artery
    vein = artery * rng.uniform(*params.vein_to_artery)
    old_rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(seed), 7, 1])))
    emboli = _plan_emboli(rng, old_rng, params) if has_pe else ()
    load = sum(embolus.volume_ml for embolus in emboli)
    strained = rng.random() < (_strain_rate(params, load) if has_pe else 0.06)
    ratio = rng.uniform(1.08, 1.5) if strained else rng.uniform(0.68, 0.92)
    indeterminate = bool(not has_pe and rng.random() < params.indeterminate_rate)
    motion = bool(rng.random() < params.motion_rate)
    if indeterminate and not poor:
        motion = True
    return PaintingPlan(
        seed=int(seed),
        sex=sex,
        age=int(np.clip(rng.normal(60, 16), 19, 94)),
        scale=float(np.clip(rng.normal(0.95 if sex == "F" else 1.03, 0.05), 0.83, 1.15)),
        fat_mm=float(np.clip(rng.lognormal(np.log(17), 0.45), 6, 42)),
        muscle=float(rng.uniform(0.75, 1.25)),
        emboli=emboli,
        rv_lv_ratio=float(ratio),
        artery_hu=artery,
        vein_hu=float(vein),
        right_heart_hu=float(artery * rng.uniform(0.92, 1.12)),
        left_heart_hu=float(vein * rng.uniform(0.88, 1.0)),
        aorta_hu=float(vein * rng.uniform(0.75, 0.98)),
        svc_hu=float(rng.uniform(500, 1500) if rng.random() < 0.8 else artery),
        noise_hu=float(rng.uniform(*params.noise_hu)),
        sharpness_mm=float(rng.uniform(0.35, 0.6)),
        indeterminate=indeterminate,
        qa_motion=motion,
        qa_contrast=poor,
        flow_artifact=bool(rng.random() < params.flow_artifact_rate),
        other_defect=bool(rng.random() < params.other_defect_rate),
        consolidation=bool(rng.random() < params.consolidation_rate),
        effusion=bool(rng.random() < params.effusion_rate),
        lymph_nodes=int(rng.integers(3, 11)),
        streaks=float(rng.uniform(0.3, 1.0)),
    )
