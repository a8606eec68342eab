"""Small studies in memory, and a checkpoint that any machine writes in a moment."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DefaultScope

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.ct.study import CTStudy
from pe_unified.inference.survey import Survey
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_model_config

SPACING = (0.8, 0.6, 2.0)  # row, col, slice


def study_of(hu, spacing=SPACING, z=None):
    count = len(hu)
    heights = tuple(float(k * spacing[2]) for k in range(count)) if z is None else z
    return CTStudy(
        source=Path("study"),
        shape=hu.shape,
        spacing_mm=spacing,
        origin_mm=(-10.0, -20.0, -300.0),
        direction=np.eye(3),
        step_mm=(0.0, 0.0, spacing[2]),
        z_mm=heights,
        read=lambda index: hu[index],
    )


def survey_of(shape, lungs=None, middle=None):
    if lungs is None:
        lungs = np.zeros(shape, dtype=bool)
        lungs[:, :, : shape[2] // 3] = lungs[:, :, -(shape[2] // 3) :] = True
    return Survey(
        hu=np.zeros(shape, np.int16),
        body=np.ones(shape, dtype=bool),
        lungs=lungs,
        cell=(1, 1, 1),
        cell_mm=SPACING,
        box=None,
        slices=range(shape[0]),
        to_left=1,
        gas=np.zeros(shape, dtype=bool),
    )


PIPELINE = [
    dict(type="LoadCTSlice"),
    dict(type="CropToLungs", margin_mm=10.0, size=64),
    dict(type="ResizeSlice", size=64),
    dict(type="CTWindows", windows=["embolus", "pe", "lung"]),
    dict(type="LoadPELabels"),
    dict(type="PackPEInputs"),
]
VALIDATED = {
    "cls/threshold": 0.4,
    "cls/gate": 0.2,
    "seg/threshold": 0.85,
    "det/threshold": 0.58,
    "exam/stretch_threshold": 0.5,
    "exam/lesion_threshold": 0.945,
}


def write_checkpoint(path, heads=("cls", "seg", "det"), validated=VALIDATED, seed=0, **changes):
    """An untrained tiny model, as training would leave it. ``changes`` go into its config."""
    torch.manual_seed(seed)
    model = tiny_model_config(heads)
    cfg = {
        "model": model,
        "test_dataloader": {"dataset": {"pipeline": PIPELINE, "neighbours": 0}},
        **changes,
    }
    with DefaultScope.overwrite_default_scope("pe_unified"):
        built = MODELS.build(model)
    if "seg" in heads:  # so that it calls some pixels, in a few pieces
        torch.manual_seed(4 + seed)
        torch.nn.init.normal_(built.seg_head.conv_seg.weight, std=8.0)
        torch.nn.init.constant_(built.seg_head.conv_seg.bias, -16.0)
    weights = built.state_dict()
    meta = {"cfg": cfg, "pe_unified": "0", "step": "s9_unified", "iter": 3, "parents": []}
    torch.save({"meta": {**meta, "validated": dict(validated)}, "state_dict": weights}, path)
    return path


VOLUMES = dict(
    type="PEVolume",
    network=dict(type="AANet3D", width=0.125),
    lesion_head=dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss")]),
    artery_head=dict(type="VolumeHead", losses=[dict(type="VolumeTverskyLoss")]),
    windows=dict(size=32, stride=24, ramp=8),
    marks=dict(most=3),
)


def write_volume_checkpoint(path, learned=()):
    """An untrained model of volumes, which marks every study; ``learned``: digests of studies."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        model = MODELS.build(VOLUMES)
    torch.nn.init.normal_(model.network.embolus_head.output.weight)
    torch.nn.init.constant_(model.network.embolus_head.output.bias, 2.0)
    dataset = {"pipeline": [], "step_mm": 8.0}
    meta = {"cfg": {"model": VOLUMES, "test_dataloader": {"dataset": dataset}}, "pe_unified": "0"}
    meta |= {"step": "aanet3d", "iter": 5, "parents": [], "validated": {"lesion/threshold": 0.5}}
    source = dict.fromkeys(("set", "source", "patients", "slices", "synthetic", "step"))
    meta["trained_on"] = [{**source, "studies": list(learned)}]
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path


EXAM_PIPELINE = [
    dict(type="LoadExamSlices"),
    dict(type="CropToLungs", margin_mm=10.0, size=32),
    dict(type="ResizeSlice", size=32),
    dict(type="CTWindows", windows=["pe"]),
    dict(type="PackExamInputs"),
]
EXAM_VALIDATED = {
    "exam/threshold": 0.4,
    "exam/calibration_slope": 0.8,
    "exam/calibration_intercept": -0.5,
}


def exam_model_config(labels=EXAM_TARGETS, planes=3, chunks=False):
    """Config of a PEExam that answers in milliseconds."""
    resnet = dict(type="PEResNet", depth=18, base_channels=4, in_channels=planes)
    encoder = dict(type="BackboneEncoder", backbone={**resnet, "norm_cfg": dict(type="BN")})
    return dict(
        type="PEExam",
        data_preprocessor=dict(
            type="PEExamPreprocessor",
            mean=[100.0] * (1 if chunks else planes),
            std=[50.0] * (1 if chunks else planes),
        ),
        encoder=dict(type="R3D18Encoder", in_channels=1, base_channels=8) if chunks else encoder,
        aggregator=dict(type="GRUAggregator", width=8),
        step_head=dict(type="StepHead"),
        exam_head=dict(type="ExamHead", labels=labels),
    )


def write_exam_checkpoint(
    path,
    model=None,
    validated=EXAM_VALIDATED,
    steps=None,
    seed=0,
    pipeline=EXAM_PIPELINE,
    **dataset,
):
    """An untrained tiny model of exams, as publishing would leave it; it answers differently to
    different exams. ``dataset``: further settings of the set that it is tested on."""
    torch.manual_seed(seed)
    model = model or exam_model_config()
    steps = steps or dict(type="SliceSteps", neighbours=1, span="lungs")
    cfg = {
        "model": model,
        "test_dataloader": {"dataset": {"pipeline": pipeline, "steps": steps, **dataset}},
    }
    with DefaultScope.overwrite_default_scope("pe_unified"):
        built = MODELS.build(model)
    for name, parameter in built.named_parameters():
        if name.startswith(("exam_head", "step_head")) and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=4.0)
    meta = {"cfg": cfg, "pe_unified": "0", "step": "gru", "iter": 5, "parents": []}
    torch.save(
        {"meta": {**meta, "validated": dict(validated)}, "state_dict": built.state_dict()}, path
    )
    return path


def write_ensemble(path, members, rule="mean", validated=VALIDATED, fusion=None, weights=None):
    """An ensemble of checkpoints, by name, as ``pe-unified ensemble`` writes it."""
    stored = {
        "meta": {
            "pe_unified": "0",
            "rule": rule,
            "validated": dict(validated),
            "fusion": fusion,
            "trained_on": [],
        },
        "members": [
            {
                "name": name,
                "weight": (weights or {}).get(name, 1.0),
                "checkpoint": member.name,
                "sha256": hashlib.sha256(name.encode()).hexdigest(),
                "model": torch.load(member, weights_only=False),
            }
            for name, member in members.items()
        ],
    }
    torch.save(stored, path)
    return path
