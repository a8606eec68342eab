"""Cards say what is known, call the rest unknown, and name nobody."""

import json

import pytest
import torch
from tiny_dataset import write_tiny_dataset

from pe_unified.cards.card import make_card
from pe_unified.cards.checklists import CLAIM_2024, TRIPOD_AI
from pe_unified.cards.data import describe_data
from pe_unified.cards.markdown import card_markdown
from pe_unified.cards.reporting import BLANK, known_answers, reporting_page
from pe_unified.cli import card as card_command

TRAINED_ON = {
    "set": "fumpe",
    "source": "doi 10.1",
    "licence": "CC BY 4.0",
    "patients": 4,
    "slices": 24,
    "synthetic": False,
    "studies": ["a", "b", "c", "d", "e"],
    "step": None,
}


def stored(**meta):
    cfg = {
        "model": {
            "type": "PEUnified",
            "backbone": {"type": "PEResNet", "depth": 18},
            "cls_head": {},
        },
        "input_size": 64,
    }
    cfg["model"]["cls_head"] = {"type": "PEClsHead"}
    kept = {"pe_unified": "0.1.0", "iter": 7, "cfg": cfg, "trained_on": [TRAINED_ON], **meta}
    return {"meta": kept, "state_dict": {"backbone.w": torch.zeros(3, 5)}}


def result(**more):
    metrics = {"cls/auc": 0.8, "cls/auc_ci": [0.7, 0.9]}
    return {
        **dict(patients=9, metrics=metrics, thresholds={}, warnings=[], subgroups=[]),
        **more,
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = write_tiny_dataset(tmp_path_factory.mktemp("cards") / "set", size=16)
    entries = [{"patient_id": f"p{k}", "status": "converted", "reason": None} for k in range(9)]
    reason = "the scan 'Meyer, Anna/IM_1' has 3 gaps in series 1.2.840.55"
    entries += [{"patient_id": "Meyer", "status": "skipped", "reason": reason}] * 2
    (root / "conversion_report.json").write_text(json.dumps({"patients": entries}))
    return describe_data(root)


def test_a_set_in_numbers(data):
    assert list(data["splits"]) == ["train", "val", "test"]
    train = data["splits"]["train"]
    assert (train["patients"], train["studies"], train["slices"]) == (4, 4, 24)
    assert (train["positive_patients"], train["positive_slices"]) == (4, 12)
    assert train["spacing_mm"] == [1.0, 1.0, 1.0] and train["unlabelled_slices"] == 0


def test_exclusions_are_counted_and_name_nobody(data):
    assert data["exclusions"]["patients"] == 11 and data["exclusions"]["converted"] == 9
    assert data["exclusions"]["reasons"] == {"the scan '...' has 3 gaps in series ...": 2}


def test_a_set_without_a_report_says_so(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", size=16, slices=2)
    assert describe_data(root)["exclusions"] is None
    with pytest.raises(FileNotFoundError, match="convert a data set first"):
        describe_data(tmp_path)


def test_what_nobody_tested_is_called_so():
    untested = make_card("m", stored())
    assert "Not tested by its publisher" in untested["summary"]
    assert any("no test of this file" in each for each in untested["not_tested"])
    assert any("no threshold" in each for each in untested["not_tested"])
    group = {"by": "distance between slices", "group": "up to 1 mm", "patients": 9, "metrics": {}}
    fixed = stored(validated={"exam/threshold": 0.5})
    card = make_card("m", fixed, None, result(subgroups=[group]))
    said = " ".join(card["not_tested"])
    assert "distance" not in said and "opacification" in said and "no threshold" not in said
    assert "Test on 9 patients: slice AUC 0.800 [0.70, 0.90]." in card["summary"]
    json.dumps(card, allow_nan=False)


def test_where_it_comes_from(data):
    card = make_card("m", stored(parents=[{"module": "backbone", "from": "s1"}]), data, result())
    assert card["trained_on"][0]["licence"] == "CC BY 4.0" and card["trained_on"][0]["studies"] == 5
    assert card["model"]["parameters"] == 15 and card["model"]["answers"] == ["cls"]
    text = card_markdown(card)
    for said in (
        "Research software, not a medical device",
        "| fumpe | doi 10.1 | CC BY 4.0 | 4 | 5 | 24 |",
        "train: 4 patients (4 with embolism), 4 studies, 24 slices (12 with embolism)",
        "2 of 11 patients could not be converted",
        "| Slice AUC | 0.800 [0.70, 0.90] |",
        "started from: backbone of s1",
    ):
        assert said in text, said
    assert text.count("not a medical device") == 1 and "Meyer" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "answers: whether a slice shows embolism"),
        ({"val_dataloader": {"dataset": {"label": "lung"}}}, "answers: whether a slice shows lung"),
        ({"model": {"type": "LungDetector"}}, "answers: boxes around the lungs"),
    ],
)
def test_what_a_model_answers(change, said):
    kept = stored()
    kept["meta"]["cfg"] |= change
    assert said in card_markdown(make_card("m", kept))


