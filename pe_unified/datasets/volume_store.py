"""Volumes on an isotropic grid over the lungs, kept on disk so that patches load fast.

Resampling a study takes seconds, reading a patch milliseconds. A folder has two arrays per study,
computed when the study is first used: ``<patient>-<key>.hu.npy``, int16 Hounsfield units, and
``<patient>-<key>.labels.npy``, uint8, with one bit for embolus and one for artery. Keys change with
anything that the array depends on. All files may be removed at any time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_unified.ct.lung_crop import lung_grid
from pe_unified.ct.volume_grid import VolumeGrid, levels_of
from pe_unified.datasets.artery_masks import ArteryMasks, artery_masks
from pe_unified.datasets.stored_arrays import stored_array
from pe_unified.datasets.volume_records import VolumeRecord

#: Bits of the labels.
EMBOLUS, ARTERY = 1, 2
#: Increased when the same study would give other arrays.
_VERSION = 1
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

        def resampled() -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
            grid = self.grid(record)
            levels = levels_of(record.study().slice_hu, grid)
            return grid.shape, (np.rint(level).astype(np.int16) for level in levels)

        name = record.folder.name
        return stored_array(self.folder, name, digest.hexdigest(), "hu", resampled)

    def labels(self, record: VolumeRecord) -> np.ndarray:
        """uint8 (levels, rows, cols), memory-mapped: sum of :data:`EMBOLUS` and :data:`ARTERY`.

        Raises:
            DataError: the artery masks do not belong to this study.
        """
        arteries = self.arteries_of(record)
        digest = record.digest_of_images()
        masks = [each["masks"] for each in record.slices]
        laid_over = arteries.identity() if arteries else None
        digest.update(repr((_VERSION, self.step_mm, masks, laid_over)).encode())

        def resampled() -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
            grid = self.grid(record)
            emboli = dict(record.masks()) if record.masks_known else {}
            nothing = np.zeros(record.study().shape[1:], dtype=np.uint8)
            both = zip(
                levels_of(lambda index: emboli.get(index, nothing) > 0, grid),
                levels_of(arteries.by_slice() if arteries else lambda index: nothing, grid),
                strict=True,
            )
            return grid.shape, (
                (EMBOLUS * (embolus >= _HALF) + ARTERY * (artery >= _HALF)).astype(np.uint8)
                for embolus, artery in both
            )

        name = record.folder.name
        return stored_array(self.folder, name, digest.hexdigest(), "labels", resampled)

    def arteries_of(self, record: VolumeRecord) -> ArteryMasks | None:
        """The artery masks of a study; None if there are none."""
        return artery_masks(self.structures, record.study())
