import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from pe_unified.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from pe_unified.testing import tiny_model_config


def _construct(model: nn.Module, **paramwise) -> OptimWrapper:
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type="LayerDecayConstructor",
            optim_wrapper_cfg=dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05)),
            paramwise_cfg=paramwise,
        )
    )
    return constructor(model)


def _by_parameter(model: nn.Module, wrapper: OptimWrapper) -> dict[str, dict]:
    groups = {id(p): g for g in wrapper.optimizer.param_groups for p in g["params"]}
    return {name: groups[id(p)] for name, p in model.named_parameters() if id(p) in groups}


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_every_parameter_once(backbone):
    model = MODELS.build(tiny_model_config(backbone=backbone))
    wrapper = _construct(model, layer_decay=0.7)
    held = [id(p) for group in wrapper.optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert len(wrapper.optimizer.param_groups) < 40, "groups by layer, not one per tensor"


def test_rates_fall_with_depth_in_a_resnet():
    model = MODELS.build(tiny_model_config())
    group = _by_parameter(
        model, _construct(model, layer_decay=0.5, head_multipliers=dict(det_head=2))
    )
    # ResNet-18 has 8 blocks: the stem lies 9 layers below the heads, the last block one.
    assert group["backbone.conv1.weight"]["lr"] == pytest.approx(1e-3 * 0.5**9)
    assert group["backbone.layer1.0.conv1.weight"]["lr"] == pytest.approx(1e-3 * 0.5**8)
    assert group["backbone.layer4.1.conv2.weight"]["lr"] == pytest.approx(1e-3 * 0.5)
    assert group["cls_head.fc.weight"]["lr"] == pytest.approx(1e-3)
    assert group["det_head.neck.lateral_convs.0.conv.weight"]["lr"] == pytest.approx(2e-3)


def test_rates_fall_with_depth_in_a_swin():
    model = MODELS.build(tiny_model_config(backbone="swin"))
    group = _by_parameter(model, _construct(model, layer_decay=0.5))
    # 1 + 1 + 2 + 1 blocks.
    assert group["backbone.patch_embed.projection.weight"]["lr"] == pytest.approx(1e-3 * 0.5**6)
    block = "backbone.stages.2.blocks.1.ffn.layers.1.weight"
    assert group[block]["lr"] == pytest.approx(1e-3 * 0.5**2)
    assert group["backbone.stages.3.blocks.0.attn.w_msa.qkv.weight"]["lr"] == pytest.approx(5e-4)
    assert group["backbone.norm0.weight"]["lr"] == pytest.approx(1e-3)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_decay_spares_norms_biases_and_positions(backbone):
    model = MODELS.build(tiny_model_config(backbone=backbone))
    for name, group in _by_parameter(model, _construct(model, no_decay=("conv_seg",))).items():
        parameter = model.get_parameter(name)
        spared = parameter.ndim == 1 or "relative_position" in name or "conv_seg" in name
        assert group["weight_decay"] == (0.0 if spared else 0.05), name


def test_frozen_parameters_are_left_out():
    config = tiny_model_config(("cls",))
    config["backbone"] = dict(config["backbone"], frozen_stages=2)
    model = MODELS.build(config)
    names = set(_by_parameter(model, _construct(model, layer_decay=0.9)))
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}


def test_the_wrapper_trains():
    model = MODELS.build(tiny_model_config(("cls",)))
    wrapper = _construct(model, layer_decay=0.9)
    before = model.cls_head.fc.weight.clone()
    wrapper.update_params(model(torch.randn(2, 3, 64, 64))["cls"].square().sum())
    assert not torch.equal(model.cls_head.fc.weight, before)


def test_layers_without_a_backbone_are_refused():
    model = nn.ModuleDict(dict(encoder=nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"layer_decay=0\.8 .* this ModuleDict has none"):
        _construct(model, layer_decay=0.8)
    _construct(model)


@pytest.mark.parametrize(
    "paramwise, error, reason",
    [
        (dict(layer_decy=0.9), TypeError, "unexpected keyword argument 'layer_decy'"),
        (dict(head_multipliers=dict(neck=2)), KeyError, "has no neck"),
    ],
)
def test_refuses(paramwise, error, reason):
    with pytest.raises(error, match=reason):
        _construct(MODELS.build(tiny_model_config(("cls",))), **paramwise)
