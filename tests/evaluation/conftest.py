"""Fixtures for tests of metrics."""

import pytest


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that metrics log."""
    lines: list[str] = []
    monkeypatch.setattr(
        "pe_unified.evaluation.metrics.print_log", lambda text, **kwargs: lines.append(text)
    )
    return lines
