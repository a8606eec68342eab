import numpy as np
import pytest
import torch
from studies import PIPELINE, VALIDATED, write_checkpoint

from pe_unified.errors import CheckpointError
from pe_unified.inference.model import load_model
from pe_unified.registry import MODELS


def test_a_checkpoint_says_all_there_is_to_know(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "m.pth"), precision="fp32")
    assert model.model.tasks == ("cls", "seg", "det") and not model.model.training
    assert model.thresholds.gate == VALIDATED["cls/gate"]
    assert model.thresholds.exam == 0.5 and model.thresholds.origin == "validation split"
    assert [type(each).__name__ for each in model.transforms] == [
        *("CropToLungs", "ResizeSlice", "CTWindows", "PackPEInputs")
    ]
    assert model.lineage["step"] == "s9_unified" and len(model.lineage["sha256"]) == 64
    assert load_model(tmp_path / "m.pth", precision="bf16").arithmetic().fast_dtype == (
        torch.bfloat16
    )


def test_thresholds_have_the_digits_of_a_score(tmp_path):
    """Those that were published with more are rounded up, which calls the same scores."""
    validated = {**VALIDATED, "exam/stretch_threshold": 0.76005, "exam/lesion_threshold": 0.58}
    path = write_checkpoint(tmp_path / "m.pth", validated=validated)
    thresholds = load_model(path).thresholds
    assert (thresholds.exam, thresholds.lesion) == (0.7601, 0.58)


def test_the_threshold_of_a_metric_calls_no_stretch(tmp_path):
    """SlicesToExamMetric chooses one of the highest slice, under the name that ExamMetric has."""
    validated = {"cls/threshold": 0.4, "exam/threshold": 0.9}
    path = write_checkpoint(tmp_path / "m.pth", ("cls",), validated=validated)
    assert load_model(path).thresholds.exam is None


def test_never_validated(tmp_path):
    thresholds = load_model(write_checkpoint(tmp_path / "m.pth", validated={})).thresholds
    assert thresholds.slice is thresholds.gate is None
    assert "never validated" in thresholds.origin


def test_thresholds_that_validation_could_not_choose_are_named(tmp_path):
    """A split without a positive slice, and one that was never asked for boxes."""
    validated = {**VALIDATED, "cls/threshold": 0.5, "cls/threshold_by_default": 1.0}
    del validated["det/threshold"]
    path = write_checkpoint(tmp_path / "m.pth", validated=validated)
    origin = load_model(path).thresholds.origin
    assert origin == "validation split; at their defaults, as it cannot choose them: slice, box"
    path = write_checkpoint(tmp_path / "n.pth", heads=("seg",), validated=validated)
    assert load_model(path).thresholds.origin == "validation split"


@pytest.mark.parametrize(
    "evil",
    [
        *("os.system", "subprocess.Popen", "evil_module.Payload", "torch.hub.load"),
        *("builtins.eval", "mmdet.KnowledgeDistillationSingleStageDetector", "mmdet.BertModel"),
    ],
)
def test_a_config_cannot_build_what_is_not_registered(tmp_path, monkeypatch, evil):
    """mmengine would import and call whatever a type names."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('this file was run')")
    monkeypatch.syspath_prepend(tmp_path)
    step = {"type": evil, "command": f"touch {tmp_path}/pwned"}
    pipelines = [*PIPELINE, step]
    path = write_checkpoint(
        tmp_path / "m.pth", ("cls",), test_dataloader={"dataset": {"pipeline": pipelines}}
    )
    with pytest.raises(CheckpointError, match=f"'{evil}', which is not a registered part"):
        load_model(path)
    stored = torch.load(write_checkpoint(tmp_path / "n.pth", ("cls",)))
    stored["meta"]["cfg"]["model"]["backbone"]["norm_cfg"] = step
    torch.save(stored, tmp_path / "n.pth")
    with pytest.raises(CheckpointError, match="not a registered part"):
        load_model(tmp_path / "n.pth")
    assert not (tmp_path / "pwned").exists()


def test_files_that_give_no_model_are_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth: carries no config"):
        load_model(tmp_path / "bare.pth")
    stored = torch.load(write_checkpoint(tmp_path / "m.pth"))
    stored["state_dict"].popitem()
    torch.save(stored, tmp_path / "less.pth")
    with pytest.raises(
        CheckpointError, match=r"less\.pth: the model cannot be built .*Missing key"
    ):
        load_model(tmp_path / "less.pth")
    stored["meta"]["cfg"] = {"model": {"type": "PEUnified"}}
    torch.save(stored, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: the model cannot be built"):
        load_model(tmp_path / "odd.pth")


@pytest.mark.parametrize("device", ["gpu", "0", "cuda:99", "tpu"])
def test_devices_that_are_not_there(checkpoint, device):
    with pytest.raises(CheckpointError, match=rf"--device {device} cannot be used here.*take cpu"):
        load_model(checkpoint, device=device)


def test_pretrained_weights_are_not_fetched(tmp_path):
    stored = torch.load(write_checkpoint(tmp_path / "m.pth"))
    stored["meta"]["cfg"]["model"]["backbone"]["pretrained"] = "https://nowhere.invalid/w.pth"
    torch.save(stored, tmp_path / "m.pth")
    weights = load_model(tmp_path / "m.pth").model.state_dict()
    expected = load_model(write_checkpoint(tmp_path / "n.pth")).model.state_dict()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(weights[name].numpy(), tensor.numpy())


def test_losses_of_a_stranger_are_not_built(tmp_path):
    """MONAI's perceptual loss would load code from a folder that it is told."""
    stored = torch.load(write_checkpoint(tmp_path / "m.pth"))
    evil = dict(type="monai.losses.PerceptualLoss", cache_dir=str(tmp_path))
    stored["meta"]["cfg"]["model"]["seg_head"]["losses"] = [evil]
    torch.save(stored, tmp_path / "evil.pth")
    assert load_model(tmp_path / "evil.pth", precision="fp32").model.tasks == ("cls", "seg", "det")


def test_parts_of_ones_own_are_built_where_the_file_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS._module_dict))
    (tmp_path / "my_parts.py").write_text(
        "from pe_unified.models.decoders.unet import UNetDecoder\n"
        "from pe_unified.registry import MODELS\n\n\n"
        "@MODELS.register_module()\nclass MyDecoder(UNetDecoder):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"imports": ["my_parts"], "allow_failed_imports": False}
    stored = torch.load(write_checkpoint(tmp_path / "m.pth", ("seg",), custom_imports=own))
    stored["meta"]["cfg"]["model"]["seg_head"]["decoder"]["type"] = "MyDecoder"
    torch.save(stored, tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match="'MyDecoder', which is not a registered part"):
        load_model(tmp_path / "own.pth", precision="fp32")
    model = load_model(tmp_path / "own.pth", trust=True, precision="fp32").model
    assert type(model.seg_head.decoder).__name__ == "MyDecoder"


def test_a_classifier_of_lung_is_not_taken_for_one_of_embolism(tmp_path):
    dataset = {"pipeline": PIPELINE, "neighbours": 0, "label": "lung"}
    path = write_checkpoint(tmp_path / "m.pth", ("cls",), test_dataloader={"dataset": dataset})
    with pytest.raises(CheckpointError, match=r"m\.pth: answers whether a slice shows lung, not"):
        load_model(path)
