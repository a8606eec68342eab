"""Sources of a study's lungs: thresholds, or a trained model if there is one.

lungmask (Hofmanninger et al. 2020, https://doi.org/10.1186/s41747-020-00173-2) was trained on lungs
with many diseases, so it also finds lungs with fluid instead of air. It is used if it is installed
(``pip install -e '.[lungs]'``) and its weights are in torch's folder for downloads; nothing is
downloaded here.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import block_reduce

from pe_unified.ct.lungs import search_grid
from pe_unified.errors import CheckpointError, pip_install
from pe_unified.inference.reading import SliceReader
from pe_unified.options import LUNG_SOURCES

#: File name of the model for any pathology in lungmask's releases.
WEIGHTS = "unet_r231-d5d2fc3d.pth"


def weights_file() -> Path:
    """Path of lungmask's weights, in torch's folder for downloads."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def lung_source(wanted: str, detector: bool = False) -> str:
    """The source to use: ``"classical"``, ``"lungmask"`` or ``"detector"``.

    Args:
        wanted: one of :data:`~pe_unified.options.LUNG_SOURCES`; ``"auto"`` takes the lung detector
            if there is one, else lungmask if it is installed with weights.
        detector: whether there is a lung detector.

    Raises:
        CheckpointError: lungmask is requested but not installed or without weights, or a lung
            detector is requested but there is none.
        ValueError: no such source.
    """
    if wanted not in LUNG_SOURCES:
        raise ValueError(f"lungs come from {', '.join(LUNG_SOURCES)}, not '{wanted}'")
    if wanted == "detector" and not detector:
        raise CheckpointError(
            "--lungs detector: no detector is given; name one with --lung-checkpoint, or use an "
            "ensemble that contains one"
        )
    if detector and wanted in ("auto", "detector"):
        return "detector"
    installed = importlib.util.find_spec("lungmask") is not None
    if wanted == "lungmask" and not installed:
        raise CheckpointError(f"--lungs lungmask: not installed; {pip_install('lungs')}")
    if wanted == "lungmask" and not weights_file().is_file():
        raise CheckpointError(
            f"--lungs lungmask: no weights at {weights_file()}; download {WEIGHTS} from the "
            "releases of lungmask (JoHof/lungmask) on a machine with internet, and copy it there"
        )
    usable = installed and weights_file().is_file()
    return "lungmask" if wanted != "classical" and usable else "classical"


def learned_lungs(reader: SliceReader) -> np.ndarray | None:
    """The lungs found by lungmask: bool, on the search grid of a study; None without lungs.

    Computed on the CPU, where any study fits into memory.
    """
    study = reader.study
    row, col, step = search_grid(study.shape[1:], study.spacing_mm)
    slices = np.stack([reader.hu(index) for index in range(0, len(study), step)])
    found = _lungmask(str(weights_file())).apply(slices) > 0
    lungs = block_reduce(found, (1, row, col), np.mean) > 0.5
    return lungs if lungs.any() else None


@lru_cache(maxsize=1)
def _lungmask(weights: str) -> Any:
    """The model, loaded once per process."""
    from lungmask import LMInferer

    return LMInferer(modelpath=weights, force_cpu=True, batch_size=8, tqdm_disable=True)
