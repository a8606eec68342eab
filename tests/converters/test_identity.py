"""Who is who: however files are named and linked, a person is in one split."""

import json
import os
import shutil

import pytest
from raw_sets import (
    NEGATIVE,
    POSITIVE,
    all_images,
    write_csv,
    write_fumpe_patient,
    write_rsna_study,
)

from pe_unified.converters.contract.known_splits import read_splits
from pe_unified.converters.contract.splits import groups_by_patient, join_by_study
from pe_unified.converters.merge import merge
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.fumpe import Fumpe, main
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify
from pe_unified.errors import DataError

QUIET = RunOptions(quiet=True)


def fumpe(raw, patients):
    for name in patients:
        write_fumpe_patient(raw, name, count=4)


def rsna(raw, identifiers):
    """One study for each PatientID; their names are ``st0``, ``st1`` ..."""
    rows = []
    for k, identifier in enumerate(identifiers):
        labels = NEGATIVE if k % 2 else POSITIVE
        rows += write_rsna_study(raw, f"st{k}", labels, PatientID=identifier)
    write_csv(raw / "train.csv", rows)
    return raw


def split_of(out):
    return {image["patient_id"]: image["split"] for image in all_images(out)}


def test_one_scan_under_several_names_is_one_group(tmp_path):
    raw = tmp_path / "raw"
    fumpe(raw, [f"PAT{k:03d}" for k in range(1, 7)])
    for name in ("PAT007", "PAT008", "PAT009"):
        shutil.copytree(raw / "CT_scans/PAT001", raw / "CT_scans" / name)
        shutil.copy(raw / "GroundTruth/PAT001.mat", raw / "GroundTruth" / f"{name}.mat")
    for seed in range(4):
        options = RunOptions(quiet=True, seed=seed)
        report = convert(Fumpe(raw), tmp_path / str(seed), options)
        assert len({split_of(tmp_path / str(seed))[f"PAT00{k}"] for k in (1, 7, 8, 9)}) == 1
    (problem,) = report_faults(report)
    assert "PAT001, PAT007, PAT008, PAT009" in problem and "remove the copies" in problem


def test_groups_that_share_a_study_are_joined():
    groups = {"a": "g", "b": "g", "d": "h", "e": "h"}
    studies = {"a": ["1"], "b": ["2"], "c": ["2", "3"], "d": ["3"], "e": ["4"], "f": ["5"]}
    joined, problems = join_by_study(groups, studies)
    assert {joined.get(name, name) for name in "abcde"} == {"c"} and "f" not in joined
    assert [problem.split(";")[0] for problem in problems] == [
        "study 2 belongs to patients b, c",
        "study 3 is that of c, d",
    ] or len(problems) == 2
    assert join_by_study(groups, {"a": ["1", "1"], "b": ["2"]}) == (groups, [])


def test_series_that_are_links_keep_their_patient(tmp_path):
    raw = rsna(tmp_path / "raw", ["P1", "P1", "P2", "P2"])
    assert set(Rsna(raw)._patients) == {"P1", "P2"}
    store = tmp_path / "store"
    for number, series in enumerate(sorted(raw.glob("train/*/*"))):
        os.renames(series, store / str(number))
        series.parent.mkdir(exist_ok=True)
        series.symlink_to(store / str(number), target_is_directory=True)
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    assert {entry["patient_id"] for entry in report["patients"]} == {"P1", "P2"}
    assert verify(tmp_path / "out") == []


def test_changes_behind_links_are_noticed(tmp_path):
    raw = rsna(tmp_path / "raw", ["P1", "P2", "P3"])
    series = raw / "train/st0/st0-s"
    os.renames(series, tmp_path / "store")
    series.parent.mkdir(exist_ok=True)
    series.symlink_to(tmp_path / "store", target_is_directory=True)
    before = {source.patient_id: source.signature for source in Rsna(raw).patients()}
    (tmp_path / "store/st0-0.dcm").touch()
    after = {source.patient_id: source.signature for source in Rsna(raw).patients()}
    assert [name for name in before if before[name] != after[name]] == ["P1"]


def test_broken_first_files_leave_a_study_with_its_patient(tmp_path):
    raw = rsna(tmp_path / "raw", ["P1", "P1", "P2", "P3"])
    for path in sorted((raw / "train/st0/st0-s").iterdir())[:4]:
        path.write_bytes(b"")
    report = convert(Rsna(raw), tmp_path / "out", QUIET)
    assert {entry["patient_id"] for entry in report["patients"]} == {"P1", "P2", "P3"}


@pytest.mark.parametrize("identifier", ["N/A", "Removed", "de-identified"])
def test_what_anonymisers_write_is_nobody(tmp_path, identifier):
    raw = rsna(tmp_path / "raw", [identifier] * 3)
    assert len(Rsna(raw)) == 3


