"""The backbone in stock mmdet, mmseg and mmpretrain models, and those models beside ours."""

import subprocess
import sys
from pathlib import Path

import mmdet
import mmpretrain
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from pe_unified.engine import load_config
from pe_unified.models.stock import (
    as_channels_last,
    copy_to_stock,
    largest_difference,
    stock_batch,
    stock_models,
)
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch, tiny_model_config, usual_det_head

#: Stock configs as the frameworks install them; each stands on a ResNet.
STOCK_CONFIGS = {
    "mmdet": (mmdet, "faster-rcnn_r50_fpn.py"),
    "mmseg": (mmseg, "fcn_r50-d8.py"),
    "mmpretrain": (mmpretrain, "resnet18.py"),
}
SMALL = {
    "resnet": dict(type="pe_unified.PEResNet", depth=18, base_channels=16),
    "swin": dict(
        type="pe_unified.PESwin",
        embed_dims=16,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 2, 4),
        window_size=4,
        drop_path_rate=0.0,
    ),
}


def _stock_config(framework: str, backbone: dict) -> Config:
    """A stock model config whose backbone is replaced, widths made to fit."""
    package, name = STOCK_CONFIGS[framework]
    folder = Path(package.__file__).parent / ".mim/configs/_base_/models"
    config = Config.fromfile(folder / name).model
    config.backbone = dict(backbone)
    config.data_preprocessor = None
    if framework == "mmdet":
        config.neck.in_channels = [16, 32, 64, 128]
        config.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
        config.roi_head.bbox_head.update(num_classes=1, fc_out_channels=32)
    elif framework == "mmseg":
        config.pretrained = None
        config.decode_head.in_channels = 128
        config.auxiliary_head.in_channels = 64
        for head in (config.decode_head, config.auxiliary_head):
            head.norm_cfg.type = "BN"
    else:
        config.head.in_channels = 128
        config.head.topk = (1,)
    return config


