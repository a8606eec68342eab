"""Choices of command-line options, and names of files.

Imports nothing heavy, so that ``--help`` answers at once.
"""

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)

#: Libraries that can run the network.
BACKENDS = ("torch", "onnx", "openvino")
#: Methods of finding the lungs.
LUNG_SOURCES = ("auto", "classical", "lungmask", "detector")
#: Rules that combine the answers of several models.
ENSEMBLE_RULES = ("mean", "vote")
#: Slices in one pass; more are no faster on a CPU and take more memory.
BATCH_SIZE = 4
#: Endings of files that hold a whole study, by format.
NIFTI, NRRD, META_IMAGE = (".nii", ".nii.gz"), (".nrrd", ".nhdr"), (".mha", ".mhd")
TAR = (".tar", ".tar.gz", ".tgz")
ARCHIVES = (".zip", *TAR)
STUDY_FILES = (*NIFTI, *NRRD, *META_IMAGE, *ARCHIVES)
#: The same in words.
STUDY_ENDINGS = f"{', '.join(STUDY_FILES[:-1])} or {STUDY_FILES[-1]}"


def positive(text: str) -> int:
    """Type of an argument: a whole number from 1."""
    return _number(text, int, lambda value: value >= 1, "a whole number above 0")


def positive_number(text: str) -> float:
    """Type of an argument: a number above 0."""
    return _number(text, float, lambda value: value > 0, "a number above 0")


def share(text: str) -> float:
    """Type of an argument: a number from 0 to 1."""
    return _number(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _number(text: str, kind: type[Number], fits: Callable[[Number], bool], what: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"must be {what}, got {text}")
    return value
