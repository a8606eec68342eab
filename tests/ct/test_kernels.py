from itertools import pairwise

import numpy as np
import pytest
from dicom_files import write_enhanced, write_hu
from headers import header

from pe_unified.ct.headers import read_headers
from pe_unified.ct.kernels import kernel_sharpness, softer


@pytest.mark.parametrize(
    "kernels",
    [
        ["B20f", "B31f", "Br40d\\3", "B46f", "Bl57d", "B70f"],
        ["I26f", "I50f", "I70f"],
        ["FC01", "FC13", "FC18", "FC30", "FC51", "FC86"],
        ["SOFT", "STANDARD", "DETAIL", "LUNG", "BONEPLUS", "EDGE"],
        ["A", "B", "C", "L", "YD"],
        ["Body Standard", "Body Sharp", "Lung Standard", "BONE"],
    ],
)
def test_kernels_of_a_maker_by_sharpness(kernels):
    order = [kernel_sharpness(kernel) for kernel in kernels]
    assert all(first < second for first, second in pairwise(order)), order


def test_what_no_name_tells_noise_does(tmp_path):
    assert kernel_sharpness("R_4") is kernel_sharpness("") is None
    noise = np.random.default_rng(0).normal(0, 1, (64, 64))
    quiet, loud = (
        read_headers(write_hu(tmp_path / str(sd), (40 + sd * noise).round())) for sd in (8, 30)
    )
    assert softer(quiet, loud) == -1 and softer(loud, quiet) == 1 and softer(loud, loud) == 0
    no_file = [header(1)]
    assert softer(no_file, loud) == 0
    frames = np.stack([(40 + sd * noise).round() for sd in (8, 30)])
    enhanced = read_headers(write_enhanced(tmp_path / "enhanced", frames, [{}, {}]))
    assert softer(enhanced[:1], enhanced[1:]) == -1
    named = [[header(1, kernel=kernel)] for kernel in ("LUNG", "STANDARD")]
    assert softer(*named) == 1
