"""Opens a study from a folder, a file or an archive."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.ct.archive import (
    ArchiveLimits,
    is_gzipped,
    unpack_gzip,
    unpack_tar,
    unpack_zip,
)
from pe_unified.ct.companions import is_companion
from pe_unified.ct.dicom import Rescale, read_hu
from pe_unified.ct.grids import Turn, placement_of, turn_of
from pe_unified.ct.headers import (
    FolderScan,
    SliceHeader,
    agreed,
    list_files,
    read_headers,
    scan_files,
)
from pe_unified.ct.meta_image import open_meta
from pe_unified.ct.series import SeriesChoice, choose_series
from pe_unified.ct.stack import stack_slices
from pe_unified.ct.study import CTStudy, FileGrid, Spacing
from pe_unified.ct.temporary_folder import scratch_folder
from pe_unified.ct.volume_files import (
    RawArray,
    level_to_hu,
    nifti_is_placed,
    open_nifti,
    open_nrrd,
    volume_shift,
)
from pe_unified.errors import COPY_AGAIN, COPY_OR_REMOVE, DataError
from pe_unified.options import ARCHIVES, META_IMAGE, NIFTI, NRRD

_OTHER_ARCHIVES = (".rar", ".7z", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_Choose = Callable[[Sequence[SliceHeader], str], SeriesChoice]


@contextmanager
def open_study(
    path: str | os.PathLike,
    series_uid: str | None = None,
    limits: ArchiveLimits | None = None,
    study_uid: str | None = None,
) -> Iterator[CTStudy]:
    """Open a study: a folder of DICOM slices, a DICOM file of one or many, or a file with one of
    the endings of :data:`~pe_unified.options.STUDY_FILES`: a volume, or an archive of either.

    Files that have to be unpacked are in a temporary folder until the study is closed.

    Args:
        path: folder or file.
        series_uid: the series to take if there are several (see ``choose_series``).
        limits: for unpacking an archive.
        study_uid: the study to take if there are several, or ``newest`` (see ``choose_study``).

    Raises:
        SeveralStudies: several patients or dates, and none was selected.
        DataError: nothing there, unreadable, or no axial CT.
    """
    with scratch_folder() as scratch:
        try:
            yield open_into(Path(path), scratch, series_uid, limits, study_uid)
        except DataError as error:
            raise _as_packed(Path(path), error, scratch) from error


def open_into(
    path: Path,
    scratch: Path,
    series_uid: str | None = None,
    limits: ArchiveLimits | None = None,
    study_uid: str | None = None,
) -> CTStudy:
    """As :func:`open_study`; unpacked files are in ``scratch``, an empty folder of the caller,
    which must exist as long as the study is read."""
    choose = partial(choose_series, series_uid=series_uid, study=study_uid)
    try:
        study = _open(path, choose, scratch, limits)
    except DataError as error:
        raise _as_packed(path, error, scratch) from error
    return replace(study, broken=tuple(_as_packed(path, each, scratch) for each in study.broken))


def open_slices(files: Sequence[Path], where: Path, series_uid: str | None = None) -> CTStudy:
    """Find the scan among DICOM files of one study, in any folders.

    Args:
        files: single slices or multi-frame objects, in the order of their names.
        where: name of the study in errors.
        series_uid: take this series (see ``choose_series``).

    Raises:
        DataError: none of them is a slice of an axial CT.
    """
    choose = partial(choose_series, series_uid=series_uid)
    return _from_series(scan_files(files), where, choose)


def _as_packed(path: Path, error: DataError, scratch: Path) -> DataError:
    """The error with the file's path in the archive instead of its temporary path."""
    if not Path(error.where).is_relative_to(scratch):
        return error
    unpacked = Path(error.where).relative_to(scratch)
    return error.at(path.joinpath(*unpacked.parts[1:]))


