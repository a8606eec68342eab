"""Several networks as one model: what they say together, and what each said."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from studies import VALIDATED, write_checkpoint, write_ensemble

import pe_unified.reports
from pe_unified.ct.opening import open_study
from pe_unified.errors import CheckpointError
from pe_unified.inference.model import load_model, load_network
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.reports.analysis import analyse_study

pytestmark = pytest.mark.usefixtures("without_dicom")

#: Smaller slices, other windows, a neighbour on each side.
OTHER_INPUT = [
    dict(type="LoadCTSlice"),
    dict(type="CropToLungs", margin_mm=5.0, size=(48, 64)),
    dict(type="ResizeSlice", size=(48, 64)),
    dict(type="CTWindows", windows=["pe"]),
    dict(type="PackPEInputs"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("members")
    other = {"dataset": {"pipeline": OTHER_INPUT, "neighbours": 1}}
    return {
        "a": write_checkpoint(root / "a.pth"),
        "b": write_checkpoint(root / "b.pth", seed=1, test_dataloader=other),
        "cls": write_checkpoint(root / "cls.pth", ("cls",), seed=2),
        "root": root,
    }


@pytest.fixture(scope="module")
def folder(folder, tmp_path_factory):
    """Eight slices in the middle of the patient."""
    few = tmp_path_factory.mktemp("few")
    for path in sorted(folder.iterdir())[4:12]:
        shutil.copy(path, few)
    return few


def digest(name):
    return hashlib.sha256(name.encode()).hexdigest()


def load(path):
    return load_model(path, device="cpu", precision="fp32")


def ensemble(files, names, **options):
    path = files["root"] / f"{'-'.join(names)}-{options.get('rule', 'mean')}.pth"
    return load(write_ensemble(path, {name: files[name] for name in names}, **options))


def predictions(model, folder, **options):
    with open_study(folder) as study:
        reader = SliceReader(study)
        return StudyPredictor(model, **options).predict(reader, survey(reader, every_slice=True))


def everything(model):
    """Without thresholds, so that all that is said can be compared."""
    low = replace(model.thresholds, pixel=1 / 256, box=0.0, gate=None)
    return replace(model, thresholds=low)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_an_ensemble_of_one_is_the_model(files, folder, weight):
    alone = load(files["a"])
    both = ensemble(files, ["a"], weights={"a": weight})
    assert both.tasks == alone.tasks and both.thresholds == alone.thresholds
    for one, other in zip(predictions(alone, folder), predictions(both, folder), strict=True):
        assert one.probability == other.probability and one.examined == other.examined
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.pixel_probability, other.pixel_probability)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
        assert other.pixel_votes is None and other.box_votes is None


def whole_maps(found, size):
    maps = np.zeros((len(found), size), np.float32)
    for own, each in zip(maps, found, strict=True):
        own[each.pixels] = each.pixel_probability
    return maps


def test_the_mean_of_two_is_the_mean_by_hand(files, folder):
    """Though their inputs differ in size, windows and slices."""
    one, other = (everything(load(files[name])) for name in "ab")
    assert [each.neighbours for each in (one, other)] == [0, 1]
    weights = {"a": 2.0, "b": 1.0}
    together = everything(ensemble(files, ["a", "b"], weights=weights))
    found = [predictions(each, folder) for each in (one, other, together)]
    for first, second, both in zip(*found, strict=True):
        assert both.probability == pytest.approx((2 * first.probability + second.probability) / 3)
    with open_study(folder) as study:
        size = int(np.prod(study.shape[1:]))
    first, second, both = (whole_maps(each, size) for each in found)
    expected = (2 * first + second) / 3
    # Below 1/256 a map is cut to nothing, in the mean and in each.
    np.testing.assert_allclose(both, expected, atol=1 / 256)
    assert both.max() > 0.1
    assert sum(len(each.boxes) for each in found[2]) > 0


def test_members_of_other_tasks_make_a_cascade(files, folder):
    """The classifier's gate decides for the other, whose own classification counts too."""
    for name, heads in (("seg", ("seg",)), ("det", ("det",))):
        files[name] = write_checkpoint(files["root"] / f"{name}.pth", heads)
    alone = predictions(load(files["cls"]), folder)
    gate = sorted(each.probability for each in alone)[4]
    validated = {**VALIDATED, "cls/gate": gate}
    model = ensemble(files, ["cls", "seg", "det"], validated=validated)
    assert model.tasks == ("cls", "seg", "det")
    found = predictions(model, folder)
    assert [each.probability for each in found] == [each.probability for each in alone]
    assert {each.examined for each in found} == {True, False}
    lone = {name: predictions(load(files[name]), folder) for name in ("seg", "det")}
    for k, each in enumerate(found):
        if each.examined:
            np.testing.assert_array_equal(each.pixels, lone["seg"][k].pixels)
            np.testing.assert_allclose(each.boxes, lone["det"][k].boxes, atol=1e-5)
        else:
            assert not len(each.pixels) and not len(each.boxes)


