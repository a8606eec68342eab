"""A page of answers to CLAIM 2024 and TRIPOD+AI, as far as the software knows them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pe_unified.cards.card import (
    SUBGROUPS,
    painted_in_words,
    positives_in_words,
    set_in_words,
)
from pe_unified.cards.checklists import CLAIM_2024, TRIPOD_AI, Item
from pe_unified.cards.markdown import (
    exclusions_in_words,
    model_facts,
    table,
    thresholds_in_words,
)
from pe_unified.evaluation.in_words import with_interval
from pe_unified.tasks import MAIN_METRICS, METRIC_NAMES, TASKS

#: Text where the software knows no answer.
BLANK = "**not known to the software: the authors must fill this in**"
_INTERVALS = (
    "95 % intervals over patients: jackknife with Student's t, patients of one group left out "
    "together (docs/intervals.md)"
)


def reporting_page(
    card: Mapping[str, Any],
    settings: Mapping[str, Any],
    flows: Mapping[str, Mapping[str, Any]] | None = None,
    digest: str = "",
) -> str:
    """The page, in Markdown.

    Args:
        card: card of the model.
        settings: its config.
        flows: content of ``exam_flow.json``, if the run wrote one.
        digest: SHA-256 of the file.
    """
    answers = known_answers(card, settings, flows, digest)
    lines = [
        f"# Reporting of {card['name']}",
        "",
        f"{card['notice']}. Filled in by the software from what it knows. Items are shortened; the "
        "wording of the checklists is the one that counts. Check every answer.",
        "",
        "## Flow of exclusions",
        "",
        *(f"- {line}" for line in _flow(card, flows)),
    ]
    for title, items in (
        ("CLAIM 2024 (Tejani et al., doi 10.1148/ryai.240300)", CLAIM_2024),
        ("TRIPOD+AI (Collins et al., doi 10.1136/bmj-2023-078378)", TRIPOD_AI),
    ):
        whole = sum(bool(answers.get(item.answer)) and not item.lacks for item in items)
        partly = sum(bool(answers.get(item.answer)) and bool(item.lacks) for item in items)
        lines += ["", f"## {title}", ""]
        lines += [
            f"Of {len(items)} items {whole} are answered, {partly} in part, "
            f"{len(items) - whole - partly} are blank.",
            "",
        ]
        rows = [(item.number, item.asks, _answered(item, answers)) for item in items]
        lines += table(("item", "asks for", "answer"), rows)
    return "\n".join([*lines, ""])


def _answered(item: Item, answers: Mapping[str, str]) -> str:
    known = answers.get(item.answer, "")
    if not known:
        return BLANK
    lacks = item.lacks[:1].upper() + item.lacks[1:]
    return f"{known.rstrip('.')}. {lacks}: {BLANK}" if lacks else known


def known_answers(
    card: Mapping[str, Any],
    settings: Mapping[str, Any],
    flows: Mapping[str, Mapping[str, Any]] | None = None,
    digest: str = "",
) -> dict[str, str]:
    """The software's answers, by the names that items use; empty if unknown."""
    model, data, tested = card["model"], card["data"], card["tested"]
    chosen = model["settings"]
    facts = model_facts(model)
    tasks = facts["answers"]
    return {
        "technology": f"Deep learning: {facts['network']}, trained to predict {tasks}; outcome: "
        "pulmonary embolism on CT pulmonary angiograms",
        "intended_use": card["intended_use"],
        "sources": _sources(card),
        "flow": "; ".join(_flow(card, flows)),
        "preprocessing": _preprocessing(chosen, model),
        "parts": "Slices are cropped to the lungs" if chosen.get("lung_crop") else "",
        "missing": _missing(data),
        "acquisition": _acquisition(data),
        "reference": f"Labels as the sources give them: {_sources(card)}",
        "partition": _partition(data),
        "disjoint": "Patients, and groups of patients that are not independent; pe-unified verify "
        "and audit check it",
        "sizes": "; ".join(positives_in_words(data["splits"])) if data else "",
        "model": "; ".join(f"{name}: {fact}" for name, fact in facts.items()),
        "software": f"pe_unified {model['pe_unified']}, on PyTorch, mmengine and mmdetection",
        "start": _start(model),
        "training": _training(model, settings),
        "building": f"{facts['network']}; {_training(model, settings)}; {_selection(settings)}",
        "selection": _selection(settings),
        "ensembling": "None: one network",
        "metrics": _metrics(card),
        "uncertainty": _INTERVALS if tested else "",
        "subgroups": _subgroups(tested),
        "internal": _internal(card),
        "external": _external(card),
        "performance": _performance(tested),
        "performance_by_group": "; ".join(filter(None, [_performance(tested), _subgroups(tested)])),
        "diagnostic": _performance(tested, ("cls/", "exam/")),
        "limitations": _limitations(card),
        "availability": "Software: pe_unified, Apache-2.0. Model: one file"
        + (f", SHA-256 {digest}" if digest else "")
        + f". Data: {_sources(card)}",
        "predictors": "The pixels of CT slices in Hounsfield units; no features are chosen by hand",
        "predictions": _predictions(model, tested),
        "imbalance": _imbalance(card, settings),
        "output": _output(card),
        "poor_input": "A report abstains, with the reason, where contrast is poor, lungs are cut "
        "off, slices are thick or missing, or motion is strong (docs/report.md)",
    }


