"""Heat of slices and of the steps of exams: where it lies, and that it is what it says."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from tiny_dataset import write_tiny_dataset

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.datasets import PEExamSample, PESliceDataset
from pe_unified.inference.explain import ExamExplainer, SliceExplainer, leading
from pe_unified.models.cam import CamError, grad_cam
from pe_unified.models.exam_model import PEExam
from pe_unified.registry import MODELS
from pe_unified.testing import tiny_batch, tiny_model_config

RESNET = dict(type="PEResNet", depth=18, base_channels=8, in_channels=1)
PIPELINE = [
    dict(type="LoadCTSlice"),
    dict(type="ResizeSlice", size=64),
    dict(type="CTWindows", windows=["embolus"]),
    dict(type="LoadPELabels"),
    dict(type="PackPEInputs"),
]


def built(config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        return MODELS.build(config).eval()


# Slice models


def trained(root):
    """A classifier of painted slices, and slices that it did not see."""
    write_tiny_dataset(root, slices=8, splits={"train": 16, "test": 4})

    def packed(split):
        dataset = PESliceDataset(f"annotations/{split}.json", str(root), PIPELINE, test_mode=True)
        return [dataset[number] for number in range(len(dataset))]

    model = built(
        dict(
            type="PEUnified",
            data_preprocessor=dict(type="PEDataPreprocessor", mean=[60.0], std=[80.0]),
            backbone=RESNET,
            cls_head=dict(type="PEClsHead", levels=(1,), pool="avg+max"),
        )
    ).train()
    items = packed("train")
    batch = model.data_preprocessor({key: [item[key] for item in items] for key in items[0]})
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        sum(model(**batch, mode="loss").values()).backward()
        optimizer.step()
    return model.eval(), packed("test")


@pytest.mark.slow
def test_heat_lies_on_the_emboli(tmp_path):
    model, items = trained(tmp_path / "data")
    positive = [item for item in items if item["data_samples"].gt_label.item()]
    heat = F.interpolate(SliceExplainer(model, 0).heat(positive)[:, None], 64, mode="bilinear")[
        :, 0
    ]
    masks = torch.stack([item["data_samples"].gt_sem_seg.data[0] for item in positive]) > 0
    inside = torch.stack([each[mask].mean() for each, mask in zip(heat, masks)])
    outside = torch.stack([each[~mask].mean() for each, mask in zip(heat, masks)])
    assert (inside > outside).all() and inside.mean() > 5 * outside.mean()


def test_probabilities_are_those_of_the_model():
    model = built(tiny_model_config(("cls",)))
    torch.nn.init.normal_(model.cls_head.fc.weight)
    items = tiny_batch(batch_size=5)
    found = SliceExplainer(model).probabilities([{"inputs": each} for each in items["inputs"]])
    with torch.no_grad():
        golden = torch.stack([sample.pred_score[1] for sample in model.test_step(items)])
    assert golden.std() > 0.01
    torch.testing.assert_close(found, golden)


def test_heat_is_of_the_log_odds():
    """For two classes, the difference of the logits; all heads and Swin's norms beside."""
    model = built(tiny_model_config(("cls", "seg"), "swin"))
    torch.nn.init.normal_(model.cls_head.fc.weight)
    explainer = SliceExplainer(model, -2)
    items = tiny_batch(labels=("cls",))
    packed = [{"inputs": each} for each in items["inputs"]]
    inputs = model.data_preprocessor(items)["inputs"]

    def difference(levels):
        logits = model.cls_head(levels)
        return logits[:, 1] - logits[:, 0]

    golden = grad_cam(model.backbone, inputs, -2, difference)
    assert explainer.stride == 16 and golden.max() > 0
    torch.testing.assert_close(explainer.heat(packed), golden)


def test_slice_models_that_do_not_fit():
    model = built(tiny_model_config(("seg",)))
    with pytest.raises(CamError, match=r"no classification head.*its heads: seg.*cls_head"):
        SliceExplainer(model)
    with pytest.raises(CamError, match="there is no level 7"):
        SliceExplainer(built(tiny_model_config(("cls",))), 7)


# Exam models

IMAGES = dict(
    data_preprocessor=dict(type="PEExamPreprocessor", mean=[100.0], std=[50.0]),
    encoder=dict(type="BackboneEncoder", backbone=RESNET, projection=12),
)
LSTM = dict(type="AttentionLSTMAggregator", heads=2, width=8, layers=1)


def exam(steps, size=32, planes=None):
    shape = (steps, 1, size, size) if planes is None else (steps, 1, planes, size, size)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator)
    sample = PEExamSample(metainfo=dict(z_mm=[20.0 * step for step in range(steps)]))
    return {"inputs": inputs, "data_samples": sample}


def exam_model(**parts):
    return built(dict(type="PEExam", **{**IMAGES, **parts}))


