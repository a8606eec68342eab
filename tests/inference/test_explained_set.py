"""Pictures of patients of a converted set: which, of what, and that they are whole."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from studies import (
    exam_model_config,
    write_checkpoint,
    write_exam_checkpoint,
    write_volume_checkpoint,
)
from tiny_exams import change, write_tiny_exams

from pe_unified.errors import CheckpointError, DataError
from pe_unified.inference import explained_set
from pe_unified.inference.explained_set import explain_set
from pe_unified.models.cam import CamError


@pytest.fixture
def seen(monkeypatch):
    """Title, slices and note of every figure, by its name; nothing is drawn."""
    kept = {}

    def keep(views, path, title, note=""):
        kept[path.name] = (title, views, note)

    monkeypatch.setattr(explained_set, "heat_figure", keep)
    return kept


@pytest.fixture(scope="module")
def slice_model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth", heads=("cls", "seg"))


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """In the first exam of the test the sixth slice has a mask; the first patient has two."""
    root = write_tiny_exams(tmp_path_factory.mktemp("exams") / "data")

    def edit(content):
        mask = np.zeros((48, 48), dtype=np.uint8, order="F")
        mask[20:24, 10:15] = 1
        rle = coco_mask.encode(mask)
        image = content["images"][5]
        image["labels_known"], image["pe_present"] = ["slice", "boxes", "masks"], 1
        content["annotations"].append(
            {
                "id": 1,
                "image_id": image["id"],
                "category_id": 1,
                "bbox": coco_mask.toBbox(rle).tolist(),
                "area": 20,
                "segmentation": {"size": [48, 48], "counts": rle["counts"].decode()},
                "iscrowd": 0,
            }
        )
        for each in (*content["images"][12:24], content["exams"][1]):
            each["patient_id"] = content["exams"][0]["patient_id"]

    change(root, "test", edit)
    return root


def run(model, data, out, **settings):
    return explain_set(model, data, out, device="cpu", precision="fp32", **settings)


def test_slices_most_likely_to_show_embolism(slice_model, tiny_dataset, tmp_path, seen):
    written = run(slice_model, tiny_dataset, tmp_path / "out", patients=2, slices=3)
    assert [path.name for path in written] == list(seen) == ["PAT006.png", "PAT008.png"]
    title, views, note = seen["PAT006.png"]
    assert title == "PAT006: slices most likely to show embolism"
    assert "not known what it was trained on" in note and "(stride 32)" in note
    (found,) = views  # of six slices within 5 mm
    assert found.view.patient == "PAT006" and found.heat.shape == (2, 2)
    assert found.view.label == bool(found.view.truth_mask.any())
    assert found.view.caption.endswith(f"predicted {found.view.probability:.2f}")


def test_slices_of_two_studies_are_no_neighbours(slice_model, exams, tmp_path, seen):
    run(slice_model, exams, tmp_path / "out", patients=1, slices=12)
    first, second = seen
    assert first.removesuffix("_exam1.png") == second.removesuffix("_exam2.png")
    assert all(views for _, views, _ in seen.values())


def test_cells_lie_where_the_network_saw_them(slice_model, tiny_dataset, tmp_path, seen):
    """The lungs' box with its margin, 48 + 2 * 10 / 1.5 pixels wide, become 64 of the input."""
    for level, cells in ((0, 16), (-1, 2)):
        run(slice_model, tiny_dataset, tmp_path / "out", patients=1, level=level)
        ((each,),) = [views for _, views, _ in seen.values()]
        assert each.heat.shape == (cells, cells)
        assert each.view.region == (2, 2, 63, 63)
        np.testing.assert_allclose(each.extent, (2, 2, 63, 63))


