"""A real config made small enough to train in a second or two."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine import load_config

_RECIPE = """
settings = {settings!r}
steps = [
    dict(name="s1_cls", config="{configs}/pe_cls_r50.py"),
    dict(
        name="s4_cls_reused",
        config="{configs}/pe_cls_r50.py",
        reuse=dict(backbone="s1_cls", cls_head="s1_cls"),
    ),
]
comparisons = [("cls/auc", "s1_cls", "s4_cls_reused")]
"""

SMALL_MODEL = dict(
    backbone=dict(depth=18, base_channels=8),
    seg_head=dict(decoder=dict(channels=(16, 16, 8, 8), skip_channels=8, detail_channels=4)),
    det_head=dict(
        neck=dict(out_channels=16),
        roi_head=dict(bbox_head=dict(fc_out_channels=16)),
        train_cfg=dict(rpn_proposal=dict(max_per_img=20)),
        test_cfg=dict(rpn=dict(max_per_img=10)),
    ),
)


def small_settings(*heads: str) -> dict[str, Any]:
    """What an inheriting config would say to make the heads it has small."""
    kept = {"backbone", *(f"{head}_head" for head in heads)}
    return dict(
        pretrained=None,
        input_size=64,
        batch_size=4,
        num_workers=0,
        precision="fp32",
        lr=1e-3,
        warmup_iters=2,
        model={key: value for key, value in SMALL_MODEL.items() if key in kept},
        env_cfg=dict(dist_cfg=dict(backend="gloo")),
        vis_backends=[dict(type="LocalVisBackend")],
        visualizer=dict(vis_backends=[dict(type="LocalVisBackend")]),
    )


def small_recipe(configs: Path) -> str:
    """Two steps of classification, the second on the weights of the first, and their comparison."""
    settings = {**small_settings("cls"), "max_iters": 12}
    settings["default_hooks"] = dict(checkpoint=dict(interval=4))
    return _RECIPE.format(settings=settings, configs=configs)


def small_config(
    repository: Path,
    data: Path,
    work_dir: Path,
    task: str = "unified",
    **overrides: Any,
) -> Config:
    heads = {"unified": ("cls", "seg", "det"), "cls_seg": ("cls", "seg")}.get(task, (task,))
    cfg = load_config(
        repository / f"configs/pe_{task}_r50.py",
        {"max_iters": 6, **overrides},
        str(data),
        settings=[small_settings(*heads)],
    )
    cfg.work_dir = str(work_dir)
    return cfg
