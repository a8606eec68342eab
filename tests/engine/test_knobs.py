"""Top-level names that reach every place they govern."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from pe_unified import precision
from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.engine import ConfigError, load_config
from pe_unified.registry import MODELS


@pytest.fixture(scope="module")
def path(repository):
    return repository / "configs/pe_cls_r50.py"


def sizes(cfg):
    return [
        transform["size"]
        for split in ("train", "val", "test")
        for transform in cfg[f"{split}_dataloader"].dataset.pipeline
        if transform["type"] == "ResizeSlice"
    ]


def test_knobs_reach_every_place(path):
    cfg = load_config(
        path,
        {"input_size": 96, "lr": 0.5, "batch_size": 3, "seed": 7, "num_workers": 0},
        data_root="elsewhere",
    )
    assert sizes(cfg) == [96, 96, 96]
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.train_dataloader.batch_size == 3
    assert cfg.randomness.seed == 7
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        assert loader.dataset.data_root == "elsewhere"
        assert loader.num_workers == 0 and loader.persistent_workers is False


def test_schedule_keeps_its_shape_at_any_length(path):
    cfg = load_config(path, {"max_iters": 200})
    warmup, cosine = cfg.param_scheduler
    assert cfg.train_cfg.max_iters == 200 and cfg.train_cfg.val_interval == 200
    assert warmup["end"] == cosine["begin"] == 100
    assert cosine["end"] == 200 and cosine["T_max"] == 100


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_the_full_rate_is_reached(path, warmup):
    """As mmengine's schedulers do it; a warm-up of one iteration would never end."""
    cfg = load_config(path, {"warmup_iters": warmup, "max_iters": 20, "lr": 0.5})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedulers = [
        PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert rates[0] == pytest.approx(0.5 if warmup < 2 else 0.005)
    assert rates[-1] < 0.02


def test_a_schedule_of_other_parts_is_left_alone(path, tmp_path):
    parts = [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=7),
        dict(type="ConstantLR", factor=1.0, by_epoch=False, begin=7, end=15),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=15, end=20, T_max=5),
    ]
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = {str(path)!r}\nparam_scheduler = {parts!r}\n")
    assert load_config(child, {"max_iters": 20}).param_scheduler == parts


def test_short_names_of_precision_set_training_and_evaluation(path):
    cfg = load_config(path, {"precision": "fp32"})
    assert cfg.optim_wrapper.precision == "fp32"
    assert cfg.val_cfg.fp16 is cfg.test_cfg.fp16 is False
    assert load_config(path, {"precision": "bf16"}).test_cfg.fp16 is True


@pytest.mark.parametrize("found", ["fp32", "bf16"])
def test_the_faster_precision_is_taken_and_kept(path, monkeypatch, found):
    monkeypatch.setattr(precision, "fastest_precision", lambda device: found)
    cfg = load_config(path)
    assert cfg.precision == cfg.optim_wrapper.precision == found
    assert cfg.test_cfg.fp16 is (found == "bf16")


def test_an_unknown_precision_is_a_fault_of_the_config(path):
    with pytest.raises(ConfigError, match="auto, fp32, bf16"):
        load_config(path, {"precision": "fp16"})


def test_windows_and_neighbours(path):
    cfg = load_config(path, {"windows": ["pe"], "neighbours": 1})
    windows = [
        transform["windows"]
        for transform in cfg.test_dataloader.dataset.pipeline
        if transform["type"] == "CTWindows"
    ]
    assert windows == [["pe"]]
    assert cfg.train_dataloader.dataset.neighbours == 1
    assert "in_channels" not in cfg.model.backbone  # three, as everywhere


