"""Masks of the pulmonary arteries of the studies of a set."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_unified.ct.structures import ARTERIES, names_file, read_structures
from pe_unified.ct.study import CTStudy
from pe_unified.datasets.stored_arrays import stored_array
from pe_unified.errors import DataError
from pe_unified.options import NIFTI


@dataclass(frozen=True, eq=False)
class ArteryMasks:
    """The artery masks of one converted study, as another program wrote them.

    Attributes:
        study: the study.
        place: folder or label map, as for :func:`~pe_unified.ct.structures.read_structures`.
    """

    study: CTStudy
    place: Path

    def identity(self) -> str:
        """Text that changes with the files' names, sizes and times, and with the slices."""
        folder = self.place.is_dir()
        files = sorted(self.place.iterdir()) if folder else [self.place, names_file(self.place)]
        stats = [(file.name, file.stat()) for file in files if file.is_file()]
        told = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        study = self.study
        positions = None if study.places_mm is None else study.places_mm.tolist()
        grid = study.shape, study.spacing_mm, study.direction.tolist(), positions
        return repr((ARTERIES, told, grid))

    def by_slice(self) -> Callable[[int], np.ndarray]:
        """A function from slice index to the mask, bool (rows, cols).

        Raises:
            DataError: the masks do not belong to the study, cannot be read, or hold no arteries.
        """
        shape = self.study.shape[1:]
        masks = read_structures(self.place, self.study).masks
        arteries = [masks[name] for name in ARTERIES if name in masks]
        if not arteries:
            reason = f"holds none of {', '.join(ARTERIES)}"
            raise DataError(self.place, reason, "give masks of arteries, or leave the folder out")

        def level(index: int) -> np.ndarray:
            found = np.zeros(shape, dtype=bool)
            for mask in arteries:
                first, row, col = mask.start
                if first <= index < mask.stop[0]:
                    own = mask.mask[index - first]
                    found[row : row + own.shape[0], col : col + own.shape[1]] |= own
            return found

        return level

    def of_slice(self, index: int, store: Path) -> np.ndarray:
        """The mask of one slice, bool (rows, cols).

        Args:
            store: folder that keeps the study's masks, one bit per pixel, so that later calls are
                fast. It may be removed at any time.

        Raises:
            DataError: as :meth:`by_slice`, or there is no space in ``store``.
        """
        slices, rows, cols = self.study.shape

        def packed() -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
            level = self.by_slice()
            levels = (np.packbits(level(index), axis=-1) for index in range(slices))
            return (slices, rows, -(-cols // 8)), levels

        digest = hashlib.sha256(self.identity().encode()).hexdigest()
        bits = stored_array(store, self.study.source.name, digest, "arteries", packed)
        return np.unpackbits(bits[index], axis=-1, count=cols).astype(bool)


def artery_masks(structures: Path | None, study: CTStudy) -> ArteryMasks | None:
    """The artery masks of a study; None if there are none.

    Args:
        structures: folder with one folder or label map per patient or study, named after it.
        study: its UID, its folder's name or its patient is looked for, in this order.

    Raises:
        DataError: there are masks, but the study has no position.
    """
    names = [study.study_uid, study.source.name, study.patient_id] if structures else []
    for name in filter(None, names):
        for place in (structures / f"{name}{ending}" for ending in ("", *NIFTI)):
            if not place.exists():
                continue
            if not study.placed:
                reason = "the set does not give the positions of its slices"
                raise DataError(study.source, reason, "convert the set again, with this version")
            return ArteryMasks(study, place)
    return None


def structures_folder(structures: str | None) -> Path | None:
    """The folder that a setting names; None without one.

    Raises:
        DataError: there is no such folder.
    """
    if structures is None:
        return None
    folder = Path(structures)
    if not folder.is_dir():
        raise DataError(folder, "no folder of structures", "check structures=FOLDER")
    return folder
