import os

import pytest

from pe_unified.engine import ConfigError, load_config
from pe_unified.engine.config import read_python_config
from pe_unified.recipes import load_recipe


@pytest.fixture(scope="module")
def path(repository):
    return repository / "configs/pe_cls_r50.py"


@pytest.mark.parametrize(
    ("text", "reason"), [("model = dict(", "SyntaxError"), ("lr = 2 * base", "NameError")]
)
@pytest.mark.parametrize("load", [load_config, load_recipe])
def test_a_config_that_is_no_python(tmp_path, load, text, reason):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"mine.py cannot be read as a config: {reason}"):
        load(tmp_path / "mine.py")


def test_none_for_the_pretrained_backbone_is_not_lost(path, tmp_path):
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = {str(path)!r}\nmodel = dict(backbone=dict(pretrained=None))\n")
    with pytest.raises(ConfigError, match="set 'pretrained' instead"):
        load_config(child)
    with pytest.raises(ConfigError, match="set 'pretrained' instead"):
        load_config(path, settings=[dict(model=dict(backbone=dict(pretrained=None)))])
    child.write_text(f"_base_ = {str(path)!r}\npretrained = None\n")
    assert load_config(child).model.backbone.pretrained is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("batchsize = 16", "batch_size"),
        ("window = ['pe']", "windows"),
        ("train_dataloder = dict(batch_size=4)", "train_dataloader"),
    ],
)
def test_a_misspelt_name_in_a_file(path, tmp_path, text, meant):
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = {str(path)!r}\n{text}\n")
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        load_config(child)
    child.write_text(f"_base_ = {str(path)!r}\nmine = 3\n")
    assert load_config(child).mine == 3


@pytest.mark.parametrize(
    ("key", "hint"),
    [("max_iter", "max_iters"), ("model.backbon.depth", "backbone"), ("lrr", "lr")],
)
def test_misspelt_override_is_refused_with_a_hint(path, key, hint):
    with pytest.raises(ConfigError, match=f"did you mean .*{hint}"):
        load_config(path, {key: 1})


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("pe_cls_r50", {"model.cls_head.losses.0.label_smoothing": 0.1}),
        ("pe_seg_r50", {"model.seg_head.losses.1.loss_weight": 0.5}),
        ("pe_det_r50", {"model.det_head.neck.out_channels": 64}),
        ("pe_seg_r50", {"model.seg_head.decoder.skip_channels": 8}),
        ("pe_cls_r50", {"train_dataloader.dataset.pipeline.6.elastic_amplitude": 6.0}),
        ("pe_cls_r50", {"train_dataloader.dataset.indices": 9}),  # of a base class
        ("pe_cls_r50", {"optim_wrapper.optimizer.betas": (0.9, 0.95)}),
        (
            "pe_cls_r50",
            {"optim_wrapper.optimizer.type": "SGD", "optim_wrapper.optimizer.momentum": 0.9},
        ),
        (
            "pe_cls_swin",
            {
                "optim_wrapper.constructor": "LayerDecayConstructor",
                "optim_wrapper.paramwise_cfg.layer_decay": 0.8,
            },
        ),
        ("pe_cls_swin", {"optim_wrapper.paramwise_cfg": {"layer_decay": 0.8}}),
    ],
)
def test_an_override_may_set_what_the_part_takes(repository, config, overrides):
    cfg = load_config(repository / f"configs/{config}.py", overrides)
    for key, value in overrides.items():
        node = cfg
        for part in key.split("."):
            node = node[int(part)] if part.isdigit() else node[part]
        assert node == value


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("model.cls_head.lossses", "losses"),
        ("model.det_head.neck.out_chanels", "out_channels"),
        ("model.seg_head.decoder.chanels", "channels"),
        ("model.cls_head.loss_weight", "mask_weight"),
        ("train_dataloader.dataset.pipeline.6.elastic_amplitud", "elastic_amplitude"),
        ("optim_wrapper.constructr", "constructor"),
        ("optim_wrapper.optimizer.momentum", ""),  # of SGD, not of AdamW
        ("model.constructor", ""),
    ],
)
def test_what_no_part_takes_is_refused(repository, key, hint):
    with pytest.raises(ConfigError, match=f"has no '.*did you mean .*{hint}" if hint else "has no"):
        load_config(repository / "configs/pe_unified_r50.py", {key: 1})


def test_override_of_a_list_item(path):
    cfg = load_config(path, {"train_dataloader.dataset.pipeline.2.margin_mm": 3.0})
    assert cfg.train_dataloader.dataset.pipeline[2].margin_mm == 3.0


