"""Whatever is done to a file, reading it gives a study or one clear error, in bounded memory."""

import resource
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from damage import FORMS, as_file, damaged, small_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError

WHOLE = {form: small_file(form) for form in FORMS}
#: Of address space that reading a file of a few kilobytes may take on top, bytes.
ROOM = 3 << 30


def read_or_refuse(form: str, content: bytes) -> str | None:
    """None where the file reads as a study, else the error's text; anything else is a fault."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = as_file(Path(scratch), form, content)
        try:
            with open_study(path) as study:
                for index in range(min(len(study), 5)):
                    hu = study.slice_hu(index)
                    assert hu.dtype == np.int16 and hu.shape == study.shape[1:]
        except DataError as error:
            return str(error)
    return None


@pytest.fixture
def little_memory():
    """Fails a reader that allocates what a damaged header asks for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("form", FORMS)
def test_whole_files_read(form):
    assert read_or_refuse(form, WHOLE[form]) is None


def check(form, content):
    text = read_or_refuse(form, content)
    if text is not None:
        assert "\n" not in text.strip() and len(text) < 600, text
        # Readers turn what they meet into one line, having run out of memory included.
        assert not any(words in text.lower() for words in ("memory", "to allocate")), text


def one_line_each(count):
    """A test of ``count`` damaged files of each form."""

    @pytest.mark.parametrize("form", FORMS)
    @settings(
        max_examples=count,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test(form, data, little_memory):
        check(form, data.draw(damaged(WHOLE[form])))

    return test


test_damaged_files_give_one_line = one_line_each(60)
#: 32,000 files in all.
test_many_damaged_files_give_one_line = pytest.mark.slow(one_line_each(2000))


@pytest.mark.slow
@settings(max_examples=1000)
@given(form=st.sampled_from(FORMS), content=st.binary(max_size=4000))
def test_rubbish_gives_one_line(form, content):
    check(form, content)
