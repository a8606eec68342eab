import pytest
from review_reading import Reading


@pytest.fixture
def reading(tmp_path, report, folder) -> Reading:
    return Reading(tmp_path, report[0], folder)
