"""The list of faults fits the code: each can be put in, and its tests are there."""

import pytest
from mutate import ROOT, load_mutants


@pytest.mark.parametrize("mutant", load_mutants(), ids=lambda mutant: mutant.what)
def test_a_fault_can_be_put_in(mutant):
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert [test for test in mutant.tests if not (ROOT / test).is_file()] == []
