"""Exam configs and a recipe of them, made small enough to train in a second or two."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine import load_config

BACKBONE = dict(depth=18, base_channels=4)
WIDTH = 32  # of its features


def small_exam_settings() -> dict[str, Any]:
    """What an inheriting config would say; parts that a config leaves out are passed over."""
    return dict(
        pretrained=None,
        input_size=32,
        batch_size=4,
        num_workers=0,
        precision="fp32",
        lr=2e-3,
        warmup_iters=2,
        env_cfg=dict(dist_cfg=dict(backend="gloo")),
        vis_backends=[dict(type="LocalVisBackend")],
        visualizer=dict(vis_backends=[dict(type="LocalVisBackend")]),
    )


def small_exam_config(
    repository: Path, data: Path, work_dir: Path, name: str, **overrides: Any
) -> Config:
    """``name``: of a config in ``configs/exam`` whose encoder has a ResNet, or that has none."""
    settings = small_exam_settings()
    settings["model"] = dict(encoder=dict(backbone=BACKBONE))
    if name.endswith("_gru"):
        settings["model"] = dict(in_channels=WIDTH, aggregator=dict(width=8))
    path = repository / f"configs/exam/{name}.py"
    cfg = load_config(path, {"max_iters": 4, **overrides}, str(data), settings=[settings])
    cfg.work_dir = str(work_dir)
    return cfg


def small_exam_recipe(configs: Path) -> str:
    """Slices are learned, their features stored, exams learned from these."""
    shared = dict(model=dict(encoder=dict(backbone=BACKBONE)))
    gru = dict(model=dict(in_channels=WIDTH, aggregator=dict(width=8)), max_iters=40)
    return f"""
settings = {small_exam_settings()!r}
steps = [
    dict(
        name="s1_cls",
        config="{configs}/pe_cls_r50.py",
        settings=dict(max_iters=8, model=dict(backbone={BACKBONE!r})),
    ),
    dict(
        name="features",
        config="{configs}/exam/shared_features.py",
        extract=True,
        reuse={{"encoder.backbone:backbone": "s1_cls"}},
        settings={shared!r},
    ),
    dict(
        name="gru",
        config="{configs}/exam/shared_gru.py",
        features="features",
        settings={gru!r},
    ),
]
"""
