import gc
import json
import signal
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from studies import PIPELINE, write_checkpoint

from pe_unified.errors import CheckpointError
from pe_unified.inference.engines import MANIFEST, TorchEngine, exported_folder, open_engine
from pe_unified.inference.export import export_model
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.registry import MODELS
from pe_unified.reports.analysis import analyse_study
from pe_unified.testing import tiny_model_config

pytestmark = pytest.mark.usefixtures("without_dicom")

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


def exported(path, backend):
    model = load_model(path, device="cpu", precision="fp32")
    return export_model(model, backend, exported_folder(path, backend))["differences"]


@pytest.mark.parametrize(
    ("backend", "heads"),
    [
        ("onnx", ("cls", "seg", "det")),
        ("openvino", ("cls", "seg", "det")),
        ("onnx", ("cls",)),
        ("onnx", ("seg",)),
    ],
)
def test_computes_what_torch_computes(tmp_path, backend, heads):
    path = write_checkpoint(tmp_path / "m.pth", heads)
    differences = exported(path, backend)
    assert max(differences.values()) < 1e-4
    expected = {"level", *(("cls",) if "cls" in heads else ())}
    assert expected <= set(differences) and ("seg" in differences) == ("seg" in heads)
    assert ("rpn_offsets" in differences) == ("det" in heads)


@pytest.mark.parametrize("backbone", ["resnet", pytest.param("swin", marks=pytest.mark.slow)])
def test_levels_pass_through_openvino_in_bfloat16(tmp_path, backbone):
    """In other strides and another type than torch's, also for some slices of a batch."""
    path = tmp_path / "m.pth"
    torch.save(with_model(path, tiny_model_config(("cls", "seg"), backbone)), path)
    exported(path, "openvino")
    ways = [
        load_model(path, device="cpu", precision=precision, backend=backend).engine
        for backend, precision in (("torch", "fp32"), ("openvino", "bf16"))
    ]
    inputs, rows = torch.randn(3, 3, 64, 64), [0, 2]
    found = []
    for engine in ways:
        with torch.inference_mode():
            _, levels = engine.trunk(inputs)
            few = tuple(level[rows] for level in levels)
            found.append((levels, engine.heads(few, inputs[rows])))
    for plain, fast in zip(found[0][0], found[1][0], strict=True):
        assert fast.dtype == torch.bfloat16 and fast.shape == plain.shape
        torch.testing.assert_close(fast.float(), plain, rtol=0.05, atol=0.05 * float(plain.std()))
    plain, fast = (heads.seg for _, heads in found)
    torch.testing.assert_close(fast, plain, rtol=0.05, atol=0.05 * float(plain.std()))


def test_a_signal_is_handled_after_openvino(tmp_path):
    """Each part opens a network; a broken stack of signal handlers would end the process."""
    exported(write_checkpoint(tmp_path / "m.pth", ("seg",)), "openvino")
    gc.collect()
    handled = []
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.append(True))
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert handled


def with_model(path, config):
    """A checkpoint of another network, with weights drawn by chance."""
    stored = torch.load(write_checkpoint(path))
    stored["meta"]["cfg"]["model"] = config
    with DefaultScope.overwrite_default_scope("pe_unified"):
        stored["state_dict"] = MODELS.build(config).state_dict()
    return stored


def test_swin_with_an_evidence_map_and_normalised_features(tmp_path):
    path = tmp_path / "m.pth"
    config = tiny_model_config(("cls",), "swin")
    config["cls_head"] |= {"evidence_channels": 8, "normalise": True}
    torch.save(with_model(path, config), path)
    assert max(exported(path, "onnx").values()) < 1e-4


def test_slices_with_their_neighbours(tmp_path, folder):
    """Three windows of three slices are nine channels, also for the runtime."""
    path, config = tmp_path / "m.pth", tiny_model_config()
    config["backbone"]["in_channels"] = 9
    config["seg_head"]["decoder"]["image_channels"] = 9
    config["data_preprocessor"].update(mean=[127.5] * 9, std=[64.0] * 9)
    stored = with_model(path, config)
    stored["meta"]["cfg"]["test_dataloader"]["dataset"]["neighbours"] = 1
    torch.save(stored, path)
    assert max(exported(path, "openvino").values()) < 1e-4
    models = [load_model(path, precision="fp32", backend=name) for name in ("torch", "openvino")]
    plain, fast = (
        analyse_study(folder, tmp_path / model.backend, StudyPredictor(model)) for model in models
    )
    seen = [
        (one["probability"], other["probability"])
        for one, other in zip(plain["slices"], fast["slices"], strict=True)
    ]
    assert np.array(seen, float) == pytest.approx(
        np.array(seen, float)[:, ::-1], abs=1e-3, nan_ok=True
    )
    assert len({one for one, _ in seen}) > 2


