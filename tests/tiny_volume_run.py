"""The published config of volumes, made small enough to train in seconds on the tiny set."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_unified.engine import load_config

SETTINGS: dict[str, Any] = dict(
    step_mm=2.0,
    patch_size=16,
    batch_size=2,
    num_workers=0,
    precision="fp32",
    warmup_iters=2,
    env_cfg=dict(dist_cfg=dict(backend="gloo")),
    vis_backends=[dict(type="LocalVisBackend")],
    visualizer=dict(vis_backends=[dict(type="LocalVisBackend")]),
    model=dict(network=dict(width=0.125), windows=dict(size=32, stride=24, ramp=8, at_once=1)),
)


def small_volume_config(
    repository: Path, data: Path, work_dir: Path, name: str = "aanet3d", **overrides: Any
) -> Config:
    """``name``: of a config in ``configs/volumes``; ``data``: of ``tiny_volumes``."""
    cfg = load_config(
        repository / f"configs/volumes/{name}.py",
        {"max_iters": 2, "structures": str(data.parent / "structures"), **overrides},
        str(data),
        settings=[SETTINGS],
    )
    cfg.work_dir = str(work_dir)
    return cfg
