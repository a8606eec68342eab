"""An exam model's answer as drawn on the page: a bar per label, and the attention curves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.evaluation.calibration import Calibration
from pe_unified.reports.exam_block import QUESTIONS, WORDS

_POSITIVE = EXAM_TARGETS[0]
_NEGATIVE = "negative_exam_for_pe"
#: A label above this value means yes.
_YES = 0.5


class Axis(Protocol):
    """Gives the position of a slice on a drawing, in pixels."""

    def x(self, index: float) -> float: ...


@dataclass(frozen=True)
class Bar:
    """A label of the exam.

    Attributes:
        words: the label in plain words.
        probability: None if the model does not answer this label.
        mark: threshold for yes; None without a threshold.
        yes: whether the label is answered yes.
        before: the original answer, if it was adjusted.
    """

    words: str
    probability: float | None
    mark: float | None
    yes: bool
    before: float | None = None


def questions(block: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """The bars, grouped by the question they answer."""
    return {
        question: [_bar(block, name, words) for name, words in labels.items()]
        for question, labels in QUESTIONS.items()
    }


def _bar(block: Mapping[str, Any], name: str, words: str) -> Bar:
    if name == _POSITIVE:
        mark = None
        if block["threshold"] is not None:
            fitted = block["calibration"]
            line = Calibration(fitted["slope"], fitted["intercept"])
            mark = float(line.apply(block["threshold"]))
        return Bar(words, block["probability"], mark, bool(block["positive"]))
    value, before = block["labels"][name], block["as_answered"][name]
    # After contradictions are removed, a label near one half does not contradict the call.
    yes = value is not None and value > _YES and not (name == _NEGATIVE and block["positive"])
    return Bar(words, value, _YES, yes, None if before == value else before)


def in_plain_words(fault: str) -> str:
    """A contradiction, with the label names as shown on the page."""
    return re.sub(rf"\b({'|'.join(WORDS)})\b", lambda found: f"“{WORDS[found[0]]}”", fault)


@dataclass(frozen=True)
class Attention:
    """Attention weights along the body, on the same axis as the curve of probabilities.

    Attributes:
        outlines: SVG path of each label, by its name.
        most: upper end of the drawing, as a multiple of the even weight.
        top, bottom, height: of the drawing, pixels.
    """

    outlines: Mapping[str, str]
    most: float
    top: int = 8
    bottom: int = 66
    height: int = 88

    @property
    def even(self) -> float:
        """Height in the drawing of a weight that is equal for all steps."""
        return self.bottom - (self.bottom - self.top) / self.most


def attention_of(block: Mapping[str, Any], axis: Axis) -> Attention | None:
    """The curves of a model; None if the model has no attention weights."""
    rows = {name: block["attention"][name] for name in WORDS if name in block["attention"]}
    if not rows:
        return None
    slices = [step["slice"] for step in block["steps"]]
    even = 1 / len(slices)
    empty = Attention({}, max(2.0, *(max(row) / even for row in rows.values())))
    tall = (empty.bottom - empty.top) / (empty.most * even)
    edges = [axis.x(edge) for edge in _edges(slices)]
    outlines = {
        name: _outline(edges, [empty.bottom - weight * tall for weight in row], empty.bottom)
        for name, row in rows.items()
    }
    return Attention(outlines, empty.most)


def _edges(slices: Sequence[int]) -> list[float]:
    """Edges of the steps: halfway between neighbours, and as far outwards at both ends."""
    between = [(one + other) / 2 for one, other in pairwise(slices)]
    if not between:
        return [slices[0] - 0.5, slices[0] + 0.5]
    first, last = slices[0] - between[0], slices[-1] - between[-1]
    return [slices[0] + first, *between, slices[-1] + last]


def _outline(edges: Sequence[float], heights: Sequence[float], bottom: float) -> str:
    path = [f"M{edges[0]:.1f} {bottom}"]
    path += [f"V{y:.1f}H{x:.1f}" for y, x in zip(heights, edges[1:], strict=True)]
    return f"{''.join(path)}V{bottom}Z"