def test_steps_with_most_attention(exams, tmp_path, seen):
    model = write_exam_checkpoint(tmp_path / "m.pth")
    written = run(model, exams, tmp_path / "out", label="rightsided_pe", slices=2, level=1)
    assert [path.name for path in written] == [
        "PAT012_exam1.png",
        "PAT012_exam2.png",
        "PAT014.png",
        "PAT015.png",
    ]
    title, views, _ = seen["PAT012_exam1.png"]
    assert title.startswith("PAT012: right-sided, predicted 0.")
    assert title.endswith(", labelled no")
    assert seen["PAT012_exam2.png"][0].endswith(", labelled yes")
    assert len(views) == 2 and abs(views[0].view.slice_index - views[1].view.slice_index) >= 4
    for each in views:
        assert each.view.probability is not None and "attention" in each.caption
        assert each.heat.shape == (4, 4) and each.view.hu.shape == (48, 48)


def test_masks_of_steps_are_outlined(exams, tmp_path, seen, monkeypatch):
    monkeypatch.setattr("pe_unified.inference.explain._APART_MM", 0.0)
    model = write_exam_checkpoint(tmp_path / "m.pth")
    run(model, exams, tmp_path / "out", label="step", slices=12, patients=1)
    title, views, _ = seen["PAT012_exam1.png"]
    assert title == "PAT012: steps most likely to show embolism"
    assert not any(each.weight for each in views)
    known = {each.view.slice_index: each.view.truth_mask for each in views}
    assert known.keys() == set(range(2, 10))
    assert [index for index, mask in known.items() if mask is not None] == [5]
    assert known[5][20:24, 10:15].all() and known[5].sum() == 20


def test_chunks_show_their_middle_slice(exams, tmp_path, seen):
    config = exam_model_config(chunks=True)
    steps = dict(type="ChunkSteps", planes=4, spacing_mm=None, span="all")
    model = write_exam_checkpoint(tmp_path / "m.pth", config, steps=steps)
    run(model, exams, tmp_path / "out", patients=1, level=0)
    views = seen["PAT012_exam1.png"][1]
    assert sorted(each.view.slice_index for each in views) == [2, 6, 10]
    assert views[0].heat.shape == (16, 16)


@pytest.mark.slow
def test_pictures_are_written(exams, slice_model, tiny_dataset, tmp_path):
    model = write_exam_checkpoint(tmp_path / "m.pth")
    files = run(model, exams, tmp_path / "out", patients=1)
    files += run(slice_model, tiny_dataset, tmp_path / "out", patients=1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in files
    )
    for path in files:
        assert cv2.imread(str(path)).std() > 20


def test_what_cannot_be_explained(slice_model, tiny_dataset, exams, tmp_path):
    with pytest.raises(CamError, match="leave --label out"):
        run(slice_model, tiny_dataset, tmp_path / "out", label="central_pe")
    config = exam_model_config()
    del config["encoder"], config["data_preprocessor"]
    features = [dict(type="LoadStepFeatures"), dict(type="PackExamInputs")]
    stored = write_exam_checkpoint(
        tmp_path / "m.pth", {**config, "in_channels": 6}, pipeline=features
    )
    with pytest.raises(CamError, match="publish puts the encoder into it"):
        run(stored, exams, tmp_path / "out")
    seg = write_checkpoint(tmp_path / "seg.pth", heads=("seg",))
    with pytest.raises(CamError, match="no classification head"):
        run(seg, tiny_dataset, tmp_path / "out")
    volumes = write_volume_checkpoint(tmp_path / "volumes.pth")
    with pytest.raises(CheckpointError, match="a model of volumes, where a model of slices"):
        run(volumes, tiny_dataset, tmp_path / "out")
    with pytest.raises(DataError, match="which is read"):
        run(slice_model, tiny_dataset, tiny_dataset / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(command, slice_model, tiny_dataset, tmp_path):
    words = [slice_model, "--data-root", tiny_dataset, "--out", tmp_path / "out"]
    done = command("explain", *words, "--patients", 2, "--split", "val", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 pictures in {tmp_path / 'out'}\n"
    done = command("explain", *words, "--level", "4")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "there is no level 4: PEResNet has 4, 0 (finest) to 3, or -4 to -1\n"
    )
