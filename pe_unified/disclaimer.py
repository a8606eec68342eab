"""What every report and figure says of itself, and of the data behind its model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RESEARCH_LINE = "Research software, not a medical device"

SYNTHETIC_LINE = "trained on synthetic data: its scores mean nothing for patients"
UNKNOWN_LINE = "not known what it was trained on"


def training_notice(trained_on: Sequence[Mapping[str, Any]]) -> str:
    """What the data behind a model mean for its scores; empty where all of them are real.

    Args:
        trained_on: as a checkpoint holds them, each with ``synthetic`` (None where nobody knows)
            and ``slices``.
    """
    kinds = {each["synthetic"] for each in trained_on}
    if kinds == {True}:
        return SYNTHETIC_LINE
    if {True, None} <= kinds:
        return "trained in part on synthetic data; the rest is not known"
    if True in kinds:
        slices = sum(each["slices"] for each in trained_on)
        painted = sum(each["slices"] for each in trained_on if each["synthetic"])
        return f"trained in part on synthetic data ({painted / max(1, slices):.0%} of its slices)"
    if kinds == {False}:
        return ""
    return UNKNOWN_LINE if False not in kinds else "not known in part what it was trained on"


def unique(trained_on: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each training once: steps of a recipe share their ancestors."""
    found: list[dict[str, Any]] = []
    for each in trained_on:
        if dict(each) not in found:
            found.append(dict(each))
    return found
