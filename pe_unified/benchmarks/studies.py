"""Studies for measurements: synthetic ones, longer ones, shorter ones."""

import subprocess
import sys
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from pe_unified.ct.opening import open_study


def painted_studies(folder: Path, studies: int, slices: int, size: int = 512) -> Path:
    """A folder of synthetic studies with emboli, each a folder of DICOM files."""
    words = ["phantom", folder / "raw", "--quiet", "--layout", "fumpe", "--positive-rate", 1]
    words += ["--studies", studies, "--slices", slices, "--size", size]
    subprocess.run([sys.executable, "-m", "pe_unified", *map(str, words)], check=True)
    return folder / "raw" / "CT_scans"


def painted(folder: Path, slices: int) -> Path:
    """A synthetic study of 512 x 512 with emboli, as DICOM files."""
    return next(painted_studies(folder, 1, slices).iterdir())


def lengthened(study: Path, folder: Path, slices: int) -> Path:
    """A study of so many, thinner slices: those of another study, repeated up and down."""
    with open_study(study) as opened:
        files, step = opened.files, opened.known_spacing()[2]
    folder.mkdir()
    thinner = step * len(files) / slices
    for number in range(slices):
        place = number % (2 * len(files))
        dataset = pydicom.dcmread(files[min(place, 2 * len(files) - 1 - place)])
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, f"{number * thinner:.4f}"]
        dataset.SliceThickness = f"{thinner:.4f}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def first_half(study: Path, folder: Path) -> Path:
    """The lower half of a study's slices, as links."""
    with open_study(study) as opened:
        files = opened.files[: len(opened) // 2]
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").symlink_to(Path(file).resolve())
    return folder
