import json

import pytest
from raw_sets import all_images, load_splits, tree, write_csv, write_fumpe_patient, write_rsna_study

from pe_unified.converters.contract.known_splits import read_splits
from pe_unified.converters.merge import main, merge
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify
from pe_unified.errors import DataError

OPTIONS = RunOptions(quiet=True, split=(0.5, 0.25, 0.25))


def fumpe_set(root, name, patients=4, uids="1.2.3"):
    for k in range(1, patients + 1):
        write_fumpe_patient(root / f"{name}_raw", f"PAT{k:03d}", count=6, root=uids)
    convert(Fumpe(root / f"{name}_raw"), root / name, OPTIONS)
    return root / name


def rsna_set(root):
    rows = [
        row for k in range(4) for row in write_rsna_study(root / "rsna_raw", f"st{k}", [0, k % 2])
    ]
    write_csv(root / "rsna_raw" / "train.csv", rows)
    convert(Rsna(root / "rsna_raw"), root / "rsna", OPTIONS)
    return root / "rsna"


def without_ids(image):
    own = ("id", "file_name", "patient_id", "set", "person")
    kept = {key: value for key, value in image.items() if key not in own}
    kept["annotations"] = [
        {k: v for k, v in a.items() if k not in ("id", "image_id")} for a in image["annotations"]
    ]
    return kept


def test_splits_are_kept_and_slices_linked(tmp_path):
    one, other, rsna = (
        fumpe_set(tmp_path, "one"),
        fumpe_set(tmp_path, "two", uids="5.6"),
        rsna_set(tmp_path),
    )
    report = merge([one, other, rsna], tmp_path / "all")
    out = tmp_path / "all"
    assert verify(out) == []
    assert report["totals"]["slices"] == 24 + 24 + 8 and report["totals"]["converted"] == 12
    merged = all_images(out)
    for name, root in (("one", one), ("two", other), ("rsna", rsna)):
        own = [image for image in merged if image["set"] == name]
        source = all_images(root)
        assert sorted(map(json.dumps, map(without_ids, own))) == sorted(
            map(json.dumps, map(without_ids, source))
        )
    # Identifiers clash between the first two sets, and are prefixed there only.
    patients = {image["patient_id"] for image in merged}
    assert {"one-PAT001", "two-PAT001", "st0"} <= patients and len(patients) == 12
    linked = out / "images" / "one-PAT001" / "0000.png"
    assert linked.samefile(one / "images" / "PAT001" / "0000.png")
    assert all(i["file_name"].split("/")[1] == i["patient_id"] for i in merged)
    ids = [image["id"] for image in merged]
    assert len(set(ids)) == len(ids)
    info = load_splits(out)["train"]["info"]
    assert info["sets"]["rsna"]["licence"].startswith("non-commercial")
    assert info["hu_offset"] == 1024


def test_slices_are_copied_where_links_fail(tmp_path, monkeypatch):
    one = fumpe_set(tmp_path, "one")
    merge([one], tmp_path / "linked")

    def refuse(*args, **kwargs):
        raise OSError("across devices")

    monkeypatch.setattr("os.link", refuse)
    merge([one], tmp_path / "copied")
    assert tree(tmp_path / "linked") == tree(tmp_path / "copied")
    path = tmp_path / "copied" / "images" / "PAT001" / "0000.png"
    assert not path.samefile(one / "images" / "PAT001" / "0000.png")


def test_merging_a_merged_set(tmp_path):
    one, rsna = fumpe_set(tmp_path, "one"), rsna_set(tmp_path)
    merge([one], tmp_path / "first")
    merge([tmp_path / "first", rsna], tmp_path / "second")
    assert verify(tmp_path / "second") == []