def _build(framework: str, config: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(framework):
        return MODELS.build(config)


@pytest.mark.parametrize("framework", STOCK_CONFIGS)
@pytest.mark.parametrize("backbone", ["resnet", pytest.param("swin", marks=pytest.mark.slow)])
def test_a_stock_config_takes_the_backbone_and_its_trained_weights(tmp_path, framework, backbone):
    trained = MODELS.build(tiny_model_config(("cls",), backbone))
    checkpoint = tmp_path / "pe.pth"
    torch.save({"state_dict": trained.state_dict(), "meta": {}}, checkpoint)
    by_init_cfg = dict(type="Pretrained", checkpoint=str(checkpoint), prefix="backbone.")
    for start in (dict(init_cfg=by_init_cfg), dict(pretrained=str(checkpoint))):
        model = _build(framework, _stock_config(framework, {**SMALL[backbone], **start}))
        model.init_weights()
        for name, value in trained.backbone.state_dict().items():
            assert torch.equal(model.backbone.state_dict()[name], value), name
    model.train()
    batch = stock_batch(
        MODELS.build(dict(type="pe_unified.PEDataPreprocessor"))(tiny_batch()),
        "cls" if framework == "mmpretrain" else "seg",
    )
    losses = model(torch.stack(batch["inputs"]), batch["data_samples"], mode="loss")
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.slow
def test_a_stock_config_file_finds_the_backbone_by_custom_imports(tmp_path):
    """In a process that has not heard of pe_unified, as mim or mmdet's tools would run it."""
    folder = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
    (tmp_path / "config.py").write_text(
        f"_base_ = {str(folder / 'faster-rcnn_r50_fpn.py')!r}\n"
        "custom_imports = dict(imports=['pe_unified.models'])\n"
        "default_scope = 'mmdet'\n"
        "model = dict(backbone=dict(type='pe_unified.PEResNet', init_cfg=None))\n"
    )
    code = (
        "from mmengine.config import Config\n"
        f"config = Config.fromfile({str(tmp_path / 'config.py')!r})\n"
        "from mmdet.registry import MODELS\n"
        "from mmengine.registry import init_default_scope\n"
        "init_default_scope('mmdet')\n"
        "model = MODELS.build(config.model)\n"
        "print(type(model).__name__, type(model.backbone).__name__)\n"
        "print(model.backbone.frozen_stages, model.backbone.norm_eval)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["FasterRCNN", "PEResNet", "1", "True"]


def _same_settings(backbone: str) -> dict:
    config = tiny_model_config(backbone=backbone)
    config["cls_head"] = dict(type="pe_unified.PEClsHead", pool="avg")
    config["seg_head"] = dict(
        type="pe_unified.PESegHead", decoder=dict(channels=(24, 16, 16, 8), skip_channels=16)
    )
    folder = Path(__file__).parents[2] / "configs/ablations"
    stock = Config.fromfile(folder / "det_r50_stock.py").model.det_head.to_dict()
    config["det_head"] = usual_det_head(
        stock,
        dict(
            neck=dict(out_channels=24),
            roi_head=dict(bbox_head=dict(fc_out_channels=32)),
            test_cfg=dict(rpn=dict(max_per_img=100)),
        ),
    )
    return config


@pytest.mark.parametrize(
    ("channels_last", "backbone"),
    [
        (False, "resnet"),
        (False, "swin"),
        (True, "resnet"),
        pytest.param(True, "swin", marks=pytest.mark.slow),
    ],
)
def test_equal_weights_give_equal_answers(backbone, channels_last):
    """128 x 160 pixels: no level of the Swin fits into one window, so mmpretrain agrees."""
    torch.manual_seed(0)
    model = MODELS.build(_same_settings(backbone))
    for value in model.state_dict().values():
        if value.is_floating_point():
            value *= 1 + 0.1 * torch.randn_like(value)
    model.det_head.roi_head.bbox_head.fc_cls.bias.data[0] += 1  # so that something is found
    model.eval()
    stock = stock_models(_same_settings(backbone))
    assert list(stock) == ["cls", "seg", "det"]
    for task, other in stock.items():
        copied = copy_to_stock(model, other, task)
        assert all(report.tensors == report.total for report in copied)
        other.data_preprocessor = model.data_preprocessor
        other.eval()
    if channels_last:
        for each in (model, *stock.values()):
            as_channels_last(each)
    batch = tiny_batch((128, 160), batch_size=2)
    assert largest_difference(model, stock, batch) < 1e-4
    found = stock["det"].test_step(stock_batch(batch, "det"))
    assert sum(len(sample.pred_instances) for sample in found) > 0, "there is something to compare"
    stock["seg"].decode_head.conv_seg.bias.data += 3
    assert largest_difference(model, stock, batch) > 1e-3, "a difference would be seen"


def test_equal_weights_give_equal_losses():
    config = _same_settings("resnet")
    config["seg_head"]["losses"] = [dict(type="pe_unified.PixelCrossEntropyLoss")]
    # Nothing left to chance; and with mmdet's 0.3, no anchor would learn from these discs.
    train = config["det_head"]["train_cfg"]
    train["rpn"]["assigner"]["min_pos_iou"] = 0.05
    train["rpn"]["sampler"]["num"] = train["rcnn"]["sampler"]["num"] = 10**6
    torch.manual_seed(0)
    model = MODELS.build(config).eval()
    batch = tiny_batch((64, 96))

    def losses(each, task):
        return each(**model.data_preprocessor(stock_batch(batch, task)), mode="loss")

    ours = losses(model, "all")
    theirs = {}
    for task, other in stock_models(config).items():
        copy_to_stock(model, other, task)
        other.eval()
        for name, value in losses(other, task).items():
            theirs[task, name] = sum(value) if isinstance(value, list) else value
    for name, pair in {
        "cls_loss_ce": ("cls", "loss"),
        "seg_loss_bce": ("seg", "decode.loss_ce"),
        "det_loss_rpn_cls": ("det", "loss_rpn_cls"),
        "det_loss_rpn_bbox": ("det", "loss_rpn_bbox"),
        "det_loss_roi_cls": ("det", "loss_cls"),
        "det_loss_roi_bbox": ("det", "loss_bbox"),
    }.items():
        assert ours[name] > 0
        torch.testing.assert_close(
            ours[name], theirs[pair], msg=lambda text, n=name: f"{n}: {text}"
        )


def test_what_the_stock_frameworks_cannot_express_is_refused():
    config = _same_settings("resnet")
    with pytest.raises(ValueError, match="pools the last level by 'avg' only"):
        stock_models({**config, "cls_head": dict(type="PEClsHead", pool="avg+max")})
    decoder = dict(channels=(24, 16, 16, 8), detail_channels=4)
    with pytest.raises(ValueError, match="detail_channels needs the image"):
        stock_models({**config, "seg_head": dict(type="PESegHead", decoder=decoder)})


def test_a_shipped_config_has_its_stock_models(repository):
    overrides = {"pretrained": None, "model.seg_head.decoder.detail_channels": 0}
    config = load_config(repository / "configs/pe_seg_r50.py", overrides).model.to_dict()
    assert list(stock_models(config)) == ["seg"]
    config["seg_head"]["decoder"]["type"] = "SumDecoder"
    with pytest.raises(ValueError, match="not a SumDecoder"):
        stock_models(config)
    config["backbone"] = dict(type="PETimm", model_name="test_resnet")
    with pytest.raises(ValueError, match="have no PETimm"):
        stock_models(config)
