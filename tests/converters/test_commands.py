"""The command lines, from a plain checkout."""

import json
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from raw_sets import load_splits, write_fumpe_patient

from pe_unified.cli import main
from pe_unified.converters.command_line import manifest_groups, read_groups
from pe_unified.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("fumpe_to_coco", "rsna_to_coco", "cadpe_to_coco", "read_to_coco", "nnunet_to_coco"),
    "folder_to_coco",
    *("to_nnunet", "merge", "verify"),
)


@pytest.fixture
def run(called, monkeypatch):
    """A script of data_converters/, in this process."""

    def call(name, *words, cwd=ROOT):
        script = ROOT / "data_converters" / f"{name}.py"
        monkeypatch.chdir(cwd)
        return called(lambda: runpy.run_path(str(script), run_name="__main__"), script, *words)

    return call


@pytest.fixture
def unified(called):
    return partial(called, main, "pe-unified")


@pytest.mark.parametrize("name", COMMANDS)
def test_help(run, name, tmp_path):
    done = run(name, "--help", cwd=tmp_path)
    assert done.returncode == 0 and "usage:" in done.stdout
    if name.endswith("_to_coco"):
        options = "--workers --seed --split --folds --groups --splits-of --allow-skips --scheduler"
        assert all(option in done.stdout for option in options.split())


def test_to_nnunet_and_back(unified, tmp_path):
    for k in (1, 2, 3):
        write_fumpe_patient(tmp_path / "raw", f"PAT{k:03d}", count=6)
    data, back = tmp_path / "data", tmp_path / "back"
    assert unified("convert", "fumpe", tmp_path / "raw", data, "--workers", 1).returncode == 0
    words = (data, tmp_path / "nn", "--id", 7, "--name", "PE", "--workers", 1)
    done = unified("to-nnunet", *words)
    assert done.returncode == 0, done.stderr
    assert "Dataset007_PE: 2 cases to train and validate on, 1 to test" in done.stdout
    done = unified("to-nnunet", *words)
    assert done.returncode == 2 and "already exists; remove it" in done.stderr
    done = unified("convert", "nnunet", tmp_path / "nn" / "Dataset007_PE", back, "--workers", 1)
    assert done.returncode == 0, done.stderr
    splits = [
        {name: {i["patient_id"] for i in content["images"]} for name, content in each.items()}
        for each in (load_splits(data), load_splits(back))
    ]
    assert splits[0] == splits[1]
    train = data / "annotations" / "train.json"
    content = json.loads(train.read_text())
    for image in content["images"]:
        image["z_mm"] = None
    train.write_text(json.dumps(content))
    words = (data, tmp_path / "few", *words[2:])
    done = unified("to-nnunet", *words)
    assert done.returncode == 1 and "its spacing is not known" in done.stderr
    done = unified("convert", "nnunet", tmp_path / "nn", back)
    assert done.returncode == 2 and "give the folder DatasetXXX_Name" in done.stderr


def test_exit_status_and_messages(run, unified, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for k in (1, 2, 3):
        write_fumpe_patient(raw, f"PAT{k:03d}", count=6)
    done = run("fumpe_to_coco", raw, out, "--workers", 2, "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 patients converted" in done.stdout and done.stdout.count("\n") == 1
    done = unified("verify", out)
    assert done.returncode == 0 and "no fault" in done.stdout
    (raw / "GroundTruth" / "PAT002.mat").unlink()
    done = unified("convert", "fumpe", raw, out, "--workers", 1)
    assert done.returncode == 1
    assert "PAT002 skipped: CT_scans/PAT002: a scan without a mask; put it under" in done.stderr
    assert run("fumpe_to_coco", raw, out, "--workers", 1, "--allow-skips").returncode == 0
    (out / "images" / "PAT001" / "0000.png").unlink()
    done = run("verify", out)
    assert done.returncode == 1 and "images/PAT001/0000.png: listed, but" in done.stdout


def test_nothing_converted_is_a_failure_even_if_skips_are_allowed(run, tmp_path):
    write_fumpe_patient(tmp_path / "raw", "PAT001", count=4, Modality="MR")
    done = run("fumpe_to_coco", tmp_path / "raw", tmp_path / "out", "--workers", 1, "--allow-skips")
    assert done.returncode == 1 and "modality MR" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "must be a whole number above 0"),
        (["--split", "1", "-1", "1"], "three fractions, none negative"),
        (["--folds", "1"], "at least 2 folds"),
        (["--folds", "5"], "5 folds need as many patients; there are 1"),
        (
            ["--groups", "absent.json"],
            "absent.json: cannot be read (No such file or directory); check the path",
        ),
        (["--splits-of", "absent"], "train.json: cannot be read"),
        (["--wrokers", "2"], "unrecognized arguments"),
    ],
)
def test_wrong_options(run, tmp_path, options, message):
    write_fumpe_patient(tmp_path / "raw", "PAT001", count=4)
    done = run("fumpe_to_coco", tmp_path / "raw", tmp_path / "out", *options)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "out" / "images").exists()


