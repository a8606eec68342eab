"""What command lines offer to choose from, and names of files; light, so that ``--help`` answers
at once."""

import argparse

#: What computes the network.
BACKENDS = ("torch", "onnx", "openvino")
#: What finds the lungs.
LUNG_SOURCES = ("auto", "classical", "lungmask", "detector")
#: How the answers of several models become one.
ENSEMBLE_RULES = ("mean", "vote")
#: Slices in one pass; more are no faster on a CPU and take more memory.
BATCH_SIZE = 4
#: Endings of files that are a study by themselves, by what they hold.
NIFTI, NRRD, META_IMAGE = (".nii", ".nii.gz"), (".nrrd", ".nhdr"), (".mha", ".mhd")
TAR = (".tar", ".tar.gz", ".tgz")
STUDY_FILES = (*NIFTI, *NRRD, *META_IMAGE, ".zip", *TAR)
#: The same in words.
STUDY_ENDINGS = f"{', '.join(STUDY_FILES[:-1])} or {STUDY_FILES[-1]}"
#: A report as data, written last of its files: where it is, the rest is whole.
REPORT = "report.json"


def positive(text: str) -> int:
    """A whole number from 1, as the type of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def positive_number(text: str) -> float:
    """A number above 0, as the type of an argument."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value:g}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, as the type of an argument."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {value}")
    return value