def test_a_patientid_is_known_after_any_number_of_merges(tmp_path):
    """Also one that the first merge prefixed, since a patient of another set has the same name."""
    one, rsna = fumpe_set(tmp_path, "one"), rsna_set(tmp_path)
    for name, split in (("early", (1, 0, 0)), ("late", (0, 0, 1))):
        raw = tmp_path / f"{name}_raw"
        write_csv(raw / "train.csv", write_rsna_study(raw, name, [0, 1], PatientID="PAT001"))
        convert(Rsna(raw), tmp_path / name, RunOptions(quiet=True, split=split))
    merge([tmp_path / "early", one], tmp_path / "first")
    merge([tmp_path / "first", rsna], tmp_path / "second")
    for name in ("early", "first", "second"):
        with pytest.raises(DataError, match=f"PAT001 is in train of {name} and in test of late"):
            merge([tmp_path / name, tmp_path / "late"], tmp_path / "all")
    known = read_splits([tmp_path / "second"], tmp_path / "late")
    convert(Rsna(tmp_path / "late_raw"), tmp_path / "late", RunOptions(quiet=True, known=known))
    merge([tmp_path / "second", tmp_path / "late"], tmp_path / "all")
    found = [i for i in all_images(tmp_path / "all") if i.get("person") == "PAT001"]
    assert len(found) == 4 and {image["split"] for image in found} == {"train"}
    for path in (tmp_path / "first" / "annotations").glob("*.json"):  # of an older version
        content = json.loads(path.read_text())
        for image in content["images"]:
            image.pop("person", None)
        path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="merge its sets again"):
        merge([tmp_path / "first", rsna], tmp_path / "third")


def test_a_report_holds_what_the_format_asks_for(tmp_path):
    one = fumpe_set(tmp_path, "one")
    report = merge([one], tmp_path / "whole")
    path = one / "conversion_report.json"
    path.write_text(json.dumps({"patients": json.loads(path.read_text())["patients"]}))
    assert merge([one], tmp_path / "bare") == report
    assert report["totals"]["slices"] == 24 and report["totals"]["synthetic_slices"] == 0


def test_groups_stay_with_their_patients(tmp_path):
    one, rsna = fumpe_set(tmp_path, "one"), rsna_set(tmp_path)
    groups = {"PAT001": "g", "PAT003": "g"}
    options = RunOptions(quiet=True, split=(0.5, 0.25, 0.25), groups=groups)
    convert(Fumpe(tmp_path / "one_raw"), one, options)
    report = merge([one, rsna], tmp_path / "first")
    merge([tmp_path / "first"], tmp_path / "second")
    for out in (tmp_path / "first", tmp_path / "second"):
        assert verify(out) == []
        found = {i["patient_id"]: i["group"] for i in all_images(out) if "group" in i}
        assert found == groups
    assert {e["patient_id"]: e["group"] for e in report["patients"] if "group" in e} == groups


def test_a_group_in_two_splits_of_one_set_is_refused(tmp_path):
    one = fumpe_set(tmp_path, "one")
    for split in ("train", "test"):
        path = one / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        content["images"] = [{**image, "group": "g"} for image in content["images"]]
        path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="group g is in train of one and in test; convert the set"):
        merge([one], tmp_path / "all")


def test_skipped_patients_stay_in_the_report(tmp_path):
    one = fumpe_set(tmp_path, "one")
    (tmp_path / "two_raw" / "GroundTruth").mkdir(parents=True)
    write_fumpe_patient(tmp_path / "two_raw", "PAT007", count=6)
    write_fumpe_patient(tmp_path / "two_raw", "PAT001", count=6)
    (tmp_path / "two_raw" / "GroundTruth" / "PAT001.mat").unlink()
    convert(Fumpe(tmp_path / "two_raw"), tmp_path / "two", OPTIONS)
    report = merge([one, tmp_path / "two"], tmp_path / "all")
    entries = {entry["patient_id"]: entry["status"] for entry in report["patients"]}
    assert entries["two-PAT001"] == "skipped" and entries["one-PAT001"] == "converted"
    assert report["totals"]["skipped"] == 1 and verify(tmp_path / "all") == []


def move_patient(root, target):
    """Put the first training patient into another split as well."""
    train = json.loads((root / "annotations" / "train.json").read_text())
    path = root / "annotations" / f"{target}.json"
    content = json.loads(path.read_text())
    patient = train["images"][0]["patient_id"]
    content["images"] += [i for i in train["images"] if i["patient_id"] == patient]
    path.write_text(json.dumps(content))