def _limitations(card: Mapping[str, Any]) -> str:
    lacking = [f"not tested: {each}" for each in card["not_tested"]]
    return "; ".join(filter(None, [card["training_notice"], *lacking]))


def _flow(card: Mapping[str, Any], flows: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    lines = exclusions_in_words(card["data"]["exclusions"]) if card["data"] else []
    for split, flow in (flows or {}).items():
        reasons = Counter(each["reason"] for each in flow["left_out"])
        gone = len(flow["left_out"])
        lines.append(f"{split}: {flow['exams']} exams, {gone} left out, {flow['kept']} used")
        lines += [f"{split}, {count}: {reason}" for reason, count in reasons.most_common()]
    return lines


def _sources(card: Mapping[str, Any]) -> str:
    told = [
        f"{set_in_words(each)}, {each['source'] or 'source not known'}, licence "
        f"{each['licence'] or 'not known'}"
        for each in card["trained_on"]
    ]
    if card["data"]:
        info = card["data"]["info"]
        told.append(
            f"validation and test: {info['converter'] or 'a set'}, "
            f"{info['source'] or 'source not known'}, licence {info['licence'] or 'not known'}"
            f"{painted_in_words(info['synthetic'])}"
        )
    return "; ".join(told)


def _preprocessing(chosen: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    said = []
    if chosen.get("windows"):
        said.append(f"Windows {', '.join(map(str, chosen['windows']))}")
    if chosen.get("lung_crop"):
        said.append("cropped to the lungs")
    if chosen.get("input_size"):
        said.append(f"resized to {chosen['input_size']}")
    if chosen.get("neighbours"):
        said.append(f"{chosen['neighbours']} neighbouring slices on each side")
    if model["training_pipeline"]:
        said.append(f"steps of training: {', '.join(model['training_pipeline'])}")
    return ", ".join(said)


def _missing(data: Mapping[str, Any] | None) -> str:
    rule = "A label that a set does not give stays unknown; neither training nor tests use it"
    if not data:
        return rule
    counts = ", ".join(
        f"{name} {each['unlabelled_slices']}" for name, each in data["splits"].items()
    )
    return f"{rule}; slices without a label: {counts}"


def _acquisition(data: Mapping[str, Any] | None) -> str:
    known = (
        {name: each["spacing_mm"] for name, each in data["splits"].items() if each["spacing_mm"]}
        if data
        else {}
    )
    return (
        "Distance between slices, mm: "
        + ", ".join(
            f"{name} {low:g} to {high:g} (median {middle:g})"
            for name, (low, middle, high) in known.items()
        )
        if known
        else ""
    )


def _partition(data: Mapping[str, Any] | None) -> str:
    if not data:
        return ""
    seed = data["info"]["split_seed"]
    drawn = (
        f", drawn with seed {seed} and balanced by embolism where neither the source nor an "
        "earlier conversion had divided them"
        if seed is not None
        else ""
    )
    return f"By patient{drawn}: {'; '.join(positives_in_words(data['splits']))}"


def _start(model: Mapping[str, Any]) -> str:
    parts = [f"{each['module']} of {each['from']}" for each in model["started_from"]]
    said = [f"weights reused: {', '.join(parts)}"] if parts else []
    start = model["settings"].get("pretrained")
    if start and not any(each["module"] == "backbone" for each in model["started_from"]):
        said.append(f"image network from {start}")
    if not said:
        return "At random" if "pretrained" in model["settings"] else ""
    text = f"{'; '.join(said)}; others at random"
    return text[0].upper() + text[1:]


def _training(model: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    chosen = model["settings"]
    keys = ("lr", "batch_size", "precision", "seed")
    optimiser = ((settings.get("optim_wrapper") or {}).get("optimizer") or {}).get("type")
    said = [f"{model['iterations']} iterations" + (f" of {optimiser}" if optimiser else "")]
    said += [f"{key} {chosen[key]}" for key in keys if key in chosen]
    if model["frozen"]:
        said.append(f"frozen: {', '.join(model['frozen'])}")
    if model["training_pipeline"]:
        said.append(f"steps: {', '.join(model['training_pipeline'])}")
    return ", ".join(said)


def _selection(settings: Mapping[str, Any]) -> str:
    hooks = settings.get("default_hooks") or {}
    best = (hooks.get("checkpoint") or {}).get("save_best")
    if best:
        return f"The checkpoint that was published; training kept the best by {best} on validation"
    averaged = ", as a running average over training" if hooks.get("average") else ""
    return f"The weights of the iteration that was published{averaged}; thresholds on validation"


def _metrics(card: Mapping[str, Any]) -> str:
    keys = [*(card["tested"] or {}).get("metrics", {}), *card["validated"]]
    names = dict.fromkeys(METRIC_NAMES[key] for key in keys if key in METRIC_NAMES)
    return ", ".join(names)


def _performance(tested: Mapping[str, Any] | None, prefixes: Sequence[str] = ("",)) -> str:
    if tested is None:
        return ""
    shown = [
        f"{METRIC_NAMES[key]} {with_interval(tested['metrics'], key)}"
        for key in tested["metrics"]
        if key in METRIC_NAMES and key.startswith(tuple(prefixes))
    ]
    return f"Test split, {tested['patients']} patients: {', '.join(shown)}" if shown else ""


def _predictions(model: Mapping[str, Any], tested: Mapping[str, Any] | None) -> str:
    if tested is None:
        return ""
    of_slices = not any(name in TASKS and not TASKS[name].of_slices for name in model["answers"])
    return (
        f"By the network on every {'slice' if of_slices else 'exam'} of the test split, through "
        "the steps of validation, without a gate; thresholds had been fixed on validation"
    )


def _internal(card: Mapping[str, Any]) -> str:
    shown = [
        f"{METRIC_NAMES[key]} {value:.3f}"
        for key, value in card["validated"].items()
        if key in METRIC_NAMES and value is not None
    ]
    said = (
        [f"Validation split, on which thresholds were chosen: {', '.join(shown)}"] if shown else []
    )
    return "; ".join(filter(None, [*said, _performance(card["tested"])]))


def _external(card: Mapping[str, Any]) -> str:
    """Whether the test set is external, by names and sources; empty if some are unknown."""
    test = card["data"] and card["data"]["splits"].get("test", {}).get("sets")
    learned = card["trained_on"]
    if card["tested"] is None or not test or not learned:
        return ""
    if any(each["set"] is None for each in (*test, *learned)):
        return ""
    shared = [each for each in test if any(_is_one(each, other) for other in learned)]
    others = [each for each in test if each not in shared]
    if not shared:
        return (
            f"The test set, {_names(test)}, is not among the sets that the model was trained on "
            f"({_names(learned)})"
        )
    part = f"; {_names(others)} alone would be external" if others else ""
    return (
        f"No external data that the software knows of: test patients are of {_names(shared)}, "
        f"and the model was trained on other patients of the same sets{part}"
    )


def _is_one(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries are of one set, which may have another name in a merged set."""
    sources = one["source"], other["source"]
    return one["set"] == other["set"] or (sources[0] is not None and sources[0] == sources[1])


def _names(sets: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({each["set"] for each in sets}))


def _subgroups(tested: Mapping[str, Any] | None) -> str:
    told = []
    for by in SUBGROUPS:
        groups = [each for each in (tested or {}).get("subgroups", ()) if each["by"] == by]
        shown = []
        for each in groups:
            key = next((key for key in MAIN_METRICS.values() if key in each["metrics"]), None)
            if key is not None:
                value = each["metrics"][key]["value"]
                number = "undefined" if value is None else f"{value:.3f}"
                shown.append(
                    f"{each['group']} ({each['patients']} patients) {METRIC_NAMES[key]} {number}"
                )
        if shown:
            told.append(f"by {by}: {', '.join(shown)}")
    return f"Test split {'; '.join(told)}; intervals in the card" if told else ""


def _calibration(card: Mapping[str, Any]) -> str:
    if any(key.endswith("calibration_slope") for key in card["validated"]):
        return "the probability that the exam is positive is calibrated on validation"
    return "scores are not calibrated"


def _imbalance(card: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    kind = ((settings.get("train_dataloader") or {}).get("sampler") or {}).get("type")
    if kind is None:
        return ""
    name = kind if isinstance(kind, str) else kind.__name__
    drawn = ", which draws as many positive slices as others"
    balanced = drawn if name.endswith("ClassBalancedSampler") else ""
    return f"Sampler {name}{balanced}; {_calibration(card)}"


def _output(card: Mapping[str, Any]) -> str:
    tasks = model_facts(card["model"])["answers"]
    said = [f"Scores from 0 to 1 for {tasks}", _calibration(card)]
    if thresholds := thresholds_in_words(card["validated"]):
        said.append(f"thresholds ({'; '.join(thresholds)})")
    return "; ".join(said)
