import gzip

import numpy as np
import pytest
from dicom_files import write_enhanced, write_hu

from pe_unified.errors import DataError
from pe_unified.reports.case_list import find_studies, skipped_files

HU = np.zeros((6, 16, 16), np.int16)


def test_a_file_of_many_slices_is_a_study_and_a_slice_is_none(tmp_path):
    frames = [{"ImagePositionPatient": [0, 0, 2.0 * k]} for k in range(6)]
    many = write_enhanced(tmp_path / "a.dcm", HU, frames)
    (tmp_path / "b.dcm.gz").write_bytes(gzip.compress(many.read_bytes()))
    write_enhanced(tmp_path / "c", HU, frames)
    write_hu(tmp_path / "slice.dcm", HU[0])
    (tmp_path / "d.dcm").write_bytes(b"no slice")
    studies = find_studies(tmp_path)
    assert [path.name for path in studies] == ["a.dcm", "b.dcm.gz", "c"]
    assert skipped_files(tmp_path, studies) == ["d.dcm", "slice.dcm"]


def test_the_data_of_a_header_are_not_skipped(tmp_path):
    """Named as in LUNA16, or in another way."""
    for name, data in (("1.3.6.55.mhd", "1.3.6.55.raw"), ("a.mhd", "pixels.raw")):
        (tmp_path / name).write_text(f"ObjectType = Image\nElementDataFile = {data}\n")
        (tmp_path / data).write_bytes(b"")
    (tmp_path / "b.nhdr").write_text("NRRD0004\ndata file: b.raw.gz\n\n")
    (tmp_path / "broken.mhd").write_text("ElementDataFile = absent.raw\n")
    for name in ("b.raw.gz", "broken.raw"):
        (tmp_path / name).write_bytes(b"")
    studies = find_studies(tmp_path)
    assert skipped_files(tmp_path, studies) == ["broken.raw"]


def test_studies_are_found_in_natural_order(tmp_path):
    for name in ("case10", "case9", ".hidden"):
        (tmp_path / name).mkdir()
    files = ("a.zip", "b.nii.gz", "c.nrrd", "d.MHA", "e.mhd", "f.tar", "g.tar.gz", "h.tgz")
    others = ("1.dcm", "c.dcm.gz", "notes.txt")
    for name in (*files, *others, "e.zraw"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "e.mhd").write_text("ElementDataFile = e.zraw")
    studies = find_studies(tmp_path)
    assert [path.name for path in studies] == [*files[:3], "case9", "case10", *files[3:]]
    # The data of a header are neither a study nor skipped.
    assert skipped_files(tmp_path, studies) == list(others)
    with pytest.raises(DataError, match="no study in it"):
        find_studies(tmp_path / "case9")
    with pytest.raises(DataError, match="no such folder"):
        find_studies(tmp_path / "absent")
    with pytest.raises(DataError, match="a file, not a folder"):
        find_studies(tmp_path / "e.mhd")
