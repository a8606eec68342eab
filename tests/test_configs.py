"""Every config builds, and every name in it is the class it seems to be."""

import ast
import copy
import functools
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import init_default_scope
from torch import nn

from pe_unified import registry
from pe_unified.engine import load_config
from pe_unified.image_network import without_start
from pe_unified.recipes import load_recipe
from pe_unified.recipes.budget import Budget, budget_of, stretched

ROOT = Path(__file__).resolve().parents[1] / "configs"
SMALL_EXAMS = sorted(ROOT.glob("*/exams.py"))
VOLUME_RECIPES = [ROOT / "volumes/steps.py", ROOT / "demo/volumes.py"]
#: Of volumes.
VOLUMES = sorted({*(ROOT / "volumes").glob("*.py")} - {*VOLUME_RECIPES})
ABLATIONS = [ROOT / "ablations/imbalance.py", ROOT / "ablations/learning.py"]
STEPS = sorted(
    path
    for room in ("steps", "demo", "results")
    for path in (ROOT / room).glob("*.py")
    if path not in (*SMALL_EXAMS, *VOLUME_RECIPES)
)
RECIPES = [*STEPS, *ABLATIONS]
#: Of exams: recipes list steps, all others are configs.
EXAMS = sorted([*(ROOT / "exam").glob("*.py"), *SMALL_EXAMS])
EXAM_RECIPES = [
    path
    for path in EXAMS
    if path in SMALL_EXAMS or "\nsteps = [" in path.read_text() or "_shares" in path.stem
]
CONFIGS = sorted(
    path
    for pattern in ("*.py", "ablations/*.py", "benchmarks/*.py", "short/*.py", "unets/*.py")
    for path in ROOT.glob(pattern)
    if path not in ABLATIONS
)
#: Those with all steps and their controls.
WHOLE = [path for path in STEPS if path.stem not in ("steps", "cascade", "unets", "unets_best")]
#: What the cascade has beyond the core.
CASCADE = ROOT / "cascade"
#: All that a user runs.
RUN = sorted(path for path in ROOT.rglob("*.py") if "_base_" not in path.parts)

OWN_REGISTRIES = [
    value for value in vars(registry).values() if isinstance(value, registry.Registry)
]


@pytest.fixture(autouse=True)
def without_weights(monkeypatch):
    """To draw weights that nobody looks at would take most of the time."""
    for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


