"""Words for users."""

import pytest

from pe_unified import errors


@pytest.mark.parametrize(
    ("extra", "in_a_clone", "from_a_wheel"),
    [
        ("", "pip install -e .", "pip install pe_unified"),
        ("export", "pip install -e '.[export]'", "pip install 'pe_unified[export]'"),
    ],
)
def test_the_command_fits_the_installation(extra, in_a_clone, from_a_wheel, monkeypatch, tmp_path):
    assert errors.pip_install(extra) == in_a_clone
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages/pe_unified/errors.py"))
    assert errors.pip_install(extra) == from_a_wheel