def _open(path: Path, choose: _Choose, scratch: Path, limits: ArchiveLimits | None) -> CTStudy:
    name = path.name.lower()
    if path.is_dir():
        return _from_folder(path, choose, scratch, limits)
    if not path.exists():
        raise DataError(path, "no such file or folder", "check the path")
    if not path.is_file():
        raise DataError(path, "neither a file nor a folder", "check the path")
    if name.endswith(NIFTI):
        return _from_nifti(path, scratch, limits or ArchiveLimits())
    if name.endswith(NRRD):
        return _from_raw(path, *open_nrrd(path, scratch, limits or ArchiveLimits()))
    if name.endswith(META_IMAGE):
        return _from_raw(path, *open_meta(path, scratch, limits or ArchiveLimits()))
    if name.endswith(_OTHER_ARCHIVES):
        reason, cure = "an archive of another kind", "unpack it, or pack it as .zip or .tar.gz"
        raise DataError(path, reason, cure)
    if name.endswith(ARCHIVES):
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        (unpack_zip if name.endswith(".zip") else unpack_tar)(path, unpacked, limits)
        return replace(_open(unpacked, choose, scratch, limits), source=path)
    plain = _unpacked(path, scratch / path.name, limits or ArchiveLimits())
    return _from_series(FolderScan(read_headers(plain)), path, choose)


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith((*NIFTI, *NRRD, *META_IMAGE))


def _unpacked(path: Path, target: Path, limits: ArchiveLimits) -> Path:
    """The path of a slice file after decompressing it, if it was gzipped."""
    if path.suffix.lower() != ".gz" or is_companion(path) or not is_gzipped(path):
        return path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        unpack_gzip(path, target, limits)
    except DataError:
        target.unlink(missing_ok=True)
        raise
    return target


def _all_unpacked(
    folder: Path, files: Sequence[Path], target: Path, limits: ArchiveLimits
) -> tuple[list[Path], list[DataError]]:
    """Files of a folder, decompressed; and errors of those that cannot be decompressed."""
    plain, broken, left = [], [], limits.total_bytes
    for path in files:
        place = target / path.relative_to(folder)
        try:
            plain.append(_unpacked(path, place, replace(limits, total_bytes=left)))
        except DataError as error:
            broken.append(error)
        else:
            left -= place.stat().st_size if plain[-1] == place else 0
    return plain, broken


def _from_folder(
    folder: Path, choose: _Choose, scratch: Path, limits: ArchiveLimits | None
) -> CTStudy:
    """The series of a folder; if it has no slices, its only volume file."""
    files = list_files(folder)
    plain, broken = _all_unpacked(folder, files, scratch / "plain", limits or ArchiveLimits())
    scan = scan_files(plain)
    scan.broken += broken
    volumes = [file for file in files if _is_volume(file)]
    if not scan.headers and len(volumes) == 1:
        volume = _open(volumes[0], choose, scratch, limits)
        return replace(volume, broken=tuple(scan.broken))
    if not scan.headers and volumes:
        reason = f"{len(volumes)} volume files, and no DICOM slice"
        raise DataError(folder, reason, "point to the one that is the CT")
    if scan.broken and not scan.headers:
        raise scan.broken[0]
    packed = [file for file in files if file.name.lower().endswith((*ARCHIVES, *_OTHER_ARCHIVES))]
    if packed and not scan.headers:
        other = packed[0].name.lower().endswith(_OTHER_ARCHIVES)
        cure = "unpack it" if other else "unpack it, or point to it"
        raise DataError(packed[0], "an archive in a folder without DICOM slices", cure)
    return _from_series(scan, folder, choose)


def _from_series(scan: FolderScan, where: Path, choose: _Choose) -> CTStudy:
    choice = choose(scan.headers, os.fspath(where))
    notes = [choice.reason] if choice.reason else []
    notes += choice.notes
    if scan.broken:
        notes.append(f"left out {len(scan.broken)} files that could not be read")
    if scan.ignored:
        notes.append(f"left out {len(scan.ignored)} files that are no slices")
    return replace(
        _from_stack(choice.slices, notes, where),
        series=choice.name,
        series_uids=choice.uids,
        broken=tuple(scan.broken),
    )