def types_in(node: Any):
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for value in node.values():
            yield from types_in(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from types_in(value)


_BUILT: list[dict] = []


def heads_of(model: dict) -> set[str]:
    """The heads of a model that can be built; what several configs share is built once."""
    heads = {name for name in ("cls", "seg", "det") if model.get(f"{name}_head")}
    if model not in _BUILT:
        network = registry.MODELS.build(copy.deepcopy(model))
        assert heads == {name for name in ("cls", "seg", "det") if hasattr(network, f"{name}_head")}
        _BUILT.append(model)
    return heads


@functools.cache
def homes_of(name: str) -> set[str]:
    """The packages of the parts of this name that our registries find."""
    found = [each.get(name) for each in OWN_REGISTRIES]
    return {part.__module__.split(".")[0] for part in found if part is not None}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds(path):
    cfg = load_config(path)
    without_start(cfg.model)
    init_default_scope("pe_unified")
    heads = heads_of(cfg.model.to_dict())
    metrics = {"SliceMetric": "cls", "SegMetric": "seg", "DetMetric": "det"}
    assert {metrics[each.type] for each in cfg.test_evaluator} == heads
    for transform in cfg.train_dataloader.dataset.pipeline:
        registry.TRANSFORMS.build(dict(transform))
    constructor = cfg.optim_wrapper.get("constructor", "DefaultOptimWrapperConstructor")
    assert registry.OPTIM_WRAPPER_CONSTRUCTORS.get(constructor) is not None
    for name in set(types_in(cfg.to_dict())) - {"nms", "RoIAlign"}:  # mmcv's operators
        if any(name in each.module_dict for each in OWN_REGISTRIES):
            continue
        homes = homes_of(name)
        assert homes, f"{path.name}: '{name}' is in no registry"
        expected = {"pe_unified", "mmengine", "torch"}
        assert "." in name or homes <= expected, f"{path.name}: '{name}' is {homes}'s; say so"


@pytest.mark.parametrize(
    "path",
    sorted({*EXAMS, CASCADE / "lung_detector.py"} - {*EXAM_RECIPES}),
    ids=lambda path: path.stem,
)
def test_exam_config_builds(path):
    cfg = load_config(path)
    without_start(cfg.model)
    init_default_scope("pe_unified")
    model = registry.MODELS.build(cfg.model)
    if cfg.model.type == "PEExam":
        heads = {"ExamMetric": "exam", "StepMetric": "step"}
        measured = {heads[each.type] for each in cfg.test_evaluator}
        assert measured == set(model.heads) - {"pair"}
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        for transform in dataset.pipeline:
            registry.TRANSFORMS.build(dict(transform))
        if "steps" in dataset:
            registry.TASK_UTILS.build(dict(dataset.steps))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("two_phase_chunks", 33.2), ("two_phase_published", 0.94), ("siamese_published", 59.7)],
)
def test_published_networks_have_as_many_parameters_as_published(name, millions):
    cfg = load_config(ROOT / f"exam/{name}.py")
    without_start(cfg.model)
    init_default_scope("pe_unified")
    model = registry.MODELS.build(cfg.model)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("path", RUN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_config_tells_command_time_and_result(path):
    told = ast.get_docstring(ast.parse(path.read_text()))
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    for part in (name, "Time: ", "Result: "):
        assert part in told


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe_has_the_steps_of_the_design(path):
    names = [step.name for step in load_recipe(path).steps]
    assert names == [
        "s1_cls",
        "s2_seg",
        "s3_cls_seg",
        "s4_cls_reused",
        "s1_long",
        "s5_seg_reused",
        "s2_long",
        "s6_cls_seg_reused",
        "s3_long",
        "s7_det",
        "s8_det_reused",
        "s7_long",
        "s9_unified",
    ]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_reused_arm_has_a_control_of_equal_length(path):
    """But the last, whose chain is longer than any."""
    recipe = load_recipe(path)
    budgets: dict[str, Budget] = {}
    for step in recipe.steps:
        cfg = load_config(step.config, settings=step.settings)
        if step.as_long_as:
            longer = stretched(cfg, budgets[step.as_long_as])
            cfg = load_config(step.config, longer, settings=step.settings)
        budgets[step.name] = budget_of(step, cfg, budgets)
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters == cfg.max_iters
    against = defaultdict(list)
    for metric, scratch, reused in recipe.comparisons:
        against[metric, reused].append(budgets[scratch].slices)
    for (_, reused), slices in against.items():
        assert max(slices) <= budgets[reused].slices
        assert reused == "s9_unified" or max(slices) == budgets[reused].slices


def identify(path):
    return f"{path.parent.name}-{path.stem}"


@cache
def names_in(config):
    return set(load_config(config).keys())


@pytest.mark.parametrize(
    "path", [*RECIPES, *EXAM_RECIPES, *VOLUME_RECIPES, *CASCADE.glob("cascade*.py")], ids=identify
)
def test_settings_of_a_recipe_fit_every_step(path):
    """Settings may bring new keys, so only building tells a misspelt one."""
    init_default_scope("pe_unified")
    steps = load_recipe(path).steps
    known = {"custom_hooks"}.union(*(names_in(step.config) for step in steps))
    for step in steps:
        cfg = load_config(step.config, settings=step.settings)
        without_start(cfg.model)
        heads_of(cfg.model.to_dict())
        for transform in cfg.train_dataloader.dataset.pipeline:
            registry.TRANSFORMS.build(dict(transform))
        assert set(cfg.keys()) <= known, f"{step.name}: {set(cfg.keys()) - known}"


@pytest.mark.parametrize("path", VOLUMES, ids=identify)
def test_volume_config_builds(path):
    cfg = load_config(path, {"model.network.width": 0.125})
    init_default_scope("pe_unified")
    model = registry.MODELS.build(cfg.model)
    heads = {"LesionMetric": "lesion", "ArteryMetric": "artery"}
    assert {heads[each.type] for each in cfg.test_evaluator} == set(model.heads)
    answers = dict(lesion=model.network.embolus_head, artery=model.network.artery_head)
    assert {name for name, head in answers.items() if head is not None} == set(model.heads)
    for split in ("train", "val", "test"):
        for transform in cfg[f"{split}_dataloader"].dataset.pipeline:
            registry.TRANSFORMS.build(dict(transform))