def test_a_patient_in_two_splits_is_refused(tmp_path):
    one = fumpe_set(tmp_path, "one")
    move_patient(one, "test")
    with pytest.raises(DataError, match=r"one: patient PAT00\d is in train and in test; convert"):
        merge([one], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_study_in_two_sets_is_refused(tmp_path):
    one, other = fumpe_set(tmp_path, "one"), fumpe_set(tmp_path, "two")
    with pytest.raises(DataError, match=r"study .* is in one and in two; remove it from one"):
        merge([one, other], tmp_path / "all")
    convert(
        Fumpe(tmp_path / "two_raw"),
        other,
        RunOptions(quiet=True, split=(0, 0, 1)),
    )
    with pytest.raises(DataError, match=r"study .* is in (train|val) of one and in test of two"):
        merge([one, other], tmp_path / "all")


def test_folds_of_all(tmp_path):
    """Each patient outside test validates once; folds of the sets are not kept."""
    groups = {"PAT001": "g", "PAT003": "g"}
    options = RunOptions(quiet=True, split=(0.5, 0.25, 0.25), groups=groups, folds=2)
    one, rsna = fumpe_set(tmp_path, "one", patients=6), rsna_set(tmp_path)
    convert(Fumpe(tmp_path / "one_raw"), one, options)
    merge([one, rsna], tmp_path / "plain")
    assert len(load_splits(tmp_path / "plain")) == 3
    merge([one, rsna], tmp_path / "all", folds=3, seed=1)
    parts = load_splits(tmp_path / "all")
    assert len(parts) == 3 + 6 and verify(tmp_path / "all") == []
    held_out = [{i["patient_id"] for i in parts[f"fold{k}_val"]["images"]} for k in range(3)]
    outside = {i["patient_id"] for i in all_images(tmp_path / "all") if i["split"] != "test"}
    assert sorted(name for names in held_out for name in names) == sorted(outside)
    assert [{"PAT001", "PAT003"} & names for names in held_out].count(set()) >= 2
    with pytest.raises(ValueError, match="20 folds need"):
        merge([one, rsna], tmp_path / "more", folds=20)
    assert not [path for path in tmp_path.iterdir() if "more" in path.name]


def test_names_that_differ_in_umlauts_only(tmp_path):
    for name in ("Müller", "Möller"):
        write_fumpe_patient(tmp_path / "one_raw", name, count=6)
    convert(Fumpe(tmp_path / "one_raw"), tmp_path / "one", OPTIONS)
    merge([tmp_path / "one", rsna_set(tmp_path)], tmp_path / "all")
    assert verify(tmp_path / "all") == []
    assert {"Müller", "Möller"} <= {i["patient_id"] for i in all_images(tmp_path / "all")}


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, capsys):
    one, rsna = fumpe_set(tmp_path, "one"), rsna_set(tmp_path)

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device", "here")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("shutil.copyfile", refuse)
    monkeypatch.setattr("sys.argv", ["merge.py", str(one), str(rsna), "--out", f"{tmp_path}/all"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: here: No space left on device\n"
    assert not [path for path in tmp_path.iterdir() if "all" in path.name]
    (tmp_path / "all").write_text("a file")
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "is not an empty folder" in capsys.readouterr().err


def test_names_and_folders(tmp_path):
    one, rsna = fumpe_set(tmp_path, "one"), rsna_set(tmp_path)
    with pytest.raises(DataError, match="give each set its own --names"):
        merge([one, one], tmp_path / "all")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "x").write_text("")
    with pytest.raises(DataError, match="is not an empty folder"):
        merge([one, rsna], tmp_path / "all")
    with pytest.raises(DataError, match="none: no such file or folder"):
        merge([tmp_path / "none"], tmp_path / "other")
    for inside in (one, one / "merged"):
        with pytest.raises(DataError, match="which is read: the next run"):
            merge([one, rsna], inside)
    (one / "images" / "PAT001" / "0000.png").unlink()
    with pytest.raises(DataError, match="listed, but no such file; run pe-unified verify"):
        merge([one], tmp_path / "other")
    assert not (tmp_path / "other").exists()
