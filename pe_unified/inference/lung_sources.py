"""Where the lungs of a study come from: thresholds, or a learned model where one is installed.

lungmask (Hofmanninger et al. 2020, https://doi.org/10.1186/s41747-020-00173-2) was trained on lungs
with many diseases, so that it also finds those that hold fluid instead of air. It is used when it
is installed (``pip install -e '.[lungs]'``) and its weights lie where torch keeps downloads;
nothing is downloaded here.
"""

import importlib.util
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.ct.lungs import ChestGrid, search_grid
from pe_unified.inference.reading import SliceReader
from pe_unified.models.weights import CheckpointError

LUNG_SOURCES = ("auto", "classical", "lungmask")
#: The model for lungs of any pathology, as lungmask's releases name it.
WEIGHTS = "unet_r231-d5d2fc3d.pth"


def weights_file() -> Path:
    """Where lungmask's weights are looked for: torch's own place for downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def lung_source(wanted: str) -> str:
    """Which of the sources is used: ``"classical"`` or ``"lungmask"``.

    Args:
        wanted: of :data:`LUNG_SOURCES`; ``"auto"`` takes lungmask where it is installed with
            weights.

    Raises:
        CheckpointError: lungmask was asked for and is not installed, or has no weights.
        ValueError: no such source.
    """
    if wanted not in LUNG_SOURCES:
        raise ValueError(f"lungs come from {', '.join(LUNG_SOURCES)}, not '{wanted}'")
    installed = importlib.util.find_spec("lungmask") is not None
    if wanted == "lungmask" and not installed:
        raise CheckpointError("--lungs lungmask: not installed; pip install -e '.[lungs]'")
    if wanted == "lungmask" and not weights_file().is_file():
        raise CheckpointError(
            f"--lungs lungmask: no weights at {weights_file()}; download {WEIGHTS} from the "
            "releases of lungmask (JoHof/lungmask) on a machine that may, and put it there"
        )
    usable = installed and weights_file().is_file()
    return "lungmask" if wanted != "classical" and usable else "classical"


def with_learned_lungs(chest: ChestGrid, reader: SliceReader) -> ChestGrid:
    """The chest with the lungs that lungmask sees on the slices of the search grid.

    Args:
        chest: from :func:`~pe_unified.ct.lungs.find_lungs`; keeps its body and airways.
        reader: of the study.
    """
    study = reader.study
    rows, cols = study.shape[1:]
    row, col, step = search_grid((rows, cols), study.spacing_mm)
    slices = np.stack([reader.hu(index) for index in range(0, len(study), step)])
    found = _lungmask(str(weights_file())).apply(slices) > 0
    padded = np.pad(found, ((0, 0), (0, -rows % row), (0, -cols % col)))
    cells = padded.reshape(len(found), padded.shape[1] // row, row, padded.shape[2] // col, col)
    lungs = cells.mean(axis=(2, 4)) > 0.5
    return replace(chest, lungs=lungs if lungs.any() else None)


@lru_cache(maxsize=1)
def _lungmask(weights: str) -> Any:
    """The model, loaded once per process."""
    from lungmask import LMInferer

    return LMInferer(modelpath=weights, force_cpu=True, batch_size=8, tqdm_disable=True)