def test_a_name_in_groups_that_nobody_has(tmp_path, monkeypatch, capsys):
    raw, groups = tmp_path / "raw", tmp_path / "groups.json"
    fumpe(raw, ["PAT001", "PAT002"])
    # With the mark that editors put in front.
    groups.write_text('\ufeff{"pat001": "g", "PAT002": "g"}', encoding="utf-8")
    command = ["fumpe_to_coco.py", raw, tmp_path / "out", "--groups", groups, "--quiet"]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    assert main() == 1
    assert "--groups names pat001, no patient of this set" in capsys.readouterr().err


def test_an_empty_split_is_told(tmp_path, monkeypatch, capsys):
    fumpe(tmp_path / "raw", ["PAT001"])
    command = ["fumpe_to_coco.py", tmp_path / "raw", tmp_path / "out", "--quiet"]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    assert main() == 0
    said = capsys.readouterr().err
    assert "no patient is left for val" in said and "no patient is left for test" in said


def test_folds_that_cannot_be_lose_nothing(tmp_path):
    fumpe(tmp_path / "raw", [f"PAT{k:03d}" for k in range(1, 5)])
    report = convert(Fumpe(tmp_path / "raw"), tmp_path / "out", RunOptions(quiet=True, folds=4))
    (problem,) = report["problems"]
    assert "no folds written: outside the test split, 4 folds need" in problem
    assert len(split_of(tmp_path / "out")) == 4 and verify(tmp_path / "out") == []


def test_a_person_of_two_rsna_sets_is_not_divided(tmp_path):
    for name, first, split in (("one", 0, (1, 0, 0)), ("two", 2, (0, 0, 1))):
        raw, rows = tmp_path / f"{name}_raw", []
        for k, identifier in ((first, "P1"), (first + 1, f"Q{first}")):
            rows += write_rsna_study(raw, f"st{k}", POSITIVE, PatientID=identifier)
        write_csv(raw / "train.csv", rows)
        convert(Rsna(raw), tmp_path / name, RunOptions(quiet=True, split=split))
    with pytest.raises(DataError, match=r"P1 is in train of one and in test of two.*--splits-of"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    convert(Rsna(tmp_path / "two_raw"), tmp_path / "two", RunOptions(quiet=True, split=(1, 0, 0)))
    for seed in range(6):
        out = tmp_path / f"all{seed}"
        merge([tmp_path / "one", tmp_path / "two"], out, folds=3, seed=seed)
        assert verify(out) == []
        for k in range(3):
            fold = json.loads((out / f"annotations/fold{k}_val.json").read_text())
            patients = {image["patient_id"] for image in fold["images"]}
            assert len(patients & {"one-P1", "two-P1"}) != 1
    known = read_splits([out], tmp_path / "new")
    assert known.place({"P1": ["st9"]}, {}) == {"P1": "train"}
    write_csv(
        tmp_path / "late_raw" / "train.csv",
        write_rsna_study(tmp_path / "late_raw", "st9", POSITIVE, PatientID="P1"),
    )
    convert(Rsna(tmp_path / "late_raw"), tmp_path / "late", RunOptions(quiet=True, split=(0, 0, 1)))
    with pytest.raises(DataError, match="patient P1 is in train of all5 and in test of late"):
        merge([out, tmp_path / "late"], tmp_path / "more")


def test_groups_may_name_studies(tmp_path):
    raw, rows = tmp_path / "raw", []
    for k in range(6):
        rows += write_rsna_study(raw, f"st{k}", POSITIVE, PatientID=f"P{k}")
    write_csv(raw / "train.csv", rows)
    groups = {"st0": "g", "st5": "g"}
    for seed in range(4):
        options = RunOptions(quiet=True, split=(0.5, 0, 0.5), seed=seed, groups=groups)
        convert(Rsna(raw), tmp_path / "out", options)
        splits = split_of(tmp_path / "out")
        assert splits["P0"] == splits["P5"]
    grouped = {image["patient_id"] for image in all_images(tmp_path / "out") if "group" in image}
    assert grouped == {"P0", "P5"}
    with pytest.raises(DataError, match="P1: its studies are in the groups a, b"):
        groups_by_patient({"st1": "a", "st7": "b"}, {"P1": ["st1", "st7"]})


def test_a_name_of_other_bytes_costs_one_patient(tmp_path):
    raw = tmp_path / "raw"
    fumpe(raw, ["PAT001", "PAT002"])
    odd = os.fsdecode(b"M\xfcller")
    os.rename(raw / "CT_scans/PAT002", raw / "CT_scans" / odd)
    os.rename(raw / "GroundTruth/PAT002.mat", raw / "GroundTruth" / f"{odd}.mat")
    report = convert(Fumpe(raw), tmp_path / "out", QUIET)
    assert report["totals"]["converted"] == 1
    (fault,) = report_faults(json.loads((tmp_path / "out/conversion_report.json").read_text()))
    assert "not UTF-8; rename it" in fault
