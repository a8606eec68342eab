"""Studies for measurements: synthetic ones, longer ones, shorter ones, converted sets of them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from pe_unified.ct.opening import open_study


def painted_studies(folder: Path, studies: int, slices: int, size: int = 512) -> Path:
    """A folder of synthetic studies with emboli, each a folder of DICOM files."""
    words = ["phantom", folder / "raw", "--layout", "fumpe", "--positive-rate", 1]
    _run(*words, "--studies", studies, "--slices", slices, "--size", size)
    return folder / "raw" / "CT_scans"


@contextmanager
def converted_set(
    given: Path | None, layout: str, studies: int, slices: int, split: tuple[float, float, float]
) -> Iterator[Path]:
    """Yield a converted set: the given one, or else one that is painted, 512 x 512, and removed."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        raw, converted = Path(folder, "raw"), Path(folder, "pe")
        words = ["phantom", raw, "--layout", layout, "--size", 512, "--workers", 2]
        _run(*words, "--studies", studies, "--slices", slices)
        _run("convert", layout, raw, converted, "--split", *split)
        yield converted


def _run(*words: str | Path | float) -> None:
    subprocess.run([sys.executable, "-m", "pe_unified", *map(str, words), "--quiet"], check=True)


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
