"""Reports of a few lines, as far as decisions look at them."""

import json
from pathlib import Path

from pe_unified.review.store import Decision

MODEL = "ab" * 32
SHAPE = (4, 12, 10)


def write_report(folder: Path, study: str | None = "1.2.3", model: str = MODEL, lesions: int = 3):
    """``report.json`` of a study of :data:`SHAPE`; the last lesion is a candidate."""
    count, rows, cols = SHAPE
    report = {
        "schema": "pe_unified.report",
        "input": {"study_uid": study, "slices": count, "rows": rows, "cols": cols},
        "model": {"sha256": model},
        "exam": {"positive": True},
        "lesions": [
            {"number": number, "called": number < lesions} for number in range(1, lesions + 1)
        ],
        "slices": [{"index": k, "sop_uid": study and f"{study}.{k}"} for k in range(count)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def decision(kind, lesion=None, value=(), reader="Ann", study="1.2.3", model=MODEL) -> Decision:
    return Decision(study, reader, kind, lesion, dict(value), model)
