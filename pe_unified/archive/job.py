"""What is asked of the analysis of one study, and what comes of it.

Light: the service itself never loads a network, only the processes that it starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.archive.store import Result

#: The folder of pictures in that of the report.
KEY_IMAGES = "key_images"


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        images: folder of the study.
        out: folder of the report.
        study: its UID.
        model: arguments of :class:`~pe_unified.inference.predictor.PredictorSettings`.
        options: of :class:`~pe_unified.reports.analysis.AnalysisOptions`.
        key_images: pictures at most; 0 where nobody wants any.
        threads: of the worker.
    """

    images: Path
    out: Path
    study: str
    model: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    key_images: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class Answer:
    """What came of it.

    Attributes:
        results: the objects to send; empty where it failed.
        reason: why it failed, without any name; empty where it did not.
        final: another try would fail the same way.
        verdict: ``positive``, ``negative``, ``not called`` or ``abstained``.
        seconds: that it took.
    """

    results: tuple[Result, ...] = ()
    reason: str = ""
    final: bool = False
    verdict: str = ""
    seconds: float = 0.0


def analyse(request: Request) -> Answer:
    """As :func:`pe_unified.archive.work.analyse`, which is loaded first."""
    from pe_unified.archive import work

    return work.analyse(request)
