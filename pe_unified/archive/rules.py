"""Decides which series are analysed, from their headers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pe_unified.ct.frames import as_slices, is_multiframe

#: Fields available to rules, with the header element that holds each.
FIELDS = {
    "modality": "Modality",
    "description": "SeriesDescription",
    "study_description": "StudyDescription",
    "body_part": "BodyPartExamined",
    "protocol": "ProtocolName",
    "image_type": "ImageType",
    "kernel": "ConvolutionKernel",
    "contrast": "ContrastBolusAgent",
    "manufacturer": "Manufacturer",
    "station": "StationName",
    "institution": "InstitutionName",
    "slice_thickness": "SliceThickness",
}
#: Numeric fields; the others are text. ``images`` counts the slices, ``source`` is the sender.
NUMBERS = ("slice_thickness", "images")
TEXTS = (*(name for name in FIELDS if name not in NUMBERS), "source")
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "": lambda a, b: a == b,
}
_NUMBER = r"(\d+(?:\.\d+)?)"
_LIMIT = re.compile(rf"(<=|>=|<|>|)\s*{_NUMBER}")
_RANGE = re.compile(rf"{_NUMBER}\s*(?:to|\.\.|-)\s*{_NUMBER}")

Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Rule:
    """What to do with one kind of series.

    Attributes:
        name: in logs and on the status page.
        tests: field to a test of its value; all tests have to pass.
        analyse: analyse such series, or ignore them.
        priority: of studies with such a series; higher ones are done first.
    """

    name: str
    tests: Mapping[str, Test]
    analyse: bool = True
    priority: int = 0

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Rule":
        """Make a rule from the settings.

        Raises:
            ValueError: an unknown field, or an invalid condition.
        """
        tests = {name: _test(name, value) for name, value in found.get("where", {}).items()}
        return cls(found["name"], tests, found["do"] == "analyse", found.get("priority", 0))

    def fits(self, facts: Mapping[str, Any]) -> bool:
        """Whether it applies to a series, see :func:`facts_of`."""
        return all(test(facts.get(name)) for name, test in self.tests.items())


def decide(rules: Sequence[Rule], facts: Mapping[str, Any]) -> Rule | None:
    """The first rule that applies to a series; None if none does."""
    return next((rule for rule in rules if rule.fits(facts)), None)


def facts_of(header: Dataset) -> dict[str, Any]:
    """The facts on a series that rules use, from the header of one of its images; no patient.

    ``frames`` is the number of slices per image: more than one for Enhanced CT, whose first frame
    gives the other facts.
    """
    facts: dict[str, Any] = {"frames": int(header.get("NumberOfFrames") or 1)}
    if is_multiframe(header):
        header = next(as_slices(header))
    for name, keyword in FIELDS.items():
        value = header.get(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = "\\".join(map(str, value))
        if name in NUMBERS:
            facts[name] = _number(value)
        else:
            facts[name] = "" if value is None else str(value)
    return facts


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _test(name: str, value: Any) -> Test:
    if name in NUMBERS:
        return _number_test(name, str(value))
    if name not in TEXTS:
        known = ", ".join((*TEXTS, *NUMBERS))
        raise ValueError(f"unknown '{name}' in a rule; known: {known}")
    patterns = [value] if isinstance(value, str | int | float) else list(value)
    try:
        compiled = [re.compile(str(pattern), re.IGNORECASE) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"'{value}' of '{name}' is not a regular expression: {error}") from error
    return lambda text: any(each.search(text or "") for each in compiled)


def _number_test(name: str, text: str) -> Test:
    if found := _RANGE.fullmatch(text.strip()):
        low, high = map(float, found.groups())
        return lambda number: number is not None and low <= number <= high
    if found := _LIMIT.fullmatch(text.strip()):
        compare, limit = _COMPARED[found[1]], float(found[2])
        return lambda number: number is not None and compare(number, limit)
    raise ValueError(
        f"'{text}' of '{name}' is not a range such as '<= 3', '>= 50', '0.5 to 3', '1'"
    )
