import pytest
from tiny_run import small_config

from pe_unified.engine import PERunner
from pe_unified.engine.publish import exam_threshold, publish
from pe_unified.evaluation import as_json
from pe_unified.inference.model import load_model
from pe_unified.models.weights import load_checkpoint_safely


def test_a_published_model_has_every_threshold_and_nothing_to_spare(
    repository, tiny_dataset, tmp_path
):
    cfg = small_config(repository, tiny_dataset, tmp_path / "run", max_iters=2)
    PERunner.from_cfg(cfg).train()
    trained = tmp_path / "run/iter_2.pth"
    cfg.work_dir = str(tmp_path / "publish")
    validated = publish(cfg, trained, tmp_path / "model.pth")
    stored = load_checkpoint_safely(tmp_path / "model.pth")
    assert set(stored) == {"meta", "state_dict"}
    assert as_json(stored["meta"]["validated"]) == as_json(validated)
    assert stored["meta"]["iter"] == 2
    assert str(tmp_path) not in str(stored["meta"]) and str(tiny_dataset) not in str(stored["meta"])
    assert (tmp_path / "model.pth").stat().st_size < trained.stat().st_size / 2
    thresholds = load_model(tmp_path / "model.pth").thresholds
    assert None not in (thresholds.slice, thresholds.pixel, thresholds.box, thresholds.gate)
    assert thresholds.exam is None  # every patient of the set is positive
    assert thresholds.gate <= thresholds.slice


def test_the_exam_threshold_parts_the_exams():
    def study(label, score):
        return [(k, score if k == 2 else 0.1, 6.0, int(label and k == 2)) for k in (3, 1, 2)]

    studies = {"a": study(1, 0.9), "b": study(1, 0.7), "c": study(0, 0.3), "d": study(0, 0.2)}
    assert exam_threshold(studies) == pytest.approx(0.5)
    assert exam_threshold({"a": studies["a"]}) is None
    assert exam_threshold({}) is None
    unknown = [(0, 0.99, 6.0, None), (1, 0.1, 6.0, 0)]
    assert exam_threshold({**studies, "e": unknown}) == pytest.approx(0.5)
