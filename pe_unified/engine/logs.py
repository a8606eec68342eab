"""Logs of a run for other programs, and where these are stored."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend

from pe_unified.engine.knobs import kind_of
from pe_unified.json_files import as_json
from pe_unified.registry import VISBACKENDS


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's backend, but with null for NaN and Infinity, which JSON does not have."""

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        with Path(file_path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_json(value_dict), allow_nan=False) + "\n")


def with_stores(visualizer: Mapping[str, Any], work_dir: str | Path) -> dict[str, Any]:
    """The config of a visualizer with an MLflow store that current MLflow accepts.

    mmengine's default, a folder of files, is refused from MLflow 3.13 on. The store is
    ``MLFLOW_TRACKING_URI``, else a database in the work dir. Settings in the config are kept.

    Args:
        visualizer: as in a config; not changed.
        work_dir: work dir of the run.
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
        {**backend, **store, **{key: value for key, value in backend.items() if value}}
        if kind_of(backend) == "MLflowVisBackend" and not backend.get("tracking_uri")
        else backend
        for backend in backends
    ]
    return {**visualizer, "vis_backends": backends}