def test_settings_may_bring_new_keys_and_come_before_overrides(path):
    cfg = load_config(
        path, {"lr": 3.0}, settings=[dict(lr=1.0, model=dict(backbone=dict(base_channels=8)))]
    )
    assert cfg.optim_wrapper.optimizer.lr == 3.0
    assert cfg.model.backbone.base_channels == 8


def test_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="pe-unified config"):
        load_config(tmp_path / "none.py")


def test_settings_of_a_head_that_is_left_out_are_passed_over(path, repository):
    settings = [dict(model=dict(seg_head=dict(threshold=0.3), det_head=dict(levels=3)))]
    assert load_config(path, settings=settings).model.seg_head is None
    unified = load_config(repository / "configs/pe_unified_r50.py", settings=settings)
    assert unified.model.seg_head.threshold == 0.3 and unified.model.det_head.levels == 3


def test_overrides_of_a_recipe_are_passed_over_where_the_head_is_left_out(path, repository):
    overrides = {"model.seg_head.threshold": 0.3}
    with pytest.raises(ConfigError, match=r"seg_head has no 'threshold'; .* nothing, it is None"):
        load_config(path, overrides)
    assert load_config(path, overrides, of_recipe=True).model.seg_head is None
    unified = load_config(repository / "configs/pe_unified_r50.py", overrides, of_recipe=True)
    assert unified.model.seg_head.threshold == 0.3
    with pytest.raises(ConfigError, match="has no 'threshhold'; did you mean threshold"):
        load_config(
            repository / "configs/pe_unified_r50.py",
            {"model.seg_head.threshhold": 0.3},
            of_recipe=True,
        )


def test_overriding_a_pipelines_variable_is_refused_with_the_place_that_works(path):
    with pytest.raises(ConfigError, match=r"train_dataloader\.dataset\.pipeline\.2\.margin_mm"):
        load_config(path, {"train_pipeline.2.margin_mm": 3.0})


@pytest.mark.parametrize(
    ("place", "knob"),
    [
        ("optim_wrapper.optimizer.lr", "lr"),
        ("train_dataloader.batch_size", "batch_size"),
        ("train_cfg.max_iters", "max_iters"),
        ("model.backbone.pretrained", "pretrained"),
        ("randomness.seed", "seed"),
        ("val_dataloader.dataset.data_root", "data_root"),
        ("test_dataloader.dataset.pipeline.2.size", "input_size"),
    ],
)
def test_an_override_that_would_be_lost_is_refused(path, place, knob):
    with pytest.raises(ConfigError, match=f"{place} = 1 would be overwritten .* set '{knob}'"):
        load_config(path, {place: 1})


def test_a_value_that_inheritance_would_lose_is_refused(path, tmp_path):
    def child(name, text):
        (tmp_path / name).write_text(f"_base_ = {str(path)!r}\n{text}\n")
        return tmp_path / name

    lost = child("lost.py", "optim_wrapper = dict(optimizer=dict(lr=1.0))")
    with pytest.raises(ConfigError, match=r"lost\.py: optim_wrapper\.optimizer\.lr = 1\.0"):
        load_config(lost)
    with pytest.raises(ConfigError, match="set 'batch_size' instead"):
        load_config(path, settings=[dict(train_dataloader=dict(batch_size=5))])
    kept = load_config(child("kept.py", "lr = 1.0"))
    assert kept.optim_wrapper.optimizer.lr == 1.0
    grandchild = tmp_path / "grandchild.py"
    grandchild.write_text("_base_ = './kept.py'\nlr = 2.0\n")
    assert load_config(grandchild).optim_wrapper.optimizer.lr == 2.0


def test_a_recipe_is_no_config(repository):
    with pytest.raises(ConfigError, match=r"r50\.py is a recipe; pe-unified steps"):
        load_config(repository / "configs/steps/r50.py")


@pytest.mark.parametrize("loop", ["by_epoch=True", "_delete_=True, type='EpochBasedTrainLoop'"])
def test_training_counts_no_epochs(path, tmp_path, loop):
    child = tmp_path / "epochs.py"
    child.write_text(f"_base_ = {str(path)!r}\ntrain_cfg = dict({loop}, max_epochs=12)\n")
    with pytest.raises(
        ConfigError, match=r"epochs\.py: training is counted in iterations; set max_iters"
    ):
        load_config(child)


