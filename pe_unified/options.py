"""Choices of command-line options, and names of files.

Imports nothing heavy, so that ``--help`` answers at once.
"""

import argparse

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
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return value


def positive_number(text: str) -> float:
    """Type of an argument: a number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value:g}")
    return value


def share(text: str) -> float:
    """Type of an argument: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text}")
    return value
