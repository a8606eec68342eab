import os

from pe_unified.inference.fingerprint import fingerprint


def test_the_data_of_a_header_belong_to_it(tmp_path):
    for name in ("ct[1].mhd", "ct[1].zraw", "other.zraw"):
        (tmp_path / name).write_bytes(b"one")
    before = fingerprint(tmp_path / "ct[1].mhd")
    os.utime(tmp_path / "other.zraw", ns=(1, 1))
    assert fingerprint(tmp_path / "ct[1].mhd") == before
    os.utime(tmp_path / "ct[1].zraw", ns=(1, 1))
    assert fingerprint(tmp_path / "ct[1].mhd") != before
