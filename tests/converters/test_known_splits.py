"""Two sets that share people, given the same splits so that they can be merged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from raw_sets import all_images, load_splits, tree, write_fumpe_patient

from pe_unified.converters.contract.known_splits import KnownSplits, read_splits
from pe_unified.converters.merge import merge
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.verify import verify
from pe_unified.errors import DataError

SPLIT = (0.5, 0.25, 0.25)
COMMAND = Path(__file__).resolve().parents[2] / "data_converters" / "fumpe_to_coco.py"
#: Patients of the first set in pairs; the second set has more of g1, and g8 of its own.
ONE = {f"PAT{k:03d}": f"g{(k - 1) // 2}" for k in range(1, 9)}
TWO = {"PAT001": "g1", "PAT002": "g1", "PAT003": "g8", "PAT004": "g8"}


def write_raw(root, name, patients, uids):
    for k in range(1, patients + 1):
        write_fumpe_patient(root / f"{name}_raw", f"PAT{k:03d}", size=24, count=4, root=uids)
    return root / f"{name}_raw"


def splits(root):
    """Patient to split, group to splits."""
    patients, groups = {}, {}
    for image in all_images(root):
        patients[image["patient_id"]] = image["split"]
        if "group" in image:
            groups.setdefault(image["group"], set()).add(image["split"])
    return patients, groups


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    """Root with the converted sets one and two, which have group g1 in different splits."""
    root = tmp_path_factory.mktemp("known")
    raw = write_raw(root, "one", 8, "5.5")
    convert(Fumpe(raw), root / "one", RunOptions(quiet=True, split=SPLIT, groups=ONE))
    own = splits(root / "one")[1]["g1"]
    raw = write_raw(root, "two", 6, "5.6")
    for seed in range(20):
        options = RunOptions(quiet=True, split=SPLIT, groups=TWO, seed=seed)
        convert(Fumpe(raw), root / "two", options)
        if splits(root / "two")[1]["g1"] != own:
            return root
    raise AssertionError("the group has the same split whatever the seed")


def test_a_group_in_two_splits_is_refused_and_the_cure_works(two_sets, tmp_path):
    one, two = two_sets / "one", two_sets / "two"
    assert verify(one) == [] and verify(two) == []
    reason = r"two: group g1 is in \w+ of one and in \w+ of two; convert two again with "
    with pytest.raises(DataError, match=reason + r"--splits-of \S+/one, or paint the sets on"):
        merge([one, two], tmp_path / "all")
    assert not (tmp_path / "all").exists()

    again, groups = tmp_path / "again", tmp_path / "groups.json"
    groups.write_text(json.dumps(TWO))
    command = [sys.executable, COMMAND, two_sets / "two_raw", again, "--quiet", "--workers", "1"]
    command += ["--groups", groups, "--splits-of", one, "--split", *map(str, SPLIT)]
    subprocess.run(command, check=True)
    of_one, of_again = splits(one), splits(again)
    assert of_again[1]["g1"] == of_one[1]["g1"]
    # Without a group here, a patient of the same name counts as the same; of another, not.
    assert all(of_again[0][name] == of_one[0][name] for name in ("PAT005", "PAT006"))
    assert len(of_again[1]["g8"]) == 1
    info = load_splits(again)["val"]["info"]
    described = load_splits(one)["val"]["info"]["description"]
    assert info["splits_of"] == [{"description": described, "split_seed": 0}]
    before = tree(again)
    subprocess.run(command, check=True)
    assert tree(again) == before

    merge([one, again], tmp_path / "all", ["one", "two"])
    assert verify(tmp_path / "all") == []
    patients, groups = splits(tmp_path / "all")
    assert len(patients) == 14 and all(len(places) == 1 for places in groups.values())
    # A third set takes the groups of the merged one.
    known = read_splits([tmp_path / "all"], tmp_path / "three")
    assert known.groups == {group: next(iter(places)) for group, places in groups.items()}


def test_people_and_groups_keep_their_split():
    known = KnownSplits(
        groups={"g": "test"},
        people={"a": {("train", None)}, "b": {("test", "g")}, "1.2": {("val", None)}},
    )
    # By name, by group, by study; the rest is free.
    assert known.place(dict.fromkeys("abz", ()), {}) == {"a": "train", "b": "test"}
    assert known.place({"p": ["7"], "q": ["7"]}, {"p": "g"}) == {"g": "test"}
    assert known.place({"p": ["1.2"]}, {"p": "h"}) == {"h": "val"}
    # Of another group, it is another person.
    assert known.place({"b": ()}, {"b": "h"}) == {}
    with pytest.raises(DataError, match=r"^g: is divided .*: group g in test, a in train;"):
        known.place({"a": (), "p": ()}, {"a": "g", "p": "g"})
    # Two sets may have different people of one name; which is meant here, nobody can tell.
    known.people["a"].add(("val", None))
    assert known.place({"p": ()}, {}) == {}
    with pytest.raises(DataError, match=r"^a: is divided .*: a in train, a in val"):
        known.place({"a": ()}, {})


def test_sets_that_cannot_be_followed(two_sets, tmp_path):
    one, two = two_sets / "one", two_sets / "two"
    with pytest.raises(DataError, match="is the set to be written"):
        read_splits([two_sets / "x" / ".." / "one"], one)
    with pytest.raises(DataError, match=r"train\.json: cannot be read"):
        read_splits([tmp_path], tmp_path / "out")
    with pytest.raises(DataError, match=r"two: group g1 is in \w+, and in \w+, too; make"):
        read_splits([one, two], tmp_path / "out")
    assert len(read_splits([one], tmp_path / "out").sets) == 1