def whole_pass(model, packed, answer):
    """Heat of every step by its own activations, in one pass over all: the definition."""
    batch = model.data_preprocessor({"inputs": [packed["inputs"]]})
    kept = []
    hook = model.encoder.backbone.layer4.register_forward_hook(lambda _, __, out: kept.append(out))
    found = model(batch["inputs"].requires_grad_(), batch["mask"])
    hook.remove()
    (gradient,) = torch.autograd.grad(answer(found), kept)
    return (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu().detach()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_exam_label_as_in_one_pass(precision):
    model = exam_model(
        aggregator=LSTM, step_head=dict(type="StepHead"), exam_head=dict(type="ExamHead")
    )
    packed, column = exam(40), EXAM_TARGETS.index("central_pe")
    golden = whole_pass(model, packed, lambda found: found["exam"][0, column])
    found = ExamExplainer(model, -1, "central_pe", precision).explain(packed, 3)
    with torch.no_grad():
        (sample,) = model.test_step({"inputs": [packed["inputs"]]})
    if precision == "bf16":
        assert np.corrcoef(found.heat.flatten(), golden[found.steps].flatten())[0, 1] > 0.95
        return
    assert found.steps == sample.attention[column].argsort(descending=True)[:3].tolist()
    torch.testing.assert_close(found.heat, golden[found.steps], rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(found.attention, sample.attention[column])
    torch.testing.assert_close(found.probability, sample.pred_steps)
    assert found.answer == pytest.approx(sample.pred_exam[column].item(), abs=1e-6)


def test_every_step_has_its_own_logit():
    model = exam_model(aggregator=LSTM, step_head=dict(type="StepHead"))
    packed = exam(6)
    found = ExamExplainer(model, -1).explain(packed, 4)
    assert found.answer is found.attention is None
    assert found.steps == found.probability.argsort(descending=True)[:4].tolist()
    for step, heat in zip(found.steps, found.heat):
        golden = whole_pass(model, packed, lambda all_of, step=step: all_of["step"][0, step])
        torch.testing.assert_close(heat, golden[step], rtol=1e-3, atol=1e-8)


def test_without_attention_and_step_head_what_raises_the_logit_is_shown():
    """Of a mean over the steps, a step's own share is linear in its features."""
    model = exam_model(exam_head=dict(type="ExamHead", pool="mean", labels=("chronic_pe",)))
    packed = exam(8)
    explainer = ExamExplainer(model)
    assert explainer.label == "chronic_pe"
    found = explainer.explain(packed, 8)
    batch = model.data_preprocessor({"inputs": [packed["inputs"]]})
    with torch.no_grad():
        features = model.encode(batch["inputs"], batch["mask"])[0]
        shares = features @ model.exam_head.fc.weight[0, :, 0]
    assert found.steps == shares.argsort(descending=True).tolist()


def test_a_step_on_which_nothing_rests_is_cold():
    """By the maximum over steps a label rests on few of them."""
    head = dict(type="ExamHead", pool="max", labels=("central_pe",))
    model = exam_model(encoder=dict(IMAGES["encoder"], projection=2), exam_head=head)
    found = ExamExplainer(model, 2).explain(exam(9), 9)
    warm = [bool(heat.any()) for heat in found.heat]
    assert 0 < sum(warm) <= 2


def test_of_a_chunk_the_middle_plane_is_shown():
    model = exam_model(
        encoder=dict(type="R3D18Encoder", in_channels=1, base_channels=8),
        step_head=dict(type="StepHead"),
    )
    packed = exam(3, planes=4)
    found = ExamExplainer(model, 1).explain(packed, 2)
    assert found.heat.shape == (2, 8, 8)
    inputs = model.data_preprocessor({"inputs": [packed["inputs"]]})["inputs"][0, found.steps]
    weight = model.step_head.fc.weight[0]
    two = grad_cam(model.encoder, inputs, 1, lambda given: given @ weight)
    # The middle of four planes, the third, lies at 0.75 of the way between the two that there are.
    torch.testing.assert_close(found.heat, 0.25 * two[:, 0] + 0.75 * two[:, 1])


def test_exam_models_that_do_not_fit():
    heads = dict(step_head=dict(type="StepHead"), exam_head=dict(type="ExamHead"))
    stored = PEExam(in_channels=8, **heads)
    with pytest.raises(CamError, match=r"stored features.*publish puts the encoder into it"):
        ExamExplainer(stored)
    model = exam_model(step_head=dict(type="StepHead"))
    with pytest.raises(CamError, match="does not answer central_pe; it answers step"):
        ExamExplainer(model, label="central_pe")
    with pytest.raises(CamError, match="there is no level -5"):
        ExamExplainer(model, -5)


@pytest.mark.parametrize(
    ("z_mm", "golden"),
    [
        ([0.0, 5.0, 10.0, 15.0, 30.0], [1, 3, 4]),
        ([float("nan")] * 5, [1, 2, 0]),
        ([0.0, 100.0, 200.0, 300.0, 400.0], [1, 2, 0]),
        ([0.0, 1.0, 2.0, 3.0, 4.0], [1]),
    ],
)
def test_neighbours_of_what_is_shown_are_not_shown(z_mm, golden):
    values = torch.tensor([0.7, 0.9, 0.8, 0.6, 0.1])
    assert leading(values, z_mm, 3) == golden
