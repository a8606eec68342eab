"""`pe-unified evaluate` as a user calls it."""

import json

import numpy as np
import pytest
from painted_masks import affine_lps, blocks, save_nifti

BOXES = (((2, 4, 5), (3, 6, 6)), ((8, 16, 12), (2, 4, 4)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """CAD-PE's names on one side, nnU-Net's on the other; lesion numbers in the reference."""
    root = tmp_path_factory.mktemp("evaluate")
    for number in range(1, 4):
        save_nifti(root / "rs" / f"{number:04d}RefStd.nii.gz", blocks(*BOXES))
        found = blocks(*BOXES[: number - 1])
        save_nifti(root / "plain" / f"{number:03d}.nii.gz", found)
        probability = np.where(found > 0, 0.5 + 0.1 * number, 0.01).astype(np.float32)
        probability[0, 0, :2] = 0.55
        save_nifti(root / "soft" / f"{number}_0000.nii.gz", probability)
    return root


def results(out):
    return json.loads((out / "results.json").read_text("utf-8"))


def test_two_systems_from_files_to_files(command, folders, tmp_path):
    done = command(
        "evaluate",
        *(folders / "plain", folders / "rs", "--against", folders / "soft", "--instances"),
        *("--out", tmp_path, "--epsilon", 0, 3, "--rates", 1, "--smallest", 5, "--workers", 1),
        *("--names", "ours", "theirs", "--intervals", "jackknife"),
    )
    assert done.returncode == 0, done.stderr
    assert "ours: 3 cases, 6 lesions counted" in done.stdout and "theirs" in done.stdout
    stored = results(tmp_path)
    assert stored["intervals"]["by"] == "jackknife"
    assert stored["rules"]["instances"] and stored["rules"]["epsilons_mm"] == [0, 3]
    ours, theirs = stored["systems"]
    assert ours["metrics"]["overlap/recall"] == 0.5
    # One false mark per scan, of 0.55; the marks of scan 2 and 3 are above it.
    assert theirs["metrics"]["3mm/sensitivity_at_1"] == 0.5
    assert theirs["metrics"]["0mm/false_positives_per_scan"] == 1
    assert "3mm/sensitivity_at_1" not in ours["metrics"]
    assert stored["differences"]["overlap/precision"]["value"] == pytest.approx(0.5 - 1)


def test_marks_alone(command, folders, tmp_path):
    x, y, z = affine_lps()[:3] @ [6, 5, 3, 1]
    marks = tmp_path / "marks.csv"
    marks.write_text(f"id,x,y,z,prob\n1,{x},{y},{z},0.9\n3,{x},{y},{z},0.4\n")
    words = [marks, folders / "rs", "--out", tmp_path / "out", "--workers", 1]
    done = command("evaluate", *words)
    assert done.returncode == 0, done.stderr
    metrics = results(tmp_path / "out")["systems"][0]["metrics"]
    assert metrics["0mm/sensitivity_at_0.5"] == pytest.approx(2 / 6)
    assert not any(name.startswith(("mask/", "overlap/")) for name in metrics)


def test_what_is_wrong_ends_in_one_line(command, folders, tmp_path):
    few = tmp_path / "few"
    save_nifti(few / "1.nii.gz", blocks(BOXES[0]))
    words = [few, folders / "rs", "--out", tmp_path / "out", "--workers", 1]
    done = command("evaluate", *words)
    assert done.returncode == 1 and "no prediction for 2 of 3 cases" in done.stderr
    assert done.stderr.count("\n") <= 1 and not (tmp_path / "out").exists()
    (few / "2.nii.gz").write_bytes(b"damaged")
    done = command("evaluate", *words, "--missing", "leave-out")
    assert done.returncode == 1 and "not scored: " in done.stderr and "2.nii.gz" in done.stderr
    assert results(tmp_path / "out")["systems"][0]["counts"]["cases"] == 1
    done = command("evaluate", few, folders / "rs", "--out", few / "out")
    assert done.returncode == 1 and "choose another place" in done.stderr
    words = [folders / "plain", folders / "rs", "--against", folders / "plain"]
    done = command("evaluate", *words, "--out", tmp_path / "out")
    assert done.returncode == 1 and "tell them apart by --names" in done.stderr
