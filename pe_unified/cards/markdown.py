"""A model's card as a page of Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pe_unified.cards.card import (
    ANSWERS,
    SUBGROUPS,
    painted_in_words,
    positives_in_words,
)
from pe_unified.evaluation.in_words import interval_in_words, with_interval
from pe_unified.tasks import METRIC_NAMES

#: Metrics of every task that are shown by subgroup.
_OF_SUBGROUPS = (
    *("cls/auc", "cls/sensitivity", "cls/specificity", "seg/dice", "seg/dice_positive"),
    *("det/mAP_50", "det/recall", "exam/auc", "exam/sensitivity", "exam/specificity"),
    "lesion/mean_sensitivity",
)


def card_markdown(card: Mapping[str, Any]) -> str:
    """The page; ``card`` as :func:`~pe_unified.cards.card.make_card` gives it."""
    parts = [
        [f"# {card['name']}", "", f"{card['notice']}.", "", card["summary"]],
        ["## Intended use", "", card["intended_use"]],
        ["## Model", "", *_bullets(model_facts(card["model"]))],
        ["## Trained on", "", *_trained_on(card)],
        _data(card["data"]),
        ["## Thresholds and validation", "", *_validated(card["validated"])],
        ["## Test", "", *_tested(card["tested"])],
        ["## Not tested", "", *(f"- {each}" for each in card["not_tested"])],
    ]
    return "\n".join(line for part in parts if part for line in [*part, ""])


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _bullets(facts: Mapping[str, str]) -> list[str]:
    return [f"- {name}: {fact}" for name, fact in facts.items()]


def model_facts(model: Mapping[str, Any]) -> dict[str, str]:
    """Facts about the network, by name."""
    size = f"{model['parameters'] / 1e6:.1f} million parameters"
    facts = {
        "network": f"{model['network']} in {model['kind']}, {size}",
        "answers": ", ".join(ANSWERS[name] for name in model["answers"]),
        "training": f"{model['iterations']} iterations"
        + (f", step {model['step']}" if model["step"] else ""),
    }
    if model["started_from"]:
        facts["started from"] = ", ".join(
            f"{each['module']} of {each['from']}" for each in model["started_from"]
        )
    if model["frozen"]:
        facts["frozen"] = ", ".join(model["frozen"])
    facts["settings"] = ", ".join(f"{key} {value}" for key, value in model["settings"].items())
    facts["software"] = f"pe_unified {model['pe_unified']}"
    return facts


def _or_unknown(value: object) -> str:
    return "not known" if value is None else str(value)


def _trained_on(card: Mapping[str, Any]) -> list[str]:
    header = ("set", "source", "licence", "patients", "studies", "slices", "steps")
    keys = ("set", "source", "licence", "patients", "studies", "slices")
    rows = [
        [*(_or_unknown(each.get(key)) for key in keys), each.get("step") or ""]
        for each in card["trained_on"]
    ]
    lines = table(header, rows) if rows else ["Not known."]
    if card["training_notice"]:
        lines += ["", f"**{card['training_notice'].capitalize()}.**"]
    return lines


def _data(data: Mapping[str, Any] | None) -> list[str]:
    if data is None:
        return ["## Validation and test set", "", "Not known."]
    info = data["info"]
    lines = ["## Validation and test set", ""]
    lines += [f"- {key}: {_or_unknown(info.get(key))}" for key in ("source", "licence")]
    painted = painted_in_words(info["synthetic"]).removeprefix(", ")
    lines += [f"- {painted}"] if painted else []
    lines += [f"- {each}" for each in positives_in_words(data["splits"])]
    lines.append(
        f"- splits by patient, seed {_or_unknown(info.get('split_seed'))}; converted by "
        f"{_or_unknown(info.get('converter'))} {_or_unknown(info.get('converter_version'))}"
    )
    return [*lines, *(f"- {each}" for each in exclusions_in_words(data["exclusions"]))]


def exclusions_in_words(exclusions: Mapping[str, Any] | None) -> list[str]:
    """Lines on the patients that the conversion left out."""
    if exclusions is None:
        return ["exclusions: not known, the set has no report of its conversion"]
    gone = exclusions["patients"] - exclusions["converted"]
    lines = [f"exclusions: {gone} of {exclusions['patients']} patients could not be converted"]
    return lines + [f"{count}: {reason}" for reason, count in exclusions["reasons"].items()]


def thresholds_in_words(validated: Mapping[str, Any]) -> list[str]:
    """The thresholds of a model, and which of them validation did not choose."""
    default = " by default, because the split cannot choose it"
    return [
        f"{key}: {value:.4f}{default if f'{key}_by_default' in validated else ''}"
        for key, value in validated.items()
        if key.endswith("threshold") and value is not None
    ]


def _validated(validated: Mapping[str, Any]) -> list[str]:
    if not validated:
        return ["Never validated: no threshold is fixed."]
    lines = [f"- {each}" for each in thresholds_in_words(validated)]
    rows = [
        (METRIC_NAMES[key], f"{value:.3f}")
        for key, value in validated.items()
        if key in METRIC_NAMES and value is not None
    ]
    lines += ["", "Thresholds were chosen on these patients: the numbers are too optimistic.", ""]
    return lines + table(("validation split", "value"), rows)


def _tested(tested: Mapping[str, Any] | None) -> list[str]:
    if tested is None:
        return ["Not tested by its publisher."]
    metrics = tested["metrics"]
    rows = [
        (METRIC_NAMES.get(key, key), with_interval(metrics, key))
        for key in metrics
        if not key.endswith("_ci")
    ]
    lines = [f"{tested['patients']} patients; [95 % interval over patients].", ""]
    lines += [line for each in tested["warnings"] for line in (f"**{each}.**", "")]
    lines += table(("test split", "value"), rows)
    for by in SUBGROUPS:
        groups = [each for each in tested["subgroups"] if each["by"] == by]
        keys = [key for key in _OF_SUBGROUPS if any(key in each["metrics"] for each in groups)]
        if groups:
            header = [by, "patients", *(METRIC_NAMES[key] for key in keys)]
            lines += ["", *table(header, ([*_row(each, keys)] for each in groups))]
    return lines


def _row(group: Mapping[str, Any], keys: Sequence[str]) -> list[object]:
    cells = [group["metrics"].get(key) for key in keys]
    told = ["" if cell is None else interval_in_words(**cell) for cell in cells]
    return [group["group"], group["patients"], *told]
