import numpy as np

from pe_unified.ct.gas import find_gas

AIR, LUNG, TISSUE = -1000, -850, 40


def ball(centre, radius, shape=(30, 60, 60)):
    away = np.indices(shape) - np.array(centre)[:, None, None, None]
    return (away**2).sum(axis=0) <= radius**2


def found(coarse):
    return find_gas(coarse, coarse < -400, 27.0)


def test_a_pocket_in_tissue_is_gas_with_its_wall():
    coarse = np.full((30, 60, 60), TISSUE, np.int16)
    wall, pocket = ball((15, 30, 30), 9), ball((15, 30, 30), 8)
    coarse[wall], coarse[pocket] = -600, AIR
    gas = found(coarse)
    assert gas[pocket].all() and gas[wall].mean() > 0.98 and not gas[~wall].any()


def test_a_bulla_in_a_lung_is_none():
    coarse = np.full((30, 60, 60), TISSUE, np.int16)
    coarse[ball((15, 30, 30), 14)] = LUNG
    coarse[ball((15, 30, 30), 6)] = AIR
    assert not found(coarse).any()


def test_a_pocket_beside_a_lung_leaves_the_lung():
    """A stomach below the diaphragm: two cells of tissue lie between."""
    coarse = np.full((30, 60, 60), TISSUE, np.int16)
    lung = np.zeros(coarse.shape, bool)
    lung[18:, 10:50, 10:50] = True
    pocket = ball((8, 30, 30), 7)
    coarse[lung], coarse[pocket] = LUNG, AIR
    gas = found(coarse)
    assert gas[pocket].all() and not gas[lung].any()


def test_noise_is_no_pocket():
    rng = np.random.default_rng(0)
    coarse = np.rint(rng.normal(LUNG, 60, (30, 60, 60))).astype(np.int16)
    assert (coarse < -940).any() and not found(coarse).any()
