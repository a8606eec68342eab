"""Survey of a study on a 3 mm grid: body, lungs, crop and relevant slices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pe_unified.ct.lung_boxes import crop_of_boxes
from pe_unified.ct.lungs import (
    LUNG_MARGIN_MM,
    ChestGrid,
    Spacing,
    box_of_lungs,
    find_lungs,
    grid_spacing,
    lungs_of_slice,
    middle_beside_one_lung,
    search_grid,
    shrink_slice,
)
from pe_unified.ct.study import CTStudy
from pe_unified.inference.lung_sources import learned_lungs, lung_source
from pe_unified.inference.reading import SliceReader
from pe_unified.progress import track

if TYPE_CHECKING:
    from pe_unified.inference.lung_finder import LungFinder

#: Slices within this distance of the lungs are also read, mm.
_BEYOND_MM = 15.0


@dataclass(frozen=True, eq=False)
class Survey:
    """The search grid of a study. Its axes are (slices, rows, cols), like those of the study.

    Attributes:
        hu: int16, Hounsfield units, means over the pixels of a cell.
        body: bool, the body and everything inside it.
        lungs: bool, lungs with their small vessels; None if there are none.
        cell: (slices, rows, cols) of the study per cell.
        cell_mm: (row, col, slice), mm.
        box: (x, y, w, h) around the lungs in pixels of the slice; None without lungs.
        slices: the relevant slices: those of the lungs and some beyond them.
        to_left: see :attr:`~pe_unified.ct.study.CTStudy.columns_to_left`.
        gas: bool, gas outside the lungs: trachea, main bronchi, stomach, bowel.
        source: source of the lungs or of the crop.
    """

    hu: np.ndarray
    body: np.ndarray
    lungs: np.ndarray | None
    cell: tuple[int, int, int]
    cell_mm: tuple[float, float, float]
    box: tuple[int, int, int, int] | None
    slices: range
    to_left: int
    gas: np.ndarray
    source: str = "classical"

    @property
    def middle(self) -> float:
        """Column between the lungs, in pixels of the slice.

        It is the body's middle if no lung or only one is found.
        """
        if self.lungs is None:
            columns = np.flatnonzero(self.body.any(axis=(0, 1)))
            return float(columns.mean() + 0.5) * self.cell[2] if len(columns) else 0.0
        alone = middle_beside_one_lung(self.lungs, self.body)
        if alone is not None:
            return alone * self.cell[2]
        amount = self.lungs.sum(axis=(0, 1)).astype(float)
        inside = np.flatnonzero(amount)
        first, last = inside[0], inside[-1] + 1
        # The column with least lung within the middle third.
        third = (last - first) // 3
        between = amount[first + third : last - third]
        lowest = np.flatnonzero(between == between.min())
        return float(first + third + lowest.mean() + 0.5) * self.cell[2]

    def in_lungs(self, index: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Whether pixels of slice ``index`` are in the lungs: bool, one per row and column."""
        if self.lungs is None:
            return np.zeros(len(rows), dtype=bool)
        return self.lungs_near(index)[rows // self.cell[1], cols // self.cell[2]]

    def lungs_on(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """The lungs at the resolution of slice ``index``: bool of ``shape`` (rows, cols)."""
        assert self.lungs is not None
        return self.spread(self.lungs, index, shape)

    def spread(self, mask: np.ndarray, index: int, shape: tuple[int, int]) -> np.ndarray:
        """A mask of the search grid at the resolution of slice ``index``: bool of ``shape``."""
        level = mask[min(index // self.cell[0], len(mask) - 1)]
        fine = np.repeat(np.repeat(level, self.cell[1], 0), self.cell[2], 1)
        return fine[: shape[0], : shape[1]]

    def sharp_lungs(self, index: int, hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
        """The lungs on slice ``index``, refined from its pixels ``hu``: bool (rows, cols).

        Lungs from lungmask stay on the grid, because thresholds do not follow lungs with fluid.
        """
        if self.lungs is None:
            return np.zeros(hu.shape, dtype=bool)
        if self.source == "lungmask":
            return self.lungs_on(index, hu.shape)
        chest = ChestGrid(self.body, self.lungs, self.gas)
        return lungs_of_slice(hu, index, chest, self.cell[0], spacing_mm)

    def lungs_near(self, index: int) -> np.ndarray:
        """The lungs at the grid level of slice ``index``: bool."""
        assert self.lungs is not None
        return self.lungs[min(index // self.cell[0], len(self.lungs) - 1)]


def survey(
    reader: SliceReader,
    every_slice: bool = False,
    lungs_from: str = "auto",
    finder: "LungFinder | None" = None,
) -> Survey:
    """Read every slice of the search grid and find the lungs.

    Args:
        reader: reader of the study.
        every_slice: also count slices far beyond the lungs as relevant.
        lungs_from: one of :data:`~pe_unified.options.LUNG_SOURCES`.
        finder: lung detector. If it is the source, crop and slices come from its boxes, and the
            lungs, which determine sides, from thresholds.

    Raises:
        CheckpointError: the source of the lungs cannot be used.
    """
    source = lung_source(lungs_from, finder is not None)
    study = reader.study
    shape = study.shape[1:]
    row, col, step = search_grid(shape, study.spacing_mm)
    looked_at = range(0, len(study), step)
    coarse = np.stack(
        [shrink_slice(reader.hu(index), row, col) for index in track(looked_at, "reading slices")]
    )
    cell_mm = grid_spacing(shape, study.spacing_mm)
    chest = find_lungs(coarse, cell_mm)
    # Converted sets, used for training, are cropped to the lungs found by thresholds.
    cropped_to, lungs = chest.lungs, chest.lungs
    if source == "lungmask":
        lungs = learned_lungs(reader)
        cropped_to = lungs if cropped_to is None else cropped_to
    box, slices = None, range(len(study))
    if cropped_to is not None:
        box = box_of_lungs(cropped_to, chest.body, shape, study.spacing_mm, LUNG_MARGIN_MM)
    levels = np.empty(0, int) if lungs is None else np.flatnonzero(lungs.any(axis=(1, 2)))
    if source == "detector" and finder is not None:
        boxes = finder.boxes(reader, looked_at)
        shown = np.flatnonzero(~np.isnan(boxes[:, 0]))
        if len(shown):
            box, levels = _crop_to(boxes[shown], reader), shown
    if len(levels) and not every_slice:
        slices = _slices_of(levels, step, study)
    return Survey(
        hu=coarse,
        body=chest.body,
        lungs=lungs,
        cell=(step, row, col),
        cell_mm=cell_mm,
        box=box,
        slices=slices,
        to_left=study.columns_to_left,
        source=source,
        gas=chest.gas,
    )


def _slices_of(levels: np.ndarray, step: int, study: CTStudy) -> range:
    """The slices of the grid levels that show lung, and some beyond them."""
    beyond = round(_BEYOND_MM / study.known_spacing()[2])
    first = int(levels[0]) * step - beyond
    last = (int(levels[-1]) + 1) * step + beyond
    return range(max(0, first), min(len(study), last))


def _crop_to(boxes: np.ndarray, reader: SliceReader) -> tuple[int, int, int, int]:
    """(x, y, w, h) of a study's crop, with the margin of converted sets.

    ``boxes`` are those of its slices that show lung."""
    row_mm, col_mm, _ = reader.study.known_spacing()
    margin = LUNG_MARGIN_MM / row_mm, LUNG_MARGIN_MM / col_mm
    return crop_of_boxes(boxes, reader.study.shape[1:], margin)
