"""Compare a model before and after further training on the same test patients, with warnings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from pe_unified.cards.markdown import table
from pe_unified.engine.evaluate import Evaluation
from pe_unified.evaluation.in_words import difference_in_words, interval_in_words, p_in_words
from pe_unified.evaluation.intervals import Difference, paired_difference, warnings_of
from pe_unified.files import write_text
from pe_unified.json_files import as_json, write_json
from pe_unified.tasks import METRIC_NAMES, less_is_better

#: Smaller differences are shown as 0.000.
_NOTHING = 0.0005


def write_comparison(
    folder: Path, arms: Mapping[str, Evaluation], said: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare, and write ``comparison.json`` and ``comparison.md``.

    Args:
        folder: folder of the files.
        arms: evaluations of the same split, ``before`` and ``after``.
        said: further entries of the files.

    Returns:
        ``said``, ``metrics``, each with ``before`` and ``after`` (value, low, high), ``difference``
        (value, low, high, p_value; None if the split does not determine it) and ``worse``;
        ``warnings`` and ``notes``.
    """
    before, after = arms["before"], arms["after"]
    differences = compare(before, after)
    metrics = {}
    for key in METRIC_NAMES:
        if key not in before.metrics or key not in after.metrics:
            continue
        difference = differences.get(key)
        metrics[key] = {
            "before": _estimate(before, key),
            "after": _estimate(after, key),
            "difference": difference and vars(difference),
            "worse": difference and _worse(key, difference),
        }
    warnings = [
        f"{METRIC_NAMES[key]} got worse: {_in_words(each['difference'])}"
        + ("" if each["worse"] == "surely" else "; the interval includes zero, so it may be chance")
        for key, each in metrics.items()
        if each["worse"]
    ]
    notes = warnings_of(after.tables)
    found = as_json({**said, "metrics": metrics, "warnings": warnings, "notes": notes})
    write_json(folder / "comparison.json", found)
    write_text(folder / "comparison.md", comparison_markdown(found))
    return found


def compare(before: Evaluation, after: Evaluation) -> dict[str, Difference]:
    """After minus before for every metric of both, paired by patient, each at its thresholds.

    Metrics of fewer than two patients are left out.
    """
    found: dict[str, Difference] = {}
    for prefix, second in after.tables.items():
        first = before.tables.get(prefix)
        key = f"{prefix}/threshold"
        if first is None or first.patients != second.patients or key not in before.thresholds:
            continue
        arms: list[Any] = [first, second]
        thresholds = [each.thresholds[key] for each in (before, after)]
        one, other = (arm.statistic(at) for arm, at in zip(arms, thresholds, strict=True))
        try:
            own = paired_difference(one, other, second.units)
        except ValueError:  # fewer than two patients that are independent of each other
            continue
        found |= {f"{prefix}/{name}": each for name, each in own.items()}
    return {key: each for key, each in found.items() if each.value == each.value}


def _estimate(evaluation: Evaluation, key: str) -> list[Any]:
    low, high = evaluation.metrics.get(f"{key}_ci") or (None, None)
    return [evaluation.metrics[key], low, high]


def _worse(key: str, difference: Difference) -> str:
    """``"surely"`` if the whole interval is worse, ``"perhaps"`` if only the value is, else ""."""
    sign = -1 if less_is_better(key) else 1
    ends = (sign * difference.low, sign * difference.high)
    if max(ends) < 0:
        return "surely"
    return "perhaps" if sign * difference.value < -_NOTHING else ""


def comparison_markdown(found: Mapping[str, Any]) -> str:
    """The comparison as a page of Markdown."""
    lines = [f"# {found['model']}, before and after", ""]
    lines += [
        f"{found['iterations']} iterations with batches of {found['batch_size']}"
        + (f", {found['frozen']} frozen" if found["frozen"] else "")
        + ". Test patients only, each model at its own thresholds; [95 % interval over patients], "
        "differences paired by patient, not corrected for multiple comparisons.",
        "",
    ]
    lines += [line for each in found["warnings"] for line in (f"**Warning. {each}.**", "")]
    lines += [line for each in found["notes"] for line in (f"**Note. {each}.**", "")]
    return "\n".join([*lines, *table(_HEADER, _rows(found)), ""])


def _in_words(difference: Mapping[str, Any]) -> str:
    return difference_in_words(*map(difference.get, ("value", "low", "high")))


_HEADER = ("test split", "before", "after", "difference", "p")


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for key, each in found["metrics"].items():
        difference = each["difference"] or {}
        rows.append(
            [
                METRIC_NAMES[key],
                interval_in_words(*each["before"]),
                interval_in_words(*each["after"]),
                _in_words(difference),
                p_in_words(difference.get("p_value")),
            ]
        )
    return rows


def comparison_table(found: Mapping[str, Any]) -> RichTable:
    """The comparison for the terminal."""
    told = [f"WARNING: {each}" for each in found["warnings"]]
    title = "test patients, 95 % intervals, differences paired by patient"
    shown = RichTable(title=title, caption="\n".join([*told, *found["notes"]]) or None)
    for number, name in enumerate(_HEADER):
        shown.add_column(name, justify="right" if number else "left")
    for row in _rows(found):
        shown.add_row(*row)
    return shown