def test_a_report_tells_the_members_and_who_found_what(files, folder, tmp_path):
    names = ["a", "b", "cls"]
    model = ensemble(files, names, validated={**VALIDATED, "seg/threshold": 0.45})
    report = analyse_study(folder, tmp_path / "out", StudyPredictor(model))
    schema = Path(pe_unified.reports.__file__).with_name("report.schema.json")
    Draft202012Validator(json.loads(schema.read_text())).validate(report)
    block = report["model"]["ensemble"]
    assert block["rule"] == "mean" and [each["name"] for each in block["members"]] == names
    assert [each["sha256"] for each in block["members"]] == [digest(name) for name in names]
    assert report["model"]["sha256"] != block["members"][0]["sha256"]
    found = {tuple(lesion["found_by"]) for lesion in report["lesions"]}
    assert found and found <= {(), ("a",), ("b",), ("a", "b")} and len(found) > 1
    page = (tmp_path / "out/report.html").read_text()
    assert "found by" in page and "1 of 2" in page and "3 models by their weighted mean" in page
    single = analyse_study(folder, tmp_path / "one", StudyPredictor(load(files["a"])))
    assert single["model"]["ensemble"] is None
    assert {lesion["found_by"] for lesion in single["lesions"]} == {None}
    assert "found by" not in (tmp_path / "one/report.html").read_text()


def test_votes(files, folder):
    """Each member's yes or no, by thresholds of its own."""
    singles = [load(files[name]) for name in "ab"]
    model = ensemble(files, ["a", "b"], rule="vote", validated={**VALIDATED, "cls/gate": 0.0})
    found = predictions(model, folder)
    own = [predictions(each, folder, gate=False) for each in singles]
    for both, *each in zip(found, *own, strict=True):
        said = [one.probability >= VALIDATED["cls/threshold"] for one in each]
        assert both.probability == sum(said) / 2
    assert {each.probability for each in found} <= {0.0, 0.5, 1.0}


def test_what_cannot_be_used_is_told_by_the_member(files, tmp_path):
    path = write_ensemble(tmp_path / "e.pth", {"a": files["a"], "b": files["b"]})
    with pytest.raises(CheckpointError, match="an ensemble computes in torch"):
        load_model(path, backend="onnx")
    with pytest.raises(CheckpointError, match="an ensemble, but a single model is needed"):
        load_network(path)
    stored = torch.load(path, weights_only=False)
    del stored["members"][1]["model"]["state_dict"]["cls_head.fc.weight"]
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match=r"e\.pth, member b: the model cannot be built"):
        load_model(path)
    stored = torch.load(path, weights_only=False)
    stored["members"][1]["model"]["meta"]["cfg"]["model"]["backbone"]["type"] = "os.system"
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match=r"member b: refused"):
        load_model(path)
