"""The files of a report, written so that there are all of them or none."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pe_unified.ct.errors import DataError
from pe_unified.inference.dicom_objects import FINDINGS, SEGMENTATION, write_dicom
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.mask_file import write_mask
from pe_unified.inference.page import write_page
from pe_unified.inference.reading import SliceReader

#: Written last: where it is, the rest is whole.
REPORT = "report.json"


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; at the end its files move into ``out``, the report last.

    Nothing is left of it where the work inside fails.

    Raises:
        DataError: ``out`` cannot be written to, or the disk is full.
    """
    partial = out / f".part-{os.getpid()}"
    cure = "choose another --out, or make room"
    try:
        partial.mkdir(parents=True)
        (partial / "probe").write_bytes(b"\0")
        (partial / "probe").unlink()
    except OSError as error:
        raise DataError(out, f"cannot be written to ({error.strerror})", cure) from error
    try:
        yield partial
        for name in (REPORT, SEGMENTATION, FINDINGS):  # not every study has all of them
            (out / name).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == REPORT):
            os.replace(path, out / path.name)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.strerror is None:
            raise
        raise DataError(out, f"cannot be written to ({error.strerror})", cure) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_files(
    folder: Path,
    report: Mapping[str, Any],
    reader: SliceReader,
    lesions: Sequence[Lesion],
    renamed: Callable[[str], str] = str,
) -> None:
    """``report.html``, ``slices.csv``, ``mask.nii.gz``; for DICOM input also ``findings.sr.dcm``
    and, where there is a mask, ``mask.seg.dcm``.

    Args:
        folder: to write into.
        report: what is said of the study.
        reader: gives the slices.
        lesions: as in the report, with their pixels.
        renamed: the UIDs that stand for those of the study in the DICOM objects.
    """
    study = reader.study
    write_slices(folder / "slices.csv", report["slices"])
    write_page(folder / "report.html", report, reader, lesions)
    if study.sop_uids:
        write_dicom(folder, report, study, lesions, renamed)
    write_mask(folder / "mask.nii.gz", study, {lesion.number: lesion.pixels for lesion in lesions})


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """``report.json``."""
    (folder / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def write_slices(path: Path, slices: Sequence[Mapping[str, Any]]) -> None:
    """One row per slice: index, sop_uid, z_mm, probability, examined, embolus_pixels, boxes and
    the highest score of a box."""
    same = ("index", "sop_uid", "z_mm", "probability", "embolus_pixels")
    with path.open("w", newline="") as file:
        names = (*same[:4], "examined", same[4], "boxes", "highest_box_score")
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for each in slices:
            scores = [box["score"] for box in each["boxes"]]
            writer.writerow(
                {
                    **{name: each[name] for name in same},
                    "examined": int(each["examined"]),
                    "boxes": len(scores),
                    "highest_box_score": max(scores, default=None),
                }
            )
