"""The reference of the conversion benchmark: decode each DICOM file, encode the same PNG.

It has its own module, so that its workers import no more than they need.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pydicom

from pe_unified.ct.hu import encode_slice_png


def decode_and_encode(task: tuple[Path, Path]) -> None:
    """Read one slice with pydicom, rescale, write it as PNG."""
    cv2.setNumThreads(1)
    source, target = task
    dataset = pydicom.dcmread(source)
    hu = dataset.pixel_array.astype(np.int32) * int(dataset.RescaleSlope)
    hu += int(dataset.RescaleIntercept)
    target.write_bytes(encode_slice_png(hu))


def convert_bare(files: list[Path], out: Path, workers: int) -> None:
    """Convert all files into one folder, with this number of processes."""
    out.mkdir()
    tasks = [(path, out / f"{index}.png") for index, path in enumerate(files)]
    if workers == 1:
        for task in tasks:
            decode_and_encode(task)
        return
    with ProcessPoolExecutor(workers, get_context("forkserver")) as pool:
        for _ in pool.map(decode_and_encode, tasks, chunksize=8):
            pass
