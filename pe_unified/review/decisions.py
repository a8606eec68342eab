"""The kinds of decisions on a study, and which of them stand."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pe_unified.errors import UserError
from pe_unified.review.reports import StudyReport

#: Verdicts on a lesion or on the study. The newest one stands.
VERDICTS = ("accept", "reject", "redraw")
#: Decisions that another reader may not overwrite without having seen them.
DECIDING = (*VERDICTS, "relabel")
KINDS = (*DECIDING, "add", "comment", "done", "undo")
#: Labels that ``relabel`` can give to the study, and to a lesion.
STUDY_LABELS = ("positive", "negative", "indeterminate")
LESION_LABELS = ("acute", "chronic", "indeterminate")


class DecisionError(UserError, ValueError):
    """A decision that does not fit its report."""


class ConflictError(UserError):
    """Another reader or a new report interfered; the page has to be loaded again."""


@dataclass(frozen=True)
class Decision:
    """One decision of one reader on one study.

    Attributes:
        study: StudyInstanceUID; without one, the report's folder.
        reader: name of the reader.
        kind: one of :data:`KINDS`.
        lesion: its number in ``report.json``; None for the study.
        value: ``relabel``: ``{"label": "chronic"}``. ``redraw`` and ``add``: ``{"mask": name}``,
            from :meth:`~pe_unified.review.store.ReviewStore.save_mask`, or ``{"box": [x, y, w, h],
            "slice": index}`` in pixels. ``comment``: ``{"text": ...}``. ``undo``:
            ``{"of": number}``.
        model: SHA-256 of the checkpoint that made the report.
        made: UTC, ISO 8601; set by the store.
        number: increasing; set by the store.
    """

    study: str
    reader: str
    kind: str
    lesion: int | None
    value: Mapping[str, Any]
    model: str
    made: str = ""
    number: int = 0


def in_force(history: Iterable[Decision]) -> list[Decision]:
    """The decisions that are not undone, in order, without the ``undo`` entries.

    An ``undo`` can itself be undone.
    """
    undone: set[int] = set()
    kept = []
    for decision in sorted(history, key=lambda each: each.number, reverse=True):
        if decision.number in undone:
            continue
        if decision.kind == "undo":
            undone.add(decision.value["of"])
        else:
            kept.append(decision)
    return kept[::-1]


def standing(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions in force that are not replaced by a newer one, in order.

    The newest verdict on a lesion stands, the newest label and the newest ``done``, whoever gave
    them. Added lesions and comments never replace each other.
    """
    newest: dict[Hashable, Decision] = {}
    for decision in in_force(decisions):
        slot: Hashable = decision.number
        if decision.kind in VERDICTS:
            slot = ("verdict", decision.lesion)
        elif decision.kind in ("relabel", "done"):
            slot = (decision.kind, decision.lesion)
        newest[slot] = decision
    return sorted(newest.values(), key=lambda each: each.number)


def state(decisions: Iterable[Decision]) -> str:
    """``"unread"``, ``"in work"`` or ``"done"``, for one study.

    Done: ``done`` is the last decision of each reader who decided anything; comments do not count.
    """
    last: dict[str, str] = {}
    for decision in in_force(decisions):
        if decision.kind != "comment":
            last[decision.reader] = decision.kind
    if not last:
        return "unread"
    return "done" if set(last.values()) == {"done"} else "in work"


def require_fitting(decision: Decision, report: StudyReport) -> None:
    """Refuse a decision that does not fit this report.

    Raises:
        DecisionError: an unknown kind, lesion, slice, label or value, or no reader.
        ConflictError: the report was made by another model.
    """
    kind, value, where = decision.kind, decision.value, f"study {decision.study}"
    if kind not in KINDS:
        raise DecisionError(f"{where}: unknown decision '{kind}'; use one of {', '.join(KINDS)}")
    if not decision.reader.strip():
        raise DecisionError(f"{where}: a decision without a reader; give your name")
    if decision.model != report.model:
        raise ConflictError(f"{where}: the report was made anew by another model; load it again")
    if decision.lesion is not None and not 1 <= decision.lesion <= report.lesions:
        raise DecisionError(
            f"{where}: no lesion {decision.lesion}; the report has {report.lesions}"
        )
    if kind == "redraw" and decision.lesion is None:
        raise DecisionError(f"{where}: redraw which lesion? A new one is an 'add'")
    if kind in ("add", "done") and decision.lesion is not None:
        raise DecisionError(f"{where}: '{kind}' applies to the study, not to a lesion")
    if kind == "relabel":
        labels = STUDY_LABELS if decision.lesion is None else LESION_LABELS
        if value.get("label") not in labels:
            raise DecisionError(
                f"{where}: unknown label '{value.get('label')}'; use one of {', '.join(labels)}"
            )
    if kind == "comment" and not isinstance(value.get("text"), str):
        raise DecisionError(f"{where}: a comment without text")
    if kind == "undo" and not isinstance(value.get("of"), int):
        raise DecisionError(f"{where}: undo which decision? Name its number")
    if kind in ("redraw", "add") and "mask" not in value:
        _require_box(value, report.shape, where)


def _require_box(value: Mapping[str, Any], shape: tuple[int, int, int], where: str) -> None:
    count, rows, cols = shape
    try:
        x, y, width, height = (float(edge) for edge in value["box"])
        index = int(value["slice"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DecisionError(f"{where}: neither a mask nor a box [x, y, w, h] on a slice") from error
    inside = min(x, y) >= 0 and x + width <= cols and y + height <= rows
    if not (inside and min(width, height) > 0 and 0 <= index < count):
        raise DecisionError(f"{where}: the box lies outside of the study's {shape} pixels")
