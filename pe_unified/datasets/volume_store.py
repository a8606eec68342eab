"""Volumes on an isotropic grid over the lungs, kept on disk so that patches load fast.

Resampling a study takes seconds, reading a patch milliseconds. A folder has two arrays per study,
computed when the study is first used: ``<patient>-<key>.hu.npy``, int16 Hounsfield units, and
``<patient>-<key>.labels.npy``, uint8, with one bit for embolus and one for artery. Keys change with
anything that the array depends on. All files may be removed at any time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_unified.ct.lung_crop import lung_grid
from pe_unified.ct.structures import ARTERIES, read_structures
from pe_unified.ct.volume_grid import VolumeGrid, levels_of
from pe_unified.datasets.volume_records import VolumeRecord
from pe_unified.errors import DataError
from pe_unified.files import appearing
from pe_unified.options import NIFTI

#: Bits of the labels.
EMBOLUS, ARTERY = 1, 2
#: Increased when the same study would give other arrays.
_VERSION = 1
_KEY_LENGTH = 16
#: A voxel has a label from this share on.
_HALF = 0.5


@dataclass(frozen=True)
class VolumeStore:
    """The arrays of the studies of a set.

    Attributes:
        folder: folder of the arrays.
        step_mm: spacing of the grid.
        structures: folder with artery masks, one folder or label map per patient or study; None
            without masks.
    """

    folder: Path
    step_mm: float
    structures: Path | None = None

    def grid(self, record: VolumeRecord) -> VolumeGrid:
        """The grid over the lungs of a study."""
        shares = [each["lung_share"] or 0.0 for each in record.slices]
        return lung_grid(record.study(), record.slices[0]["lung_box"], shares, self.step_mm)

    def hu(self, record: VolumeRecord) -> np.ndarray:
        """int16 (levels, rows, cols), Hounsfield units, memory-mapped."""
        digest = record.digest_of_images()
        digest.update(repr((_VERSION, self.step_mm)).encode())

        def levels(grid: VolumeGrid) -> Iterator[np.ndarray]:
            for level in levels_of(record.study().slice_hu, grid):
                yield np.rint(level).astype(np.int16)

        return self._stored(record, digest.hexdigest(), "hu", np.int16, levels)

    def labels(self, record: VolumeRecord) -> np.ndarray:
        """uint8 (levels, rows, cols), memory-mapped: sum of :data:`EMBOLUS` and :data:`ARTERY`.

        Raises:
            DataError: the artery masks do not belong to this study.
        """
        found = self.structures_of(record)
        digest = record.digest_of_images()
        masks = [each["masks"] for each in record.slices]
        places = [(each["position_mm"], each["orientation"]) for each in record.slices]
        laid_over = [_told(found), places] if found else None
        digest.update(repr((_VERSION, self.step_mm, masks, laid_over)).encode())

        def levels(grid: VolumeGrid) -> Iterator[np.ndarray]:
            emboli = dict(record.masks()) if record.masks_known else {}
            nothing = np.zeros(record.study().shape[1:], dtype=np.uint8)
            arteries = self._arteries(record, found) if found else None
            of_emboli = levels_of(lambda index: emboli.get(index, nothing) > 0, grid)
            of_arteries = levels_of(arteries or (lambda index: nothing), grid)
            for embolus, artery in zip(of_emboli, of_arteries, strict=True):
                yield (EMBOLUS * (embolus >= _HALF) + ARTERY * (artery >= _HALF)).astype(np.uint8)

        return self._stored(record, digest.hexdigest(), "labels", np.uint8, levels)

    def structures_of(self, record: VolumeRecord) -> Path | None:
        """Path of the masks of a study's structures; None if there are none."""
        if self.structures is None:
            return None
        for name in (record.folder.name, record.patient_id, record.study_uid):
            places = [self.structures / f"{name}{ending}" for ending in ("", *NIFTI)]
            for place in places if name else ():
                if place.exists():
                    return place
        return None

    @staticmethod
    def _arteries(record: VolumeRecord, place: Path) -> Callable[[int], np.ndarray]:
        """A function from slice index to the artery mask, bool (rows, cols)."""
        study = record.study()
        if not study.placed:
            cure = "convert the set again, with this version"
            raise DataError(
                record.folder, "the set does not give the positions of its slices", cure
            )
        masks = read_structures(place, study).masks
        arteries = [masks[name] for name in ARTERIES if name in masks]
        if not arteries:
            reason = f"holds none of {', '.join(ARTERIES)}"
            raise DataError(place, reason, "give masks of arteries, or leave the folder out")

        def level(index: int) -> np.ndarray:
            found = np.zeros(study.shape[1:], dtype=bool)
            for mask in arteries:
                first, row, col = mask.start
                if first <= index < mask.stop[0]:
                    own = mask.mask[index - first]
                    found[row : row + own.shape[0], col : col + own.shape[1]] |= own
            return found

        return level

    def _stored(
        self,
        record: VolumeRecord,
        digest: str,
        kind: str,
        dtype: type,
        levels: Callable[[VolumeGrid], Iterator[np.ndarray]],
    ) -> np.ndarray:
        """The array of a key; computed if it is missing or damaged."""
        path = self.folder / f"{record.folder.name}-{digest[:_KEY_LENGTH]}.{kind}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
            grid = self.grid(record)
        try:
            with appearing(path) as partial:
                whole = np.lib.format.open_memmap(partial, "w+", dtype, grid.shape)
                for index, level in enumerate(levels(grid)):
                    whole[index] = level
                whole.flush()
                del whole
        except DataError:
            raise
        except OSError as error:
            cure = "set store=FOLDER, a folder with enough free space for the volumes"
            raise DataError(self.folder, "volumes cannot be stored there", cure, error) from error
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _told(place: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files of structures, without reading them."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