def _from_stack(headers: Sequence[SliceHeader], notes: Sequence[str], where: Path) -> CTStudy:
    stack = stack_slices(headers)
    slices = stack.slices
    shape = (len(slices), agreed(slices, "rows"), agreed(slices, "cols"))

    return CTStudy(
        source=where,
        shape=shape,
        spacing_mm=stack.spacing_mm,
        origin_mm=stack.origin_mm,
        direction=stack.direction,
        step_mm=stack.step_mm,
        z_mm=stack.z_mm,
        read=partial(_read_slice, slices, stack.rescale, shape[1:]),
        files=tuple(header.path for header in slices),
        frames=tuple(header.frame.number if header.frame else None for header in slices),
        sop_uids=tuple(header.sop_uid for header in slices),
        study_uid=agreed(slices, "study_uid"),
        series_uid=agreed(slices, "series_uid"),
        patient_id=agreed(slices, "patient_id"),
        notes=(*notes, *stack.notes()),
        missing_slices=stack.missing,
        places_mm=stack.places_mm,
        thickness_mm=agreed(slices, "thickness"),
        uneven_steps=stack.uneven,
        placed=stack.placed,
        contradictions=stack.contradictions,
    )


def _read_slice(
    slices: Sequence[SliceHeader], rescale: Rescale, size: tuple[int, int], index: int
) -> np.ndarray:
    header = slices[index]
    level = read_hu(header.path, header.frame, rescale)
    if level.shape != size:
        reason = f"pixels {level.shape}, the rest of the series {size}"
        raise DataError(header.path, reason, COPY_OR_REMOVE)
    return level


def _from_raw(path: Path, raw: RawArray, affine: np.ndarray | None) -> CTStudy:
    # Mapped again for every slice, so that pages already read do not stay in memory.
    return _from_array(path, raw.shape, affine, raw.dtype, raw.open, raw.placed)


def _from_nifti(path: Path, scratch: Path, limits: ArchiveLimits) -> CTStudy:
    plain = path
    if path.name.lower().endswith(".gz"):
        plain = scratch / "volume.nii"
        unpack_gzip(path, plain, limits)
    proxy, affine, dtype = open_nifti(plain, path)
    opened = partial(_itself, proxy)
    return _from_array(path, proxy.shape, affine, dtype, opened, nifti_is_placed(plain))


def _itself(array: Any) -> Any:
    return array


def _from_array(
    path: Path,
    shape: tuple[int, ...],
    affine: np.ndarray | None,
    dtype: str,
    opened: Callable[[], Any],
    says_place: bool,
) -> CTStudy:
    """A study from an array (i, j, k) that ``opened`` returns."""
    if np.dtype(dtype).itemsize == 1:
        reason = "8-bit values, too coarse for Hounsfield units"
        raise DataError(path, reason, "export the CT itself, not a picture of it")
    turn = turn_of(affine)
    slices, rows, cols = (shape[axis] for axis in turn.axes)

    shift = volume_shift(_stored(path, opened, turn, index) for index in range(slices))
    notes = [f"no value is negative: {-shift} HU subtracted"] if shift else []
    spacing: Spacing = (None, None, None)
    origin, direction, step = (0.0, 0.0, 0.0), np.eye(3), (0.0, 0.0, 1.0)
    z: tuple[float | None, ...] = (None,) * slices
    if affine is not None:
        placed = placement_of(affine, turn, shape)
        spacing, origin, direction = placed.spacing_mm, placed.origin_mm, placed.direction
        step = placed.step_mm
        start = float(np.dot(origin, direction[:, 2]))
        z = tuple(round(start + placed.spacing_mm[2] * index, 4) for index in range(slices))
    return CTStudy(
        source=path,
        shape=(slices, rows, cols),
        spacing_mm=spacing,
        origin_mm=origin,
        direction=direction,
        step_mm=step,
        z_mm=z,
        read=partial(_read_level, path, opened, turn, shift),
        files=(path,),
        notes=tuple(notes),
        grid=FileGrid((shape[0], shape[1], shape[2]), affine, turn),
        placed=says_place and affine is not None,
    )


def _stored(path: Path, opened: Callable[[], Any], turn: Turn, index: int) -> np.ndarray:
    try:
        return turn.level(opened(), index)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, f"slice {index} cannot be read", COPY_AGAIN, error) from error


def _read_level(
    path: Path, opened: Callable[[], Any], turn: Turn, shift: int, index: int
) -> np.ndarray:
    return level_to_hu(_stored(path, opened, turn, index), shift)
