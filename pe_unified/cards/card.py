"""The card of a model, made only from its checkpoint, its set and its tests."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pe_unified.checkpoints import config_of, tensors_of, training_data
from pe_unified.disclaimer import RESEARCH_LINE, by_set, training_notice
from pe_unified.evaluation.in_words import with_interval
from pe_unified.image_network import image_network
from pe_unified.json_files import as_json
from pe_unified.tasks import COLUMNS, TASKS
from pe_unified.version import __version__

SCHEMA_VERSION = "1.0"
INTENDED_USE = (
    "Research on computer-aided reading of CT pulmonary angiograms, by people who check every "
    "finding. Not for decisions on patients."
)
#: How the results of a test are divided into subgroups.
BY_SPACING, BY_CONTRAST, BY_SIZE = SUBGROUPS = (
    "distance between slices",
    "opacification of heart and great vessels",
    "diameter of the largest embolus on the slice",
)
#: Answers of a model, in words.
ANSWERS = {
    **{name: task.answer for name, task in TASKS.items()},
    "lung": "whether a slice shows lung",
    "lung_box": "boxes around the lungs",
}
#: What no test on a converted set can show.
_NEVER_TESTED = (
    "hospitals, scanners and protocols other than those of the sets named here",
    "differences between patients of other age, sex or origin: converted sets do not contain these",
    "use by readers, and prospective use",
)
#: Tensors of batch norm that are not trained.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: Settings of a config that a card repeats.
_SETTINGS = (
    *("input_size", "windows", "neighbours", "lung_crop", "step_mm", "patch_size"),
    *("lr", "batch_size", "max_iters", "precision", "seed", "pretrained", "frozen_stages"),
)


def make_card(
    name: str,
    stored: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    tested: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is known about a model.

    Args:
        name: name of the model.
        stored: its checkpoint, with ``validated`` in ``meta``.
        data: from :func:`~pe_unified.cards.data.describe_data`: the set of the thresholds and of
            the test; None if unknown.
        tested: ``metrics`` with ``<key>_ci``, ``thresholds``, ``patients``, ``warnings`` and
            ``subgroups`` of the test split; None if it was not tested.

    Returns:
        plain data for JSON.
    """
    meta = stored.get("meta") or {}
    settings = config_of(stored) or {}
    model = settings.get("model") or {}
    trained_on = [
        {
            "licence": None,
            **{key: value for key, value in each.items() if key != "studies"},
            "studies": len(each["studies"]) if "studies" in each else None,
        }
        for each in by_set(training_data(stored))
    ]
    validated = dict(meta.get("validated") or {})
    card: dict[str, Any] = {
        "schema": "pe_unified.card",
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "notice": RESEARCH_LINE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "intended_use": INTENDED_USE,
        "model": {
            "pe_unified": meta.get("pe_unified") or __version__,
            "kind": _name(model.get("type")),
            "network": _network(model),
            "answers": _answers(settings),
            "parameters": sum(
                each.numel()
                for key, each in tensors_of(stored).items()
                if not key.endswith(_STATISTICS)
            ),
            "iterations": meta.get("iter"),
            "step": meta.get("step"),
            "started_from": [
                {key: parent.get(key) for key in ("module", "from")}
                for parent in meta.get("parents") or ()
            ],
            "settings": {key: settings[key] for key in _SETTINGS if key in settings},
            "frozen": list(model.get("frozen") or ()),
            "training_pipeline": _steps(_dataset(settings, "train")),
        },
        "trained_on": trained_on,
        "training_notice": training_notice(training_data(stored)),
        "data": None if data is None else dict(data),
        "validated": validated,
        "tested": None if tested is None else dict(tested),
        "not_tested": _not_tested(validated, tested),
    }
    return as_json({**card, "summary": _summary(card)})


def _answers(settings: Mapping[str, Any]) -> list[str]:
    """The answers of the model, as keys of :data:`ANSWERS`."""
    model = settings.get("model") or {}
    if _name(model.get("type")) == "LungDetector":
        return ["lung_box"]
    if _dataset(settings, "val").get("label", "pe") == "lung":
        return ["lung"]
    return [task.name for task in TASKS.values() if model.get(task.head)]


def _dataset(settings: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    return (settings.get(f"{split}_dataloader") or {}).get("dataset") or {}


def _steps(dataset: Mapping[str, Any]) -> list[str | None]:
    """The transforms of a data set."""
    return [_name(step["type"]) for step in dataset.get("pipeline") or ()]


def _name(kind: Any) -> str | None:
    return kind.__name__ if isinstance(kind, type) else kind


def _network(model: Mapping[str, Any]) -> str | None:
    network, _ = image_network(model)
    if not network:
        return None
    said = [str(_name(network.get("type"))).rpartition(".")[2]]
    said += [str(network[key]) for key in ("depth", "model_name", "preset") if network.get(key)]
    return " ".join(said)


def _not_tested(validated: Mapping[str, Any], tested: Mapping[str, Any] | None) -> list[str]:
    lacking = []
    if tested is None:
        lacking.append("patients of a test split: no test of this file is known (publish --test)")
    else:
        seen = {each["by"] for each in tested["subgroups"]}
        lacking += [f"subgroups by {by}: none was measured" for by in SUBGROUPS if by not in seen]
    if not {"exam/threshold", "exam/stretch_threshold", "exam/lesion_threshold"} & set(validated):
        lacking.append("verdicts on whole exams: no threshold was fixed for them")
    return [*lacking, *_NEVER_TESTED]


def _summary(card: Mapping[str, Any]) -> str:
    """In one line: what it is, what it was trained on, and its results."""
    model = card["model"]
    what = ", ".join([model["network"] or "no network", *model["answers"]])
    sets = "; ".join(map(set_in_words, card["trained_on"])) or "unknown data"
    said = f"{what}. Trained on {sets}."
    tested = card["tested"]
    if tested is None:
        return f"{said} Not tested by its publisher."
    shown = [
        f"{title} {with_interval(tested['metrics'], key)}"
        for key, title in COLUMNS.items()
        if tested["metrics"].get(key) is not None
    ]
    return (
        f"{said} Test on {tested['patients']} patients: {', '.join(shown) or 'nothing measured'}."
    )


def set_in_words(each: Mapping[str, Any]) -> str:
    """Text on a set that a model was trained on."""
    if each["slices"] is None:
        return "an unknown data set"
    painted = painted_in_words(each["synthetic"])
    return f"{each['set']} ({each['patients']} patients, {each['slices']} slices{painted})"


def painted_in_words(synthetic: bool | str | None) -> str:
    """Whether a set is synthetic, to be added to its name; empty if it is not."""
    words = {True: ", synthetic", False: "", None: ", not known whether synthetic"}
    return ", synthetic in part" if isinstance(synthetic, str) else words[synthetic]


def positives_in_words(splits: Mapping[str, Any]) -> Sequence[str]:
    """Numbers of patients, studies and slices of every split."""
    return [
        f"{name}: {each['patients']} patients ({each['positive_patients']} with embolism), "
        f"{each['studies']} studies, {each['slices']} slices ({each['positive_slices']} with "
        "embolism)"
        for name, each in splits.items()
    ]