def test_raw_folder_that_is_not_there(run, tmp_path):
    done = run("rsna_to_coco", tmp_path / "none", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path / 'none'}: no such")
    (tmp_path / "file").write_text("")
    done = run("rsna_to_coco", tmp_path / "file", tmp_path / "out")
    assert done.returncode == 2 and "a file, not a folder" in done.stderr
    (tmp_path / "raw").mkdir()
    done = run("rsna_to_coco", tmp_path / "raw", tmp_path / "out")
    assert done.returncode == 2 and "no studies found; see --help" in done.stderr


def test_workers_import_nothing_heavy():
    """They start many at a time: torch and the OpenMMLab stack stay out."""
    code = (
        "import sys, pe_unified.converters.pipeline.worker, pe_unified.converters.raw.fumpe, "
        "pe_unified.converters.raw.rsna, pe_unified.converters.raw.cadpe, "
        "pe_unified.converters.raw.read, pe_unified.converters.verify, "
        "pe_unified.converters.merge; "
        "print([m for m in ('torch', 'mmcv', 'mmengine', 'matplotlib', 'sklearn', 'SimpleITK', "
        "'distributed', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_studies_painted_on_one_anatomy_stay_together(run, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    names = [f"PAT{k:03d}" for k in range(1, 9)]
    for name in names:
        write_fumpe_patient(raw, name, count=4)
    studies = [
        {"patient_id": name, "anatomy": ("A", "B", "procedural", "C")[k % 4]}
        for k, name in enumerate(names)
    ]
    (raw / "phantom.json").write_text(json.dumps({"studies": studies}))
    assert (
        run("fumpe_to_coco", raw, out, "--workers", 1, "--split", 0.5, 0.25, 0.25).returncode == 0
    )
    split_of = {
        image["patient_id"]: name
        for name, part in load_splits(out).items()
        for image in part["images"]
    }
    for first in (0, 1, 3):
        assert split_of[names[first]] == split_of[names[first + 4]]
    assert set(split_of.values()) == {"train", "val", "test"}


def test_groups_from_a_file(tmp_path):
    path = tmp_path / "groups.json"
    path.write_text('{"a": "g1", "b": "g1"}')
    assert read_groups(tmp_path, path) == {"a": "g1", "b": "g1"}
    assert read_groups(tmp_path, None) == {}
    path.write_text('["a"]')
    with pytest.raises(DataError, match="not an object of patient: group"):
        read_groups(tmp_path, path)
    manifest = {"studies": [{"patient_id": "p", "study_uid": "1.2", "anatomy": "007"}]}
    assert manifest_groups(manifest) == {"p": "007", "1.2": "007"}


def test_a_set_is_not_converted_into_its_own_folder(run, tmp_path):
    write_fumpe_patient(tmp_path / "raw", "PAT001", count=4)
    done = run("fumpe_to_coco", tmp_path / "raw", tmp_path / "raw/out")
    assert done.returncode == 2 and "which is read: the next run" in done.stderr
    assert not (tmp_path / "raw/out").exists()
