"""Where programs that follow runs keep what they are told: beside the run, if not told where."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_unified.engine.knobs import kind_of


def with_stores(visualizer: Mapping[str, Any], work_dir: str | Path) -> dict[str, Any]:
    """The config of a visualizer whose MLflow has a store that today's MLflow accepts.

    mmengine's own default, a folder of files, is refused from MLflow 3.13 on. The store is
    ``MLFLOW_TRACKING_URI``, else a database in the work dir. What the config says itself stays.

    Args:
        visualizer: as in a config; left as it is.
        work_dir: of the run.
    """
    root = Path(work_dir).resolve()
    store = {
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{(root / 'mlflow.db').as_posix()}",
        "exp_name": "pe_unified",
    }
    if "MLFLOW_TRACKING_URI" not in os.environ:
        store["artifact_location"] = (root / "mlflow").as_uri()
    backends = visualizer.get("vis_backends")
    if not backends:
        return dict(visualizer)
    backends = [
        {**store, **backend}
        if kind_of(backend) == "MLflowVisBackend" and not backend.get("tracking_uri")
        else backend
        for backend in backends
    ]
    return {**visualizer, "vis_backends": backends}