def test_wrapped_data_sets_are_refused(path, tmp_path):
    child = tmp_path / "two_sets.py"
    child.write_text(
        f"_base_ = {str(path)!r}\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[]))\n"
    )
    with pytest.raises(ConfigError, match=r"is a ConcatDataset.*pe-unified merge"):
        load_config(child)


def test_a_metric_without_its_head_is_refused(repository, tmp_path):
    child = tmp_path / "child.py"
    base = str(repository / "configs/pe_unified_r50.py")
    child.write_text(f"_base_ = {base!r}\nmodel = dict(det_head=None)\n")
    with pytest.raises(
        ConfigError, match=r"child\.py: val_evaluator has a DetMetric, .* no det_head"
    ):
        load_config(child)


def test_a_base_may_be_computed(path, tmp_path):
    child = tmp_path / "child.py"
    child.write_text(f"_base_ = '/'.join({str(path).split('/')!r})\nbatchsize = 16\n")
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        load_config(child)


def test_settings_that_several_steps_share_stay_as_given(path):
    """The knobs of one step write into its config, not into the recipe."""
    pipeline = [dict(type="LoadCTSlice"), dict(type="ResizeSlice", size=64)]
    settings = [{"input_size": 64, "train_dataloader": {"dataset": {"pipeline": pipeline}}}]
    for _ in range(2):
        cfg = load_config(path, {"input_size": 96}, settings=settings)
        assert cfg.train_dataloader.dataset.pipeline[1]["size"] == 96
    assert pipeline[1]["size"] == 64


def test_a_checkpoint_keeps_its_network_and_its_input(path):
    changes = {"input_size": 96, "windows": ["pe"], "model.cls_head.dropout": 0.4}
    trained = load_config(path, changes)
    cfg = load_config(path, data_root="elsewhere", trained_with=trained.to_dict())
    assert cfg.model == trained.model and cfg.model.backbone.in_channels == 1
    for split in ("val", "test"):
        ours, theirs = (each[f"{split}_dataloader"].dataset for each in (cfg, trained))
        assert ours.pipeline == theirs.pipeline and ours.data_root == "elsewhere"
    named = load_config(path, {"input_size": 64}, trained_with=trained.to_dict())
    assert named.test_dataloader.dataset.pipeline[2]["size"] == 64
    assert named.model.backbone.in_channels == 1


def test_a_checkpoint_without_the_head_that_is_measured(path, repository):
    trained = load_config(repository / "configs/pe_seg_r50.py")
    with pytest.raises(ConfigError, match="has a SliceMetric, but the model has no cls_head"):
        load_config(path, trained_with=trained.to_dict())


def test_a_checkpoint_without_validation_gives_its_input_to_that_split_too(path):
    trained = load_config(path, {"windows": ["pe"]}).to_dict()
    trained["val_dataloader"] = None
    cfg = load_config(path, trained_with=trained)
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_dataloader.dataset.pipeline


def test_a_classifier_of_lung_is_tested_for_lung_alone(path, repository):
    trained = load_config(repository / "configs/exam/lung_slices.py").to_dict()
    with pytest.raises(ConfigError, match="shows embolism, but the checkpoint learned"):
        load_config(path, trained_with=trained)
    cfg = load_config(repository / "configs/exam/lung_slices.py", trained_with=trained)
    assert cfg.test_dataloader.dataset.label == "lung"


def test_scores_of_a_checkpoint_hold_until_others_are_named(repository):
    path = repository / "configs/exam/siamese_scored.py"
    trained = load_config(path, {"lung_scores": "first"}).to_dict()
    places = [f"{split}_dataloader" for split in ("train", "val", "test")]
    kept = load_config(path, trained_with=trained)
    assert {kept[place].dataset.steps.scores for place in places} == {"first"}
    other = load_config(path, {"lung_scores": "second"}, trained_with=trained)
    assert {other[place].dataset.steps.scores for place in places} == {"second"}
    kept = load_config(repository / "configs/exam/siamese.py", trained_with=trained)
    assert kept.test_dataloader.dataset.steps.scores == "first"


def test_a_config_is_read_anew_once_what_it_inherits_from_changed(tmp_path):
    base, child = tmp_path / "base.py", tmp_path / "child.py"
    base.write_text("lr = 1.0\n")
    child.write_text('_base_ = "base.py"\n')
    first = read_python_config(child)
    first.lr = 7.0
    assert read_python_config(child).lr == 1.0
    base.write_text("lr = 2.0\n")
    os.utime(base, ns=(1, 1))
    assert read_python_config(child).lr == 2.0
