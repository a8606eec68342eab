"""Notices for reports and figures: research software, and the data the model was trained on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RESEARCH_LINE = "Research software, not a medical device"

SYNTHETIC_LINE = "trained on synthetic data: its scores mean nothing for patients"
UNKNOWN_LINE = "not known what it was trained on"


def training_notice(trained_on: Sequence[Mapping[str, Any]]) -> str:
    """What the training data mean for a model's scores; empty if all of them are real.

    Args:
        trained_on: entries as in a checkpoint, each with ``synthetic`` (None if unknown) and
            ``slices``.
    """
    kinds = {each["synthetic"] for each in trained_on}
    if kinds == {True}:
        return SYNTHETIC_LINE
    if {True, None} <= kinds:
        return "trained in part on synthetic data; the rest is not known"
    if True in kinds:
        sets = by_set(trained_on)
        slices = sum(each["slices"] for each in sets)
        painted = sum(each["slices"] for each in sets if each["synthetic"])
        return f"trained in part on synthetic data ({painted / max(1, slices):.0%} of its slices)"
    if kinds == {False}:
        return ""
    return UNKNOWN_LINE if False not in kinds else "not known in part what it was trained on"


def unique(trained_on: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Training entries without duplicates: steps of a recipe share earlier steps."""
    found: list[dict[str, Any]] = []
    for each in trained_on:
        if dict(each) not in found:
            found.append(dict(each))
    return found


def by_set(trained_on: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Training entries merged by set, the largest set first; ``step`` then names all steps.

    Two entries are on the same set if ``set``, ``source`` and ``synthetic`` agree and one has all
    studies of the other or, if studies are not recorded, the same numbers of patients and slices.

    Args:
        trained_on: entries as in a checkpoint, with or without ``studies``.
    """
    found: list[dict[str, Any]] = []
    for each in sorted(trained_on, key=_size, reverse=True):
        same = next((other for other in found if _of_one_set(other, each)), None)
        if same is None:
            found.append(dict(each))
            continue
        steps = [*(same["step"] or "").split(", "), each["step"] or ""]
        same["step"] = ", ".join(filter(None, dict.fromkeys(steps))) or None
        same["slices"] = max(filter(None, (same["slices"], each["slices"])), default=None)
    return found


def _size(each: Mapping[str, Any]) -> tuple[int, int]:
    return len(each.get("studies") or ()), each["slices"] or 0


def _of_one_set(larger: Mapping[str, Any], each: Mapping[str, Any]) -> bool:
    names = ("set", "source", "synthetic")
    if any(larger[key] != each[key] for key in names):
        return False
    if "studies" in larger and "studies" in each:
        return set(each["studies"]) <= set(larger["studies"])
    return all(larger[key] == each[key] for key in ("patients", "slices"))
