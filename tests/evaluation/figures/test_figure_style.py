"""What all figures share: a footer, and a file that is whole or not there."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.evaluation.figures.style import footer, new_figure


def test_footer_says_the_research_line_once():
    for note in ("Synthetic data", "Synthetic data.", f"Synthetic data. {RESEARCH_LINE}."):
        assert footer(note) == f"Synthetic data. {RESEARCH_LINE}."
    assert footer("") == footer(f"{RESEARCH_LINE}.") == f"{RESEARCH_LINE}."


def test_a_long_footer_is_seen_to_its_end(tmp_path, monkeypatch):
    save = Figure.savefig

    def within(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        (said,) = figure.texts
        drawn = FigureCanvasAgg(figure).get_renderer()
        box, (axes,) = said.get_window_extent(drawn), figure.axes
        assert said.get_text().endswith("medical device.")
        assert 0 <= box.x0 < box.x1 < figure.bbox.x1
        assert 0 <= box.y0 < box.y1 < axes.get_window_extent(drawn).y0

    monkeypatch.setattr(Figure, "savefig", within)
    for width in (2.4, 4.6, 11.0):
        with new_figure(
            tmp_path / "long.png", width, 2.0, "Seed 0 of 3. " + "WIDE words " * 12
        ) as f:
            f.add_subplot().set_axis_off()
    assert (tmp_path / "long.png").is_file()


def test_a_figure_that_fails_leaves_nothing(tmp_path):
    with (
        pytest.raises(RuntimeError),
        new_figure(tmp_path / "broken.png", 3, 3) as figure,
    ):
        figure.add_subplot()
        raise RuntimeError("while drawing")
    assert not list(tmp_path.iterdir())