@pytest.mark.parametrize(
    ("backend", "size"),
    [pytest.param("onnx", 64, marks=pytest.mark.slow), ("openvino", (48, 80))],
)
def test_a_study_gets_the_same_report(tmp_path, painted_set, backend, size):
    """Also where the network's input is padded."""
    pipeline = [{**step, "size": size} if "size" in step else step for step in PIPELINE]
    loader = {"dataset": {"pipeline": pipeline, "neighbours": 0}}
    path = write_checkpoint(tmp_path / "m.pth", test_dataloader=loader)
    exported(path, backend)
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    plain = load_model(path, device="cpu", precision="fp32")
    fast = load_model(path, precision="fp32", backend=backend)
    expected = analyse_study(folder, tmp_path / "torch", StudyPredictor(plain))
    found = analyse_study(folder, tmp_path / backend, StudyPredictor(fast))
    assert found["model"]["backend"] == backend
    for one, other in zip(found["slices"], expected["slices"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-3)
        assert one["embolus_pixels"] == pytest.approx(other["embolus_pixels"], abs=3)
    assert len(found["lesions"]) == pytest.approx(len(expected["lesions"]), abs=1)
    # The runtime holds these weights; a second copy would only take memory.
    assert not any(weight.numel() for weight in fast.model.backbone.parameters())
    assert all(weight.numel() for weight in fast.model.head("det").roi_head.parameters())


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_model_that_computes_something_else_is_not_written(tmp_path, monkeypatch, factor):
    path = write_checkpoint(tmp_path / "m.pth", ("seg",))
    right = TorchEngine.heads
    monkeypatch.setattr(
        TorchEngine,
        "heads",
        lambda self, levels, inputs: right(self, [level * factor for level in levels], inputs),
    )
    with pytest.raises(CheckpointError, match="differs from torch by"):
        exported(path, "onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["m.pth"]


def test_an_export_of_another_checkpoint_is_refused(tmp_path):
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    with pytest.raises(CheckpointError, match="pe-unified export"):
        load_model(path, backend="onnx")
    exported(path, "onnx")
    assert load_model(path, backend="onnx").precision == "fp32"
    manifest = path.with_suffix(".onnx") / MANIFEST
    written = json.loads(manifest.read_text())
    for change, message in (
        ({"pe_unified": "0.0.9"}, "by another version of pe_unified"),
        ({"backend": "openvino"}, "for another backend"),
    ):
        manifest.write_text(json.dumps({**written, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_model(path, backend="onnx")
    write_checkpoint(path, ("cls",), seed=1)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        load_model(path, backend="onnx")


def test_the_torch_engine_cuts_the_network_without_changing_it(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "m.pth"), device="cpu", precision="fp32")
    engine = open_engine("torch", model.model, "fp32", tmp_path, "")
    inputs = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits, levels = engine.trunk(inputs)
        dense = engine.heads(levels, inputs)
        whole = model.model(inputs, mode="tensor")
    np.testing.assert_array_equal(logits.numpy(), whole["cls"].numpy())
    np.testing.assert_array_equal(dense.seg.numpy(), whole["seg"].numpy())
    for one, other in zip(dense.rpn_scores, whole["det"][0], strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_manifest_says_what_it_is(tmp_path):
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    exported(path, "onnx")
    manifest = json.loads((tmp_path / "m.onnx" / "export.json").read_text())
    assert manifest["size"] == [64, 64] and manifest["backend"] == "onnx"
    assert len(manifest["sha256"]) == 64 and max(manifest["differences"].values()) < 1e-4


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    model = load_model(path, device="cpu", precision="fp32")
    other = tmp_path / "models"
    other.mkdir()
    (other / "years of work.pth").write_bytes(b"keep")
    for folder in (other, path):
        with pytest.raises(CheckpointError, match="holds other files, which would be lost"):
            export_model(model, "onnx", folder)
    assert (other / "years of work.pth").read_bytes() == b"keep" and path.stat().st_size
    (tmp_path / "new").mkdir()  # empty, then an earlier export
    export_model(model, "onnx", tmp_path / "new")
    export_model(model, "onnx", tmp_path / "new")


def test_without_the_runtime_the_cure_is_told_and_nothing_written(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CheckpointError, match="--backend openvino: openvino is not installed; pip"):
        exported(path, "openvino")
    assert [each.name for each in tmp_path.iterdir()] == ["m.pth"]


def test_onnx_computes_in_fp32(tmp_path):
    path = write_checkpoint(tmp_path / "m.pth", ("cls",))
    with pytest.raises(CheckpointError, match="onnx computes in fp32"):
        load_model(path, precision="bf16", backend="onnx")
