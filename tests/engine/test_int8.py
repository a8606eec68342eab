"""An int8 model is calibrated and judged on validation, and gives up what it has to."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from functools import partial
from unittest.mock import MagicMock

import pytest
import torch
from studies import write_checkpoint

from pe_unified.datasets.sources import study_digest
from pe_unified.engine import int8
from pe_unified.engine.evaluate import Evaluation
from pe_unified.errors import CheckpointError, DataError
from pe_unified.inference.engines import exported_folder
from pe_unified.inference.export import export_model
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")

pytest.importorskip("nncf")

FLOAT32 = {"cls/auc": 0.9, "seg/dice": 0.8, "det/mAP_50": 0.5}


def validation(data):
    return dict(type="PESliceDataset", data_root=str(data), ann_file="annotations/val.json")


def images(data):
    return json.loads((data / "annotations" / "val.json").read_text())["images"]


def export(path, data, slices=12):
    model = load_model(path, device="cpu", precision="fp32")
    quantise = partial(int8.quantise, model, validation(data), slices)
    return export_model(model, "openvino", exported_folder(path, "openvino"), quantise)["int8"]


def measured(monkeypatch, *answers):
    """Let the measurements give these metrics in turn; what they were asked."""
    asked, left = [], [dict(FLOAT32), *({**FLOAT32, **each} for each in answers)]
    real = int8.measure_slices

    def measure(predictor, dataset, title, chosen, every, resamples):
        asked.append((dataset["ann_file"], chosen, every, predictor.model.precision))
        if len(asked) == 1:  # the slices that calibrate
            real(predictor, dataset, title, chosen, every=every, resamples=resamples)
        return Evaluation(left.pop(0), {}, {})

    monkeypatch.setattr(int8, "measure_slices", measure)
    return asked


def quantised(path):
    """Names of the operations of an exported file that turn numbers into int8."""
    layers = ET.parse(path).getroot().iter("layer")
    return [each.get("name") for each in layers if each.get("type") == "FakeQuantize"]


@pytest.mark.slow
def test_an_int8_model_answers_as_the_float_one_does(tiny_dataset, folder, tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m.pth")
    monkeypatch.setattr(int8, "TOLERANCE", 1.0)  # of so few slices
    export(path, tiny_dataset)
    manifest = json.loads((tmp_path / "m.openvino" / "export.json").read_text())["int8"]
    assert manifest["parts"] == list(int8.PARTS) and manifest["float"] == []
    assert (manifest["slices"], manifest["calibration_slices"]) == (12, 3)
    assert [each["metrics"].keys() for each in manifest["attempts"]] == [FLOAT32.keys()]
    assert {each.name for each in (tmp_path / "m.openvino").iterdir()} == {
        *("export.json", "heads.bin", "heads.xml", "trunk.bin", "trunk.xml"),
    }
    model = load_model(path, backend="openvino")
    assert model.int8 == manifest["parts"]
    report = analyse_study(folder, tmp_path / "report", StudyPredictor(model))
    assert report["model"]["int8"] == manifest["parts"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    words = rf"int8 \({', '.join(int8.PARTS)}\) and (bf16|fp32) on cpu by openvino"
    assert re.search(words, page)
    plain = load_model(path, device="cpu", precision="fp32")
    expected = analyse_study(folder, tmp_path / "plain", StudyPredictor(plain))
    assert expected["model"]["int8"] == []
    pairs = zip(report["slices"], expected["slices"], strict=True)
    worst = max(abs(one["probability"] - other["probability"]) for one, other in pairs)
    assert 0 < worst < 0.05


@pytest.mark.slow
def test_the_part_of_a_metric_that_is_outside_goes_back_first(tiny_dataset, tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m.pth")
    asked = measured(
        monkeypatch,
        {"seg/dice": 0.794},
        {"cls/auc": 0.906},  # a better one is another one, too
        {"cls/auc": 0.8},
        {"seg/dice": 0.804},
    )
    found = export(path, tiny_dataset, slices=5)
    assert [each["float"] for each in found["attempts"]] == [
        [],
        ["decoder"],
        ["classification", "decoder"],
        ["first stage", "last stage", "classification", "decoder"],
    ]
    assert found["parts"] == ["middle stages", "pyramid"]
    assert found["float32"] == FLOAT32
    # Where the checkpoint works, on every third slice of 12 for at most 5.
    chosen = {"cls/threshold": 0.4, "seg/threshold": 0.85, "det/threshold": 0.58}
    assert {(file, every) for file, _, every, _ in asked} == {("annotations/val.json", 3)}
    assert all(given == chosen for _, given, _, _ in asked)
    assert [each for *_, each in asked] == ["fp32", *[found["precision"]] * 4]
    heads = quantised(tmp_path / "m.openvino" / "heads.xml")
    assert any("/rpn_head/" in name for name in heads)
    assert not any("/seg_head/" in name for name in heads)
    trunk = quantised(tmp_path / "m.openvino" / "trunk.xml")
    assert any("/layer2/" in name for name in trunk)
    assert not any(word in name for name in trunk for word in ("/cls_head/", "layer1/", "layer4/"))


def test_parts_that_stay_in_float_are_left_out(tmp_path):
    """The library stands aside and keeps what it was told."""
    path = write_checkpoint(tmp_path / "m.pth", ("seg",))
    model = load_model(path, device="cpu", precision="fp32")
    export_model(model, "openvino", tmp_path / "m.openvino")
    library = MagicMock()
    library.quantize.side_effect = lambda network, *_, **__: network
    networks = int8._Networks(library, model, tmp_path / "m.openvino", [])
    networks.write(tmp_path / "int8", networks.parts - {"last stage"})
    told = [call.kwargs["ignored_scope"] for call in library.quantize.call_args_list]
    assert told and all(each is library.IgnoredScope.return_value for each in told)
    left = {name for call in library.IgnoredScope.call_args_list for name in call.kwargs["names"]}
    assert any("/layer1/" in name for name in left)
    assert not any("/layer4/" in name for name in left)


def test_a_metric_that_differs_is_outside_whichever_is_better():
    found = {"cls/auc": 0.906, "seg/dice": 0.796, "det/mAP_50": 0.494}
    assert int8.differing(FLOAT32, found) == {"cls/auc", "det/mAP_50"}


def test_the_head_goes_back_to_float_before_the_backbone_and_its_ends_before_its_middle():
    parts, order = set(int8.PARTS), []
    while parts:
        order.append(int8.to_leave({"seg/dice"}, parts))
        parts = parts - order[-1]
    assert order == [
        {"decoder"},
        {"first stage", "last stage"},
        {"middle stages"},
        {"classification", "pyramid"},
    ]


@pytest.mark.slow
def test_no_part_within_the_tolerance_is_an_error(tiny_dataset, tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m.pth", ("seg",))
    model = load_model(path, device="cpu", precision="fp32")
    export_model(model, "openvino", tmp_path / "m.openvino")
    before = (tmp_path / "m.openvino" / "export.json").read_bytes()
    measured(monkeypatch, *[{"seg/dice": 0.6}] * 4)
    with pytest.raises(CheckpointError, match=r"seg/dice 0\.8000 is 0\.6000; no part .* int8"):
        export(path, tiny_dataset)
    assert (tmp_path / "m.openvino" / "export.json").read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"m.pth", "m.openvino"}


def test_slices_without_emboli_judge_nothing(tiny_dataset, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_dataset, data)
    val = data / "annotations" / "val.json"
    coco = json.loads(val.read_text())
    coco["images"] = [each for each in coco["images"] if each["pe_present"] == 0]
    coco["annotations"] = []
    val.write_text(json.dumps(coco))
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    with pytest.raises(DataError, match=r"val\.json: cls/auc is undefined"):
        export(path, data)


def test_the_command_needs_no_test_patients(tiny_dataset, tmp_path, load_tool, called, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(tiny_dataset, data)
    for split in ("train", "test"):
        (data / "annotations" / f"{split}.json").unlink()
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    monkeypatch.setattr(int8, "TOLERANCE", 1.0)
    main = load_tool("export").main
    words = [path, "--backend", "openvino", "--int8", "--data-root", data, "--slices", 15]
    done = called(main, "export", *words)
    assert done.returncode == 0, done.stderr
    assert "within 1.0 of float32 on 12 validation slices, 3 of which calibrated it" in done.stdout
    assert load_model(path, backend="openvino").int8
    stored = torch.load(path)
    studies = [study_digest(each["study_uid"] or "") for each in images(data)]
    source = dict.fromkeys(("set", "source", "patients", "slices", "synthetic", "step"))
    stored["meta"]["trained_on"] = [{**source, "studies": studies}]
    torch.save(stored, path)
    known = called(main, "export", *words)
    assert known.returncode == 1 and "was trained on patients of" in known.stderr
    wrong = called(main, "export", path, "--backend", "onnx", "--int8", "--data-root", data)
    assert wrong.returncode == 2 and "--int8 needs --backend openvino" in wrong.stderr
