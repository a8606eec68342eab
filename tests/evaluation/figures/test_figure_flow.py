"""The flow of exams."""

import pytest
from figure_samples import assert_picture
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pe_unified.evaluation import figures


def a_flow(reasons: dict[str, int], exams: int = 1000, **changes) -> dict:
    left = [
        dict(study_uid=f"{reason} {number}", patient_id="P", reason=reason)
        for reason, count in reasons.items()
        for number in range(count)
    ]
    kept = exams - len(left)
    flow = dict(file="/somewhere/annotations/fold0_train.json", exams=exams, left_out=left)
    classes = dict(positive=kept // 4, negative=kept - kept // 4, undecided=0)
    return {**flow, "notes": [], "kept": kept, **classes, **changes}


def test_the_flow_of_exams_counts_what_is_left_out_by_its_reason(tmp_path, texts):
    doubt = dict(patient_id="P", reason="2 series, of which the longest is used")
    notes = [{**doubt, "study_uid": study} for study in ("1", "1", "2", "no slices 3")]
    flows = {
        "train": a_flow({"no slices": 4, "no label of the exam is known": 196}, notes=notes),
        "test": a_flow({}, exams=1, positive=0, negative=0, undecided=1),
    }
    figures.flow_figure(flows, tmp_path / "flow.png", "RSNA-STR PE")
    assert_picture(tmp_path / "flow.png")
    assert {
        *("Training", "1,000 exams in fold0_train.json", "800 exams used", "200 exams left out"),
        *("196: no label of the exam is", "    known", "4: no slices", "200 (25 %)", "600 (75 %)"),
        *("2 of them with a note", "Test", "1 exam used", "0 exams left out", "1 (100 %)"),
    } <= set(texts)
    order = [text for text in texts if text.startswith(("196: ", "4: "))]
    assert order == ["196: no label of the exam is", "4: no slices"]
    assert any(text.startswith("RSNA-STR PE. Undecided: indeterminate") for text in texts)
    with pytest.raises(ValueError, match="no split"):
        figures.flow_figure({}, tmp_path / "none.png")


def test_boxes_of_a_flow_hold_their_text_and_lie_apart(tmp_path, monkeypatch):
    save = Figure.savefig

    def within(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        (axes,), drawn = figure.axes, FigureCanvasAgg(figure).get_renderer()
        boxes = [patch.get_window_extent(drawn) for patch in axes.patches]
        assert len(boxes) == 6 * 3
        for number, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert not any(box.overlaps(other) for other in boxes[:number])
        for text in axes.texts:
            if text.get_text():
                seen = text.get_window_extent(drawn)
                assert any(
                    box.x0 < seen.x0 < seen.x1 < box.x1 and box.y0 < seen.y0 < seen.y1 < box.y1
                    for box in boxes
                ), text.get_text()

    monkeypatch.setattr(Figure, "savefig", within)
    many = {"no slices": 3, "no label of the exam is known": 40, "a reason of many words " * 4: 9}
    flows = {"train": a_flow({**many, "skipped by every=2": 900}, exams=123_456)}
    flows |= {"val": a_flow({}), "test": a_flow({"indeterminate": 1})}
    figures.flow_figure(flows, tmp_path / "flow.png")
    assert (tmp_path / "flow.png").is_file()
