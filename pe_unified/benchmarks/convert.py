"""Converting DICOM studies, against bare workers that only decode and encode.

The studies are generated, with noisy slices, masks and labels, in the layouts of FUMPE and RSNA.
The reference is the same number of processes that read each DICOM file with pydicom, rescale,
encode the same PNG and write it: no sorting, no labels, no lungs, no checks, no resuming. Both
times include starting the processes.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from scipy.io import savemat

from pe_unified.benchmarks.bare_convert import convert_bare
from pe_unified.benchmarks.common import side_by_side
from pe_unified.converters.contract.schema import EXAM_LABELS
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.csv_files import csv_text
from pe_unified.files import write_text

SYNTAXES = {"plain": ExplicitVRLittleEndian, "rle": RLELossless}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        root = Path(folder)
        files = _write_fumpe(root / "fumpe", args)
        rsna_files = _write_rsna(root / "rsna", files, args)
        sets: tuple[tuple[str, Callable, list[Path]], ...] = (
            ("fumpe", Fumpe, files),
            ("rsna", Rsna, rsna_files),
        )
        for workers in args.workers:
            for name, converter, paths in sets:
                ours, reference = side_by_side(
                    lambda c=converter, n=name, w=workers: _ours(c(root / n), root / "out", w),
                    lambda p=paths, w=workers: _bare(p, root / "out", w),
                    args.repeats,
                )
                size = f"{args.patients} x {args.slices} slices of {args.size} x {args.size}"
                rows.append(
                    {
                        "case": f"{name}, {size}, {args.syntax}, {workers} workers",
                        "ours": 1000 * ours / len(paths),
                        "reference": 1000 * reference / len(paths),
                        "unit": "ms per slice",
                    }
                )
    return rows


def _ours(converter: Any, out: Path, workers: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    report = convert(converter, out, RunOptions(workers=workers, quiet=True))
    assert report["totals"]["skipped"] == 0, report


def _bare(files: list[Path], out: Path, workers: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    convert_bare(files, out, workers)


def _chest(size: int, rng: np.random.Generator) -> np.ndarray:
    """HU of a slice with air, body and lungs, without noise."""
    ys, xs = (np.mgrid[:size, :size] / size - 0.5) * 2
    hu = np.where((ys / 0.7) ** 2 + (xs / 0.95) ** 2 < 1, 40, -1000)
    for side in (-0.45, 0.45):
        hu[(ys / 0.5) ** 2 + ((xs - side) / 0.32) ** 2 < 1] = -850
    texture = rng.normal(0, 60, (size // 8, size // 8)).astype(np.float32)
    return hu + cv2.resize(texture, (size, size), interpolation=cv2.INTER_CUBIC)


def _slices(args: argparse.Namespace, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """HU and mask of each slice; the first quarter of the slices has vessels with emboli."""
    rng = np.random.default_rng(seed)
    chest = _chest(args.size, rng)
    for k in range(args.slices):
        hu, mask = chest.copy(), np.zeros(chest.shape, dtype=np.uint8)
        if 4 * k < args.slices:
            for _ in range(2):
                centre = tuple(int(v) for v in rng.integers(args.size // 3, args.size // 2, 2))
                radius = args.size // 60 + 2
                vessel = cv2.circle(np.zeros_like(mask), centre, 2 * radius, 1, -1)
                cv2.circle(mask, centre, radius, 1, -1)
                hu[(vessel > 0) & (mask == 0)] = 350
            hu[mask > 0] = 60
        yield hu + rng.normal(0, 20, hu.shape), mask


def _dataset(hu: np.ndarray, patient: int, k: int, syntax: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"1.2.3.{patient}.1.{k + 1}"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{patient}", f"1.2.3.{patient}.1"
    dataset.PatientID, dataset.Modality, dataset.InstanceNumber = f"P{patient}", "CT", k + 1
    dataset.ImagePositionPatient = [-180.0, -180.0, 1.25 * k]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [360 / len(hu), 360 / len(hu)]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.Rows, dataset.Columns = hu.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = (hu + 1024).clip(0, 4095).astype(np.uint16).tobytes()
    if SYNTAXES[syntax] != ExplicitVRLittleEndian:
        dataset.compress(SYNTAXES[syntax])
    return dataset


def _write_fumpe(raw: Path, args: argparse.Namespace) -> list[Path]:
    (raw / "GroundTruth").mkdir(parents=True)
    files = []
    for patient in range(1, args.patients + 1):
        folder = raw / "CT_scans" / f"PAT{patient:03d}"
        folder.mkdir(parents=True)
        masks = []
        for k, (hu, mask) in enumerate(_slices(args, patient)):
            files.append(folder / f"D{k + 1:04d}.dcm")
            _dataset(hu, patient, k, args.syntax).save_as(files[-1], enforce_file_format=True)
            masks.append(mask)
        path = raw / "GroundTruth" / f"{folder.name}.mat"
        savemat(path, {"Mask": np.stack(masks, axis=2)}, do_compression=True)
    return files


def _write_rsna(raw: Path, files: list[Path], args: argparse.Namespace) -> list[Path]:
    """The same files, linked into the other layout."""
    raw.mkdir()
    linked = []
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "pe_present_on_image")
    rows = []
    for path in files:
        study, k = path.parent.name, int(path.stem[1:]) - 1
        target = raw / "train" / study / f"{study}-1" / f"{study}-{k}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(path)
        linked.append(target)
        uids = (study, f"{study}-1", f"{study}-{k}", int(4 * k < args.slices))
        rows.append({**dict.fromkeys(EXAM_LABELS, 0), **dict(zip(names, uids, strict=True))})
    write_text(raw / "train.csv", csv_text([*names, *EXAM_LABELS], rows))
    return linked
