"""A detector of lungs, a classifier and a segmentation, joined by a step of a recipe."""

import json
import shutil

import numpy as np
import pytest
from studies import write_volume_checkpoint
from tiny_run import small_settings

from pe_unified.engine import ConfigError
from pe_unified.engine.config import load_config
from pe_unified.engine.ensemble import EnsembleList, MemberEntry, make_ensemble, marks_on
from pe_unified.engine.study_choices import StudyChoices
from pe_unified.engine.study_test import evaluate_studies, measure_lesions
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.lesion_fusion import ANSWERS
from pe_unified.inference.converted import exams_of_split, whole_exams
from pe_unified.inference.exam_readings import read_exams
from pe_unified.inference.lesion_marks import read_marks
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import PredictorSettings, StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.stored_model import digest_of
from pe_unified.inference.survey import survey
from pe_unified.inference.volumes import load_volume_model, predict_study
from pe_unified.recipes import load_recipe, run_recipe
from pe_unified.recipes.preflight import require_comparison, require_members
from pe_unified.registry import DATASETS
from pe_unified.reports.analysis import AnalysisOptions, analyse_study

pytestmark = pytest.mark.usefixtures("unrendered", "without_dicom")

_RECIPE = """
_base_ = "{configs}/demo/cascade.py"
settings = {settings!r}
step_settings = dict(
    _delete_=True,
    lungs=dict(model={thin!r}),
    cls=dict(model={cls!r}),
    seg_r50=dict(model={seg!r}),
)
steps = [
    dict(name="lungs", config="{configs}/cascade/lung_detector.py"),
    dict(name="cls", config="{configs}/pe_cls_r50.py"),
    dict(name="seg_r50", config="{configs}/pe_seg_r50.py", lesions=True),
    dict(
        name="together",
        config="{configs}/pe_cls_seg_r50.py",
        ensemble=dict(members=dict(cls=1.0, seg_r50=2.0), lungs="lungs", fuse=True),
    ),
]
comparisons = [("seg/dice", "seg_r50", "together")]
"""


@pytest.fixture(scope="module")
def recipe(repository, tmp_path_factory):
    settings = {key: value for key, value in small_settings().items() if key != "model"}
    settings |= {"max_iters": 2, "input_size": 64, "windows": ["lung", "pe", "mediastinal"]}
    thin = dict(
        backbone=dict(deepen_factor=0.1, widen_factor=0.125),
        neck=dict(in_channels=[32, 64, 128], out_channels=32),
        bbox_head=dict(in_channels=32, feat_channels=32),
    )
    parts = {name: small_settings(name)["model"] for name in ("cls", "seg")}
    path = tmp_path_factory.mktemp("recipe") / "recipe.py"
    configs = repository / "configs"
    path.write_text(_RECIPE.format(configs=configs, settings=settings, thin=thin, **parts))
    return path


