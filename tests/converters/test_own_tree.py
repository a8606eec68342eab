"""What a folder holds: damaged slices are told, and linked studies are found."""

import pytest
from own_folder import save_seg, write_study

from pe_unified.converters.own.tree import look_through


@pytest.mark.parametrize(
    "tag", [b"\x08\x00\x60\x00", b"\x28\x00\x10\x00"], ids=["Modality", "Rows"]
)
def test_a_slice_that_ends_before_its_pixels_is_told(tmp_path, tag):
    write_study(tmp_path / "A1", "A1")
    path = tmp_path / "A1" / "IM004"
    path.write_bytes(path.read_bytes().split(tag)[0])
    tree = look_through(tmp_path)
    (error,) = tree.broken
    assert error.where == str(path) and "the header ends before the pixels" in error.reason
    assert not tree.others and len(tree.studies[0].files) == 7


def test_linked_folders_elsewhere_are_followed_at_any_depth(tmp_path):
    raw, archive = tmp_path / "raw", tmp_path / "archive"
    study, mask = write_study(archive / "A1" / "ct", "A1")
    save_seg(archive / "A1" / "seg", {"PE": mask}, study.files)
    (raw / "2024").mkdir(parents=True)
    (raw / "2024" / "A1").symlink_to(archive / "A1")
    for name, target in (("itself", raw), ("inside", raw / "2024"), ("above", tmp_path)):
        (raw / name).symlink_to(target)
    (archive / "A1" / "round").symlink_to(archive)
    tree = look_through(raw)
    (found,) = tree.studies
    assert found.path == raw / "2024" / "A1" / "ct" and len(found.files) == len(study)
    assert [each.path for each in tree.masks] == [raw / "2024" / "A1" / "seg"]
