"""Painted studies through make_phantom, converter and verifier, in every layout."""

import json
import shutil

import numpy as np
import pytest
from raw_sets import all_images, load_splits, write_fumpe_patient
from whole_lungs import lung_mask

from pe_unified.converters.contract.schema import union_mask
from pe_unified.converters.merge import merge
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.cadpe import Cadpe
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.raw.read import Read
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png
from pe_unified.datasets import PESliceDataset
from pe_unified.phantom.command import write_layout
from pe_unified.phantom.study import STRUCTURES

SIZE, SLICES, STUDIES = 96, 28, 2
THIRDS = (0.5, 0.25, 0.25)
CONVERTERS = {"fumpe": Fumpe, "rsna": Rsna, "cadpe": Cadpe, "read": Read}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Root with <layout> converted from <layout>_raw, and make_phantom's records per layout."""
    root = tmp_path_factory.mktemp("painted")
    records = {}
    options = {"seed": 3, "size": SIZE, "slices": SLICES, "positive_rate": 1.0, "truth": True}
    for layout, kind in CONVERTERS.items():
        raw = root / f"{layout}_raw"
        extra = {"boxes": True} if layout == "rsna" else {}
        records[layout] = write_layout(raw, layout, STUDIES, **options, **extra)
        boxes = {"boxes": raw / "augmented_rspect.csv"} if layout == "rsna" else {}
        report = convert(kind(raw, **boxes), root / layout, RunOptions(quiet=True))
        assert report_faults(report) == []
    return root, records


def patients(converted, layout):
    """(truth, entries of images[] from feet to head) of each patient."""
    root, records = converted
    images = all_images(root / layout)
    for record in records[layout]:
        patient = record["patient_id"]
        own = [image for image in images if image["patient_id"] == patient]
        own.sort(key=lambda image: image["slice_index"])
        assert len(own) == SLICES
        yield np.load(root / f"{layout}_raw" / "truth" / f"{patient}.npz"), own


@pytest.mark.parametrize("layout", CONVERTERS)
def test_painted_truth_comes_back(converted, layout):
    assert verify(converted[0] / layout) == []
    for truth, images in patients(converted, layout):
        for emboli, image in zip(truth["emboli"], images, strict=True):
            assert image["pe_present"] == int(emboli.any())
            if layout == "rsna":
                # Boxes of all emboli: together they cover the emboli, and little else.
                cover = np.zeros_like(emboli)
                for x, y, w, h in (annotation["bbox"] for annotation in image["annotations"]):
                    cover[int(y) : int(y + h), int(x) : int(x + w)] = 1
                assert cover[emboli > 0].all() and bool(cover.any()) == bool(emboli.any())
                continue
            union = union_mask(image["annotations"])
            expected = (emboli > 0).astype(np.uint8)
            np.testing.assert_array_equal(0 * expected if union is None else union, expected)
        z, row, col = truth["spacing"]
        assert images[0]["spacing_mm"] == pytest.approx([row, col, z], abs=2e-3)
        assert images[0]["z_mm"] == pytest.approx(truth["origin"][2], abs=2e-3)


def test_lungs_are_found(converted):
    for truth, images in patients(converted, "fumpe"):
        lungs = truth["structures"] == STRUCTURES["lung"]
        hu = np.stack([read_slice_png(converted[0] / "fumpe" / i["file_name"]) for i in images])
        assert lung_mask(hu, images[0]["spacing_mm"])[lungs].mean() > 0.9
        x, y, w, h = images[0]["lung_box"]
        across = lungs.any(axis=0)
        assert across[y : y + h, x : x + w].sum() > 0.995 * across.sum()
        assert w * h < 0.8 * across.size


def test_exam_labels_are_those_painted(converted):
    root, records = converted
    painted = {record["patient_id"]: record["labels"] for record in records["rsna"]}
    for part in ("train", "val", "test"):
        content = json.loads((root / "rsna" / "annotations" / f"{part}.json").read_text())
        for exam in content["exams"]:
            labels = painted[exam["patient_id"]]
            assert {name: exam[name] for name in labels} == labels


def test_all_sets_in_one(converted, tmp_path):
    root, _ = converted
    report = merge([root / layout for layout in CONVERTERS], tmp_path / "all")
    assert report["totals"]["slices"] == len(CONVERTERS) * STUDIES * SLICES
    assert verify(tmp_path / "all") == []


def test_real_patients_beside_painted_ones_stay_real(converted, tmp_path):
    """A painted set unpacked within the folder of a real one."""
    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "PAT901", count=6, root="1.2.3")
    for part in ("CT_scans", "GroundTruth"):
        shutil.copytree(converted[0] / "fumpe_raw" / part, raw / "painted" / part)
    shutil.copy(converted[0] / "fumpe_raw" / "phantom.json", raw / "painted")
    report = convert(Fumpe(raw), tmp_path / "out", RunOptions(quiet=True))
    assert report_faults(report) == []
    assert report["totals"]["synthetic_patients"] == STUDIES
    assert report["totals"]["synthetic_slices"] == STUDIES * SLICES
    painted = {
        image["patient_id"]: image.get("synthetic") for image in all_images(tmp_path / "out")
    }
    assert painted.pop("PAT901") is None and list(painted.values()) == [True] * STUDIES
    assert load_splits(tmp_path / "out")["train"]["info"]["synthetic"] == "in part"


def test_painted_sets_say_so_and_merged_ones_how_much(converted, tmp_path):
    root, _ = converted
    for layout in CONVERTERS:
        report = json.loads((root / layout / "conversion_report.json").read_text("utf-8"))
        totals = report["totals"]
        assert totals["synthetic_patients"] == totals["converted"] > 0
        assert totals["synthetic_slices"] == totals["slices"]
        assert load_splits(root / layout)["train"]["info"]["synthetic"] is True
    for number in (1, 2, 3, 4):
        write_fumpe_patient(tmp_path / "raw", f"PAT{number:03d}", count=6, root="1.2.3")
    real = convert(Fumpe(tmp_path / "raw"), tmp_path / "real", RunOptions(quiet=True, split=THIRDS))
    assert real["totals"]["synthetic_slices"] == 0
    merge([tmp_path / "real", root / "read"], tmp_path / "both")
    # Also where a merged set is merged again.
    whole = merge([tmp_path / "both", root / "cadpe"], tmp_path / "all")
    assert whole["totals"]["synthetic_slices"] == 2 * STUDIES * SLICES
    splits = load_splits(tmp_path / "all")
    assert splits["train"]["info"]["synthetic"] == "in part"
    counted = {True: 0, False: 0}
    for split in splits:
        dataset = PESliceDataset(f"annotations/{split}.json", str(tmp_path / "all"))
        for each in dataset.sources:
            counted[each["synthetic"]] += each["slices"]
    assert counted == {True: 2 * STUDIES * SLICES, False: 24}
