"""Request and answer for the analysis of one study.

Light to import: the service itself never loads a network, only its worker processes do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.archive.store import Result

#: Subfolder for key images in the folder of the report.
KEY_IMAGES = "key_images"


@dataclass(frozen=True)
class Request:
    """One study to analyse.

    Attributes:
        images: folder of the study.
        out: folder of the report.
        study: its UID.
        model: arguments of :class:`~pe_unified.inference.predictor.PredictorSettings`.
        options: of :class:`~pe_unified.reports.analysis.AnalysisOptions`.
        key_images: maximum number of key images; 0 for none.
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
    """The outcome of a request.

    Attributes:
        results: the objects to send; empty after a failure.
        reason: for the failure, without any names; empty after success.
        final: another attempt would fail the same way.
        verdict: ``positive``, ``negative``, ``not called`` or ``abstained``.
        seconds: duration.
    """

    results: tuple[Result, ...] = ()
    reason: str = ""
    final: bool = False
    verdict: str = ""
    seconds: float = 0.0


def analyse(request: Request) -> Answer:
    """Import and call :func:`pe_unified.archive.work.analyse`."""
    from pe_unified.archive import work

    return work.analyse(request)