@pytest.mark.parametrize("name", ["pe_unified_r50", "pe_unified_swin"])
def test_the_network_takes_as_many_channels_as_there_are(repository, name):
    """Three slices through three windows; built and run as it is."""
    small = {"pretrained": None, "neighbours": 1, "precision": "fp32"}
    said = {"model.backbone.in_channels": 9}  # by those who know
    cfg = load_config(repository / f"configs/{name}.py", {**small, **said})
    assert cfg.model == load_config(repository / f"configs/{name}.py", small).model
    model = MODELS.build(cfg.model).eval()
    batch = {"inputs": [torch.zeros(9, 64, 64, dtype=torch.uint8)]}
    (found,) = model.test_step({**batch, "data_samples": [PEDataSample()]})
    assert model.data_preprocessor.mean.shape == (1, 9, 1, 1)
    assert found is not None


def test_another_logger_reaches_the_visualizer(path):
    cfg = load_config(path, {"vis_backends.1.type": "MLflowVisBackend"})
    kinds = [backend["type"] for backend in cfg.visualizer.vis_backends]
    assert kinds == ["LocalVisBackend", "MLflowVisBackend"]


def test_knobs_know_a_part_by_its_scoped_name(path, tmp_path):
    child = tmp_path / "scoped.py"
    pipeline = [dict(type="pe_unified.ResizeSlice", size=512)]
    child.write_text(
        f"_base_ = {str(path)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline}))\n"
    )
    cfg = load_config(child, {"input_size": 96})
    assert cfg.test_dataloader.dataset.pipeline[0]["size"] == 96


def test_one_window_is_a_list_too(path):
    for windows in ("pe", ["pe"]):
        cfg = load_config(path, {"windows": windows})
        assert cfg.windows == ["pe"] and cfg.model.backbone.in_channels == 1


def test_a_decoder_that_sees_no_image_is_told_of_no_channels(repository):
    decoder = dict(_delete_=True, type="mmdet.FPN")
    settings = [dict(model=dict(seg_head=dict(decoder=decoder)))]
    cfg = load_config(repository / "configs/pe_seg_r50.py", {"windows": ["pe"]}, settings=settings)
    assert "image_channels" not in cfg.model.seg_head.decoder
    usual = load_config(repository / "configs/pe_seg_r50.py", {"windows": ["pe"]})
    assert usual.model.seg_head.decoder.image_channels == 1


def test_the_folder_of_scores_reaches_steps_that_choose_by_them(repository):
    for name, expected in (("siamese", {"there"}), ("shared_features", {None})):
        settings = [{"lung_scores": "there"}]
        cfg = load_config(repository / f"configs/exam/{name}.py", settings=settings)
        steps = [cfg[f"{split}_dataloader"].dataset.steps for split in ("train", "val", "test")]
        assert {each.get("scores") for each in steps} == expected


@pytest.mark.parametrize(
    ("name", "knob", "value"),
    [
        ("unets/xnet", "frozen_stages", 4),
        ("unets/unet_resnet34", "preset", "paper"),
        ("exam/lung_slices", "paste_emboli", 0.5),
        ("exam/lung_slices", "lung_crop", False),
        ("exam/two_phase_chunks", "neighbours", 1),
    ],
)
def test_a_knob_without_a_place_is_refused(name, knob, value):
    with pytest.raises(ConfigError, match=f"override '{knob}' would have no effect"):
        load_config(name, {knob: value})
    load_config(name, {knob: value}, of_recipe=True)
    load_config(name, {knob: load_config(name)[knob]})


@pytest.mark.parametrize("override", [{"max_iters": "20k"}, {"neighbours": "one"}, {"windows": 5}])
def test_a_knob_of_the_wrong_kind_is_an_error_of_the_config(path, override):
    with pytest.raises(ConfigError, match="a setting is of the wrong kind"):
        load_config(path, override)


def test_knobs_that_act_without_a_place(repository):
    cfg = load_config("pe_seg_r50", {"lung_crop": False, "swa_share": 0.5})
    assert cfg.default_hooks.average.type == "SWAHook"
    assert "CropToLungs" not in [each.type for each in cfg.test_dataloader.dataset.pipeline]
    assert load_config("ablations/seg_r50_swa", {"swa_share": None}).default_hooks.average.ema_type
