"""What a run logs for other programs: scalars as strict JSON, one object per line."""

import json
from pathlib import Path

from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend

from pe_unified.evaluation.metrics import as_json
from pe_unified.registry import VISBACKENDS


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's, which writes NaN and Infinity, where JSON has null only."""

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        with Path(file_path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_json(value_dict), allow_nan=False) + "\n")
