"""A first look at a study on a grid of 3 mm: body and lungs, and what follows from them."""

from dataclasses import dataclass

import numpy as np

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
from pe_unified.inference.lung_finder import LungFinder, crop_to
from pe_unified.inference.lung_sources import learned_lungs, lung_source
from pe_unified.inference.reading import SliceReader
from pe_unified.progress import track

#: Slices this far beyond the lungs, mm, are still looked at.
_BEYOND_MM = 15.0


@dataclass(frozen=True, eq=False)
class Survey:
    """What the search grid shows. Its axes are (slices, rows, cols), as the study's.

    Attributes:
        hu: int16, Hounsfield units, means over the pixels of a cell.
        body: bool, the body and all it encloses.
        lungs: bool, lungs with their small vessels; None where there are none.
        cell: (slices, rows, cols) of the study that go into one cell.
        cell_mm: (row, col, slice), mm.
        box: (x, y, w, h) around the lungs in pixels of the slice; None without lungs.
        slices: the slices worth looking at, those of the lungs and some beyond them.
        to_left: see :attr:`~pe_unified.ct.study.CTStudy.columns_to_left`.
        gas: bool, gas that is no lung: trachea, main bronchi, stomach, bowel.
        source: where the lungs come from, or the crop to them.
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
        """Column of the slice that lies between the lungs, in pixels.

        It is the body's middle where no lung is found, or only one.
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
        # Between the lungs there is least lung, within the middle third.
        third = (last - first) // 3
        between = amount[first + third : last - third]
        lowest = np.flatnonzero(between == between.min())
        return float(first + third + lowest.mean() + 0.5) * self.cell[2]

    def in_lungs(self, index: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Whether pixels of slice ``index`` lie in the lungs: bool, as ``rows`` and ``cols``."""
        if self.lungs is None:
            return np.zeros(len(rows), dtype=bool)
        return self.lungs_near(index)[rows // self.cell[1], cols // self.cell[2]]

    def lungs_on(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """The lungs in the pixels of slice ``index``: bool of ``shape`` (rows, cols)."""
        assert self.lungs is not None
        return self.spread(self.lungs, index, shape)

    def spread(self, mask: np.ndarray, index: int, shape: tuple[int, int]) -> np.ndarray:
        """A mask on the search grid in the pixels of slice ``index``: bool of ``shape``."""
        level = mask[min(index // self.cell[0], len(mask) - 1)]
        fine = np.repeat(np.repeat(level, self.cell[1], 0), self.cell[2], 1)
        return fine[: shape[0], : shape[1]]

    def sharp_lungs(self, index: int, hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
        """The lungs on slice ``index``, as sharp as its pixels ``hu`` allow: bool (rows, cols).

        Learned lungs stay on the grid: where they hold fluid no threshold would follow them.
        """
        if self.lungs is None:
            return np.zeros(hu.shape, dtype=bool)
        if self.source == "lungmask":
            return self.lungs_on(index, hu.shape)
        chest = ChestGrid(self.body, self.lungs, self.gas)
        return lungs_of_slice(hu, index, chest, self.cell[0], spacing_mm)

    def lungs_near(self, index: int) -> np.ndarray:
        """The lungs on the level of the grid that slice ``index`` belongs to: bool."""
        assert self.lungs is not None
        return self.lungs[min(index // self.cell[0], len(self.lungs) - 1)]


def survey(
    reader: SliceReader,
    every_slice: bool = False,
    lungs_from: str = "auto",
    finder: LungFinder | None = None,
) -> Survey:
    """Read every slice of the search grid and find the lungs.

    Args:
        reader: of the study.
        every_slice: count slices far beyond the lungs as worth looking at, too.
        lungs_from: of :data:`~pe_unified.options.LUNG_SOURCES`.
        finder: of lungs; where it is the source, crop and slices are those of its boxes, and the
            lungs, from which sides follow, those of the thresholds.

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
    # Converted sets, from which networks learn, are cropped to what the thresholds find.
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
            box, levels = crop_to(boxes[shown], reader), shown
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
    """Those of the levels of the grid that show lung, and some beyond."""
    beyond = round(_BEYOND_MM / study.known_spacing()[2])
    first = int(levels[0]) * step - beyond
    last = (int(levels[-1]) + 1) * step + beyond
    return range(max(0, first), min(len(study), last))