def test_a_set_stands_in_the_card_once():
    steps = [{**TRAINED_ON, "step": step} for step in ("s9_unified", "s1_cls", "s5_seg")]
    card = make_card("m", stored(trained_on=steps))
    assert card["summary"].count("fumpe") == 1 and len(card["trained_on"]) == 1
    text = card_markdown(card)
    assert "| fumpe | doi 10.1 | CC BY 4.0 | 4 | 5 | 24 | s9_unified, s1_cls, s5_seg |" in text


def test_the_command_prints_it(called, tmp_path):
    file = tmp_path / "model.pth"
    torch.save(stored(card=make_card("mine", stored())), file)
    done = called(card_command.main, "card", file)
    assert done.returncode == 0 and done.stdout.startswith("# mine\n")
    assert json.loads(called(card_command.main, "card", file, "--json").stdout)["name"] == "mine"
    torch.save(stored(), file)
    done = called(card_command.main, "card", file)
    assert done.returncode == 1 and "has no card" in done.stderr


def test_checklists_have_all_items_in_order():
    assert [item.number for item in CLAIM_2024] == [str(number) for number in range(1, 45)]
    numbers = [item.number for item in TRIPOD_AI]
    assert len(set(numbers)) == 52
    wanted = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef"}
    wanted |= {20: "abc", 23: "ab", 27: "abc"}
    assert numbers == [
        f"{k}{letter}".strip() for k in range(1, 28) for letter in wanted.get(k, " ")
    ]


def test_every_answer_of_an_item_is_one_that_is_known(data):
    answers = known_answers(make_card("m", stored(), data, result()), {})
    named = {item.answer for item in (*CLAIM_2024, *TRIPOD_AI) if item.answer}
    assert named <= answers.keys()


def test_blanks_are_called_blanks(data):
    flows = {"train": {"exams": 5, "kept": 4, "left_out": [{"reason": "no slices"}], "notes": []}}
    page = reporting_page(make_card("m", stored(), data, result()), {}, flows)
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    assert BLANK in rows["| 44"] and BLANK in rows["| 18a"]
    assert "Slice AUC 0.800" in rows["| 37"] and BLANK not in rows["| 37"]
    assert "- train, 1: no slices" in page and "train: 5 exams, 1 left out, 4 used" in page
    untested = reporting_page(make_card("m", stored()), {})
    rows = {line.split(" | ")[0]: line for line in untested.splitlines() if line.startswith("| ")}
    assert all(BLANK in rows[f"| {number}"] for number in (29, 30, 33, 35, 37, 38))


def external(data, *sets):
    told = [dict(zip(("set", "source"), each)) for each in sets]
    test = {**data["splits"]["test"], "sets": told}
    own = {**data, "splits": {**data["splits"], "test": test}}
    return known_answers(make_card("m", stored(), own, result()), {})["external"]


def test_a_test_set_that_the_model_learned_from_is_not_external(data):
    assert external(data, ("fumpe", "doi 10.1")).startswith("No external data")
    assert external(data, ("read", "doi 10.2")).startswith("The test set, read, is not among")
    assert external(data, (None, None)) == ""
    # A merged set calls its parts by their folders, and may hold others.
    part = external(data, ("fumpe_v2", "doi 10.1"), ("read", None))
    assert part.startswith("No external data") and part.endswith("read alone would be external")


def test_a_merged_set_tells_whose_its_test_patients_are(tmp_path):
    root = write_tiny_dataset(tmp_path / "set", size=16, slices=2)
    path = root / "annotations/test.json"
    coco = json.loads(path.read_text())
    coco["info"] |= {"converter": "merge", "sets": {"a": {"source": "x"}, "b": {"source": "y"}}}
    for image in coco["images"]:
        image["set"] = "b"
    path.write_text(json.dumps(coco))
    assert describe_data(root)["splits"]["test"]["sets"] == [{"set": "b", "source": "y"}]


def test_the_checklists_tell_what_validation_fixed():
    sampler = {"train_dataloader": {"sampler": {"type": "ClassBalancedSampler"}}}
    default = {"cls/threshold": 0.5, "cls/threshold_by_default": 1.0}
    answers = known_answers(make_card("m", stored(validated=default)), sampler)
    assert "cls/threshold: 0.5000 by default, because the split cannot" in answers["output"]
    for key in ("output", "imbalance"):
        assert "; scores are not calibrated" in answers[key]
    fitted = {"exam/threshold": 0.4, "exam/calibration_slope": 0.8}
    answers = known_answers(make_card("m", stored(validated=fitted)), sampler)
    assert "by default" not in answers["output"]
    for key in ("output", "imbalance"):
        assert "; the probability that the exam is positive is calibrated" in answers[key]


@pytest.mark.parametrize(
    ("parents", "pretrained", "said"),
    [
        ([], "torchvision://resnet50", "Image network from torchvision://resnet50; others"),
        ([], None, "At random"),
        (["seg_head.decoder"], "ImageNet", "of s1; image network from ImageNet; others at random"),
        (["backbone"], "ImageNet", "Weights reused: backbone of s1; others at random"),
    ],
)
def test_where_the_weights_begin(data, parents, pretrained, said):
    kept = stored(parents=[{"module": each, "from": "s1"} for each in parents])
    kept["meta"]["cfg"]["pretrained"] = pretrained
    assert said in known_answers(make_card("m", kept, data), {})["start"]