@pytest.fixture(scope="module")
def run(recipe, painted_in_three, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return work, run_recipe(recipe, work, data_root=str(painted_in_three), report=lambda _: None)


@pytest.fixture(scope="module")
def painted_in_three(tmp_path_factory):
    from pe_unified.converters.pipeline.run import RunOptions, convert
    from pe_unified.converters.raw.fumpe import Fumpe
    from pe_unified.phantom.command import write_layout

    root = tmp_path_factory.mktemp("painted")
    write_layout(root / "raw", "fumpe", 3, seed=5, size=64, slices=32)
    convert(Fumpe(root / "raw"), root / "set", RunOptions(quiet=True, split=(0.34, 0.33, 0.33)))
    return root / "set"


def split(root, name):
    return dict(type="PESliceDataset", data_root=str(root), ann_file=f"annotations/{name}.json")


def test_the_joined_step_is_tested_by_slices_and_lesions(run):
    work, summary = run
    record = summary["steps"][-1]
    assert record["checkpoint"] == "together/ensemble.pth" and record["iterations"] == 0
    assert [(each["module"], each["from"]) for each in record["reused"]] == [
        ("member cls", "cls"),
        ("member seg_r50", "seg_r50"),
        ("lungs", "lungs"),
    ]
    metrics = record["metrics"]
    for key in (
        "cls/auc",
        "seg/dice",
        "findings/mean_sensitivity",
        "findings_plain/mean_sensitivity",
    ):
        assert key in metrics and f"{key}_ci" in metrics
    assert "lung_box/embolus_share" in summary["steps"][0]["metrics"]
    assert summary["comparisons"][0]["reused"] == "together"
    assert "lesion FROC" in (work / "summary.md").read_text()
    stored = json.loads((work / "together/metrics.json").read_text())
    assert stored["thresholds"].keys() >= {"cls/threshold", "seg/threshold"}
    assert summary["steps"][0].keys() >= {"parameters"}


def test_a_step_is_tested_by_lesions_where_it_says_so(run, recipe):
    _, summary = run
    metrics = {record["name"]: record["metrics"] for record in summary["steps"]}
    assert "findings/mean_sensitivity" in metrics["seg_r50"]
    assert "findings/mean_sensitivity" not in metrics["cls"]
    steps = load_recipe(recipe).steps
    configs = {step.name: load_config(step.config) for step in steps}
    lesions = ("findings/f1", "seg_r50", "together")
    require_comparison(lesions, configs, ["seg_r50", "together"])


@pytest.mark.slow
def test_a_step_is_tested_by_lesions_from_now_on_without_training_again(
    run, recipe, painted_in_three, tmp_path
):
    work, told = tmp_path / "work", []
    shutil.copytree(run[0], work)
    result = work / "seg_r50/metrics.json"
    stored = json.loads(result.read_text())
    assert stored["record"]["lesions"]
    stored["record"]["lesions"] = False
    result.write_text(json.dumps(stored))
    weights = (work / "seg_r50/iter_2.pth").read_bytes()
    again = run_recipe(recipe, work, data_root=str(painted_in_three), report=told.append)
    kept = [line.partition(":")[0] for line in told if "finished before" in line]
    assert [name.partition(" ")[2] for name in kept] == ["lungs", "cls", "together"]
    assert (work / "seg_r50/iter_2.pth").read_bytes() == weights
    metrics = [each["steps"][2]["metrics"] for each in (run[1], again)]
    assert metrics[0].keys() == metrics[1].keys()
    assert metrics[0]["seg/dice"] == metrics[1]["seg/dice"]


def test_marks_of_a_model_of_volumes_join_the_lesions(run, painted_in_three, tmp_path, monkeypatch):
    volumes = write_volume_checkpoint(tmp_path / "volumes.pth")
    val, test = (split(painted_in_three, name) for name in ("val", "test"))
    (exam,) = exams_of_split(test)
    marks = marks_on(test, volumes=str(volumes))
    model = load_volume_model(volumes)
    assert marks == {exam.study.series_uid: predict_study(model, exam.study).lesion_marks()}
    given = []
    monkeypatch.setattr(
        "pe_unified.engine.ensemble.choose_on_exams",
        lambda model, dataset, fuse, marks: given.append(marks) or StudyChoices({}),
    )
    member = MemberEntry(str(run[0] / "seg_r50/iter_2.pth"), "seg_r50")
    out = tmp_path / "e.pth"
    make_ensemble(EnsembleList([member], volumes=str(volumes)), val, out)
    assert given == [marks_on(val, volumes=str(volumes))] and all(given[0].values())
    predictor = StudyPredictor(load_model(out, device="cpu", precision="fp32"))
    assert predictor.volume_model.lineage["checkpoint"] == "volumes.pth"
    study = painted_in_three.parent / "raw/CT_scans/PAT001"
    report = analyse_study(study, tmp_path / "report", predictor)
    assert report["model"]["volume_model"]["sha256"] == digest_of(volumes)
    file = tmp_path / "marks.csv"
    file.write_text("id,x,y,z,prob\n1.2.3,0,0,0,0.5\n")
    options = AnalysisOptions(marks=file)
    report = analyse_study(study, tmp_path / "by_file", predictor, options)
    assert report["model"]["volume_model"] is None, "marks of a file replace its own"
    own, given = evaluate_studies(out, test), evaluate_studies(out, test, marks=marks)
    assert repr(own.metrics) == repr(given.metrics)
    own, bare = (each.tables["findings_plain"] for each in (own, measure_lesions(predictor, test)))
    assert len(own.false_confidence) > len(bare.false_confidence)
    with pytest.raises(ConfigError, match=r"either the marks m\.csv or the model"):
        marks_on(test, "m.csv", str(volumes))
    place = ANSWERS.index("mark")
    for own, joined in ((marks, True), (None, False)):
        (reading,) = read_exams(predictor, [exam], "reading", own)
        assert np.isfinite(reading.answers[:, place]).any() == joined


def test_an_ensemble_made_with_a_file_of_marks_needs_marks(
    run, painted_in_three, tmp_path, monkeypatch
):
    val, test = (split(painted_in_three, name) for name in ("val", "test"))
    file = tmp_path / "marks.csv"
    file.write_text("id,x,y,z,prob\n1.2.3,0,0,0,0.5\n")
    monkeypatch.setattr(
        "pe_unified.engine.ensemble.choose_on_exams", lambda *given: StudyChoices({})
    )
    member = MemberEntry(str(run[0] / "seg_r50/iter_2.pth"), "seg_r50")
    out = tmp_path / "e.pth"
    make_ensemble(EnsembleList([member], marks=str(file)), val, out)
    with pytest.raises(CheckpointError, match=r"e\.pth: its thresholds were set with marks"):
        evaluate_studies(out, test)
    evaluate_studies(out, test, marks=read_marks(file))
    settings = PredictorSettings(str(out), device="cpu", precision="fp32")
    with pytest.raises(CheckpointError, match=r"e\.pth: its thresholds were set with marks"):
        settings.predictor()
    study = painted_in_three.parent / "raw/CT_scans/PAT001"
    options = AnalysisOptions(marks=file)
    report = analyse_study(study, tmp_path / "report", settings.predictor(marks=True), options)
    assert report["model"]["volume_model"] is None
    blind = EnsembleList([MemberEntry(str(run[0] / "cls/iter_2.pth"))], marks=str(file))
    with pytest.raises(ConfigError, match="no member looks for lesions"):
        make_ensemble(blind, val, tmp_path / "blind.pth")


def test_its_file_finds_lungs_and_lesions(run, painted_in_three):
    """The crop is that of the detector's boxes, at the set's threshold."""
    model = load_model(run[0] / "together/ensemble.pth", device="cpu", precision="fp32")
    assert [(each.name, each.weight) for each in model.members] == [("cls", 1.0), ("seg_r50", 2.0)]
    predictor = StudyPredictor(model)
    assert predictor.lungs is model.lungs is not None
    dataset = dict(
        type="PESliceDataset",
        data_root=str(painted_in_three),
        ann_file="annotations/test.json",
        test_mode=True,
    )
    exam = whole_exams(DATASETS.build(dataset))[0]
    reader = SliceReader(exam.study)
    looked = survey(reader, finder=predictor.lungs)
    assert looked.source == "detector" and looked.lungs is not None
    assert predictor.predict(reader, looked)


def test_a_finished_step_is_kept_until_what_it_joins_changes(run, recipe, painted_in_three):
    work, _ = run
    told = []
    run_recipe(recipe, work, data_root=str(painted_in_three), report=told.append)
    assert [line for line in told if "finished before" not in line] == []
    other = recipe.with_name("other.py")
    other.write_text(recipe.read_text().replace("seg_r50=2.0", "seg_r50=3.0"))
    with pytest.raises(ConfigError, match="together was started with other settings"):
        run_recipe(other, work, data_root=str(painted_in_three), report=told.append)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("seg_r50=2.0", "seg_swin=2.0", "step together names seg_swin"),
        ('lungs="lungs"', 'lung="lungs"', "unexpected keyword argument 'lung'"),
    ],
)
def test_what_is_misspelt_is_told(recipe, old, new, fault):
    other = recipe.with_name("misspelt.py")
    other.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=fault):
        load_recipe(other)


def test_only_models_of_slices_are_joined_and_only_lesions_of_ensembles_compared(recipe):
    steps = {step.name: step for step in load_recipe(recipe).steps}
    configs = {name: load_config(step.config) for name, step in steps.items()}
    require_members(steps["together"], configs)
    swapped = {**configs, "lungs": configs["cls"]}
    with pytest.raises(ConfigError, match="takes lungs as lungs, which is a PEUnified"):
        require_members(steps["together"], swapped)
    lesions = ("findings/mean_sensitivity", "together", "together")
    require_comparison(lesions, configs, ["together"])
    with pytest.raises(ConfigError, match="whose test measures no findings"):
        require_comparison(lesions, configs)
