import numpy as np
import pytest

from pe_unified.ct.airways import find_airways

GRID_MM = (3.0, 3.0, 3.0)
AIR, EMPHYSEMA, LUNG, TISSUE = -1000, -960, -850, 40


def chest(lung=LUNG, carina=20, levels=40):
    """Two lungs, a trachea from the top, main bronchi that lead into the lungs below the carina."""
    coarse = np.full((levels, 80, 110), TISSUE, np.int16)
    truth = np.zeros(coarse.shape, bool)
    rows, cols = np.mgrid[:80, :110]
    for level in range(levels):
        for middle in (28, 82):
            lungs = ((rows - 40) / 28) ** 2 + ((cols - middle) / 20) ** 2 < 1
            coarse[level][lungs] = lung
        apart = max(0, carina - level)
        for col in {55 - apart, 55 + apart}:
            if abs(col - 55) <= 12:
                tube = (rows - 44) ** 2 + (cols - col) ** 2 <= 6
                coarse[level][tube] = AIR
                truth[level] |= tube
    return coarse, truth


@pytest.mark.parametrize("lung", [LUNG, EMPHYSEMA])
def test_trachea_and_bronchi_but_no_lung(lung):
    """Emphysema is as dark as an airway: there the search has to stop, not to leak."""
    coarse, truth = chest(lung)
    found = find_airways(coarse, np.ones(coarse.shape, bool), GRID_MM)
    mediastinum = truth & (coarse == AIR)
    assert found[20:][mediastinum[20:]].all()
    assert found.sum() < 4 * truth.sum()
    lungs = (coarse == lung) & ~truth
    assert found[lungs].mean() < 0.02
    if lung == LUNG:
        assert found[mediastinum].mean() > 0.9


def test_no_trachea():
    coarse, _ = chest()
    coarse[:, 40:50, 40:70] = TISSUE
    inside = np.ones(coarse.shape, bool)
    assert not find_airways(coarse, inside, GRID_MM).any()
    assert not find_airways(coarse, ~inside, GRID_MM).any()


def test_gas_beside_the_middle_is_no_trachea():
    """Gas of the stomach or of the bowel, as long as a trachea."""
    coarse = np.full((30, 80, 110), TISSUE, np.int16)
    coarse[:, 30:35, 80:85] = AIR
    assert not find_airways(coarse, np.ones(coarse.shape, bool), GRID_MM).any()


def test_of_equally_long_gas_the_upper_is_the_trachea():
    coarse = np.full((40, 80, 110), TISSUE, np.int16)
    coarse[2:12, 50:55, 52:57] = coarse[25:35, 40:45, 52:57] = AIR
    found = find_airways(coarse, np.ones(coarse.shape, bool), GRID_MM)
    assert found[25:35, 40:45, 52:57].all() and not found[:20].any()
