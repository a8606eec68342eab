import os

import pytest

from pe_unified.reports.fingerprint import fingerprint


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("ct[1].mhd", "ElementDataFile = {}"),
        ("a.mhd", "ElementDataFile={}"),
        ("a.mha", "ElementDataFile = {}"),
        ("a.nhdr", "data file: {}"),
        ("a.nrrd", "datafile: {}"),
    ],
)
@pytest.mark.parametrize("data", ["pixels.raw", "my pixels.zraw"])
def test_the_data_of_a_header_belong_to_it(tmp_path, name, line, data):
    study = tmp_path / name
    study.write_text(f"NDims = 3\n{line.format(data)}\n")
    for other in (data, "other.zraw", f"{study.stem}.raw"):
        (tmp_path / other).write_bytes(b"one")
    before = fingerprint(study)
    os.utime(tmp_path / "other.zraw", ns=(1, 1))
    os.utime(tmp_path / f"{study.stem}.raw", ns=(1, 1))
    assert fingerprint(study) == before
    os.utime(tmp_path / data, ns=(1, 1))
    assert fingerprint(study) != before


def test_a_header_whose_data_are_not_there(tmp_path):
    (tmp_path / "a.mhd").write_text("ElementDataFile = pixels.raw\n")
    assert fingerprint(tmp_path / "a.mhd")
