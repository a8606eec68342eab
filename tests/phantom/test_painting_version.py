"""What a seed paints belongs to a version of the painting: one cannot change without the other."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest

from pe_unified.phantom import sets as studies
from pe_unified.phantom.study import (
    STRUCTURES,
    PhantomParams,
    PhantomStudy,
    paint_study,
    plan_study,
)

#: A study with three emboli (two fresh ones and a recanalised one), motion, a flow artefact,
#: consolidation and effusion.
SEED, SHAPE = 1406, (24, 96, 96)
#: Of the version: the digest of the plans, and (voxels, mean HU) of every part of the study.
GOLDEN: dict[int, tuple[str, dict[str, tuple[int, float]]]] = {
    3: (
        "0ca9bebeef18a93d",
        {
            "other": (170454, -488.6),
            "lung": (36830, -756.7),
            "artery": (2306, 119.9),
            "vein": (1625, 103.4),
            "airway": (991, -741.3),
            "right_ventricle": (998, 368.4),
            "left_ventricle": (475, 228.4),
            "right_atrium": (322, 235.5),
            "aorta": (2066, 193.7),
            "svc": (231, 765.5),
            "bone": (4886, 368.2),
            "embolus 1": (392, 39.5),
            "embolus 2": (21, 96.5),
            "embolus 3": (7, -72.6),
        },
    ),
}


def _plans() -> str:
    """Of the distributions and a hundred plans, to six digits."""
    drawn = [asdict(PhantomParams()), *(asdict(plan_study(seed)) for seed in range(100))]
    text = json.dumps(json.loads(json.dumps(drawn), parse_float=lambda x: f"{float(x):.6g}"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parts(study: PhantomStudy) -> dict[str, tuple[int, float]]:
    parts = {"other": study.structures == 0}
    parts |= {name: study.structures == value for name, value in STRUCTURES.items()}
    parts |= {f"embolus {n}": study.emboli == n for n in np.unique(study.emboli)[1:]}
    return {
        name: (int(np.count_nonzero(part)), round(float(study.hu[part].mean()), 1))
        for name, part in parts.items()
        if part.any()
    }


CURE = (
    "If the same settings are meant to paint something else now, raise _MODEL_VERSION in "
    "pe_unified/phantom/sets.py, and put what they paint in place of GOLDEN's last lines:\n"
)


def test_the_version_is_noted() -> None:
    assert list(GOLDEN) == [studies._MODEL_VERSION], "GOLDEN holds the present version alone"


def test_plans_change_with_the_version_only() -> None:
    plans, _ = GOLDEN[studies._MODEL_VERSION]
    assert _plans() == plans, CURE + _plans()


def test_what_a_seed_paints_changes_with_the_version_only() -> None:
    _, parts = GOLDEN[studies._MODEL_VERSION]
    found = _parts(paint_study(SEED, SHAPE, positive=True))
    assert found.keys() == parts.keys(), CURE + str(found)
    for name, (voxels, hu) in parts.items():
        # Other processors round otherwise: a voxel here and there, a tenth of a HU.
        assert found[name][0] == pytest.approx(voxels, rel=0.01, abs=2), CURE + str(found)
        assert found[name][1] == pytest.approx(hu, abs=1.0), CURE + str(found)
