"""What the figures say."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """Every text of the figures that are written, in no order."""
    seen: list[str] = []
    save = Figure.savefig

    def spy(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
        seen.extend(artist.get_text() for artist in found)

    monkeypatch.setattr(Figure, "savefig", spy)
    return seen
