import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_sets import rsna_row, write_csv

from pe_unified.converters.raw.rsna_jpeg import windows_to_hu
from pe_unified.converters.raw.rsna_subset import Subset, choose_slices, choose_studies
from pe_unified.converters.raw.rsna_table import LabelTable, SliceRow, StudyCounts
from pe_unified.ct.windows import window_to_uint8

counts = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.tuples(st.integers(0, 30), st.integers(0, 60)).filter(any),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150)
@given(
    counts,
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(1, 25),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_the_choice_has_what_was_asked_for(available, positives, negatives, cap, share, seed):
    studies = {
        name: StudyCounts([], positives=p, negatives=n) for name, (p, n) in available.items()
    }
    subset = Subset(positives, negatives, cap, share, seed)
    chosen, problems = choose_studies(studies, subset)
    for name, (p, n) in chosen.items():
        assert 0 <= p <= studies[name].positives and 0 <= n <= studies[name].negatives and p + n
    all_p = sum(p for p, _ in available.values())
    all_n = sum(n for _, n in available.values())
    assert sum(p for p, _ in chosen.values()) == min(positives, all_p)
    assert sum(n for _, n in chosen.values()) == min(negatives, all_n)
    assert len(problems) == (positives > all_p) + (negatives > all_n)
    # Order of the csv does not matter.
    again, _ = choose_studies(dict(reversed(studies.items())), subset)
    assert again == chosen


def test_the_cap_spreads_the_choice_over_studies():
    studies = {f"p{k}": StudyCounts([], positives=40, negatives=200) for k in range(50)}
    studies |= {f"n{k}": StudyCounts([], negatives=200) for k in range(100)}
    chosen, _ = choose_studies(studies, Subset(450, 750, per_study=15))
    assert sum(p > 0 for p, _ in chosen.values()) == 30
    assert max(max(pair) for pair in chosen.values()) == 15
    hard = sum(n for name, (_, n) in chosen.items() if name.startswith("p"))
    assert hard == 300  # the share of 0.4
    # The negatives of positive studies come from studies that are used anyway.
    assert all(p for name, (p, n) in chosen.items() if name.startswith("p") and n)


def test_slices_are_drawn_by_seed_and_keep_their_order():
    rows = [SliceRow("s", f"{k}", int(k % 3 == 0)) for k in range(60)]
    first = choose_slices(rows, 5, 7, seed=0)
    assert [row.label for row in first].count(1) == 5 and len(first) == 12
    assert first == [row for row in rows if row in first]
    assert first != choose_slices(rows, 5, 7, seed=1)
    larger = choose_slices(rows, 6, 9, seed=0)
    assert set(first) <= set(larger)


@pytest.mark.slow
def test_a_large_csv_is_not_held_in_memory(tmp_path):
    """Rows go to disk; what stays is one entry per study."""
    import tracemalloc

    rows = [rsna_row(f"st{k // 250}", f"sop-{k:032d}", k % 2, True) for k in range(100_000)]
    path = write_csv(tmp_path / "train.csv", rows)
    del rows
    tracemalloc.start()
    table = LabelTable(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table.studies) == 400 and len(table.slices("st7")) == 250
    assert table.studies["st7"].positives == 125
    assert peak < path.stat().st_size * 3  # one batch of 20,000 rows, a fifth of them


def test_rows_in_other_encodings(tmp_path):
    path = write_csv(tmp_path / "train.csv", [rsna_row("st", "a", 1, True)])
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    table = LabelTable(path)
    assert table.problems == [] and [row.sop_uid for row in table.slices("st")] == ["a"]
    path.write_bytes(text.encode() + b"st,\xff\xfe\x00,b,1\n" + text.encode().splitlines()[1])
    table = LabelTable(path)
    assert len(table.problems) == 1 and "line 3" in table.problems[0]


def test_many_bad_rows_are_counted(tmp_path):
    rows = [rsna_row("st", "a", 1, True)] + [["x"]] * 80
    table = LabelTable(write_csv(tmp_path / "train.csv", rows))
    assert len(table.problems) == 51
    assert "30 more rows" in table.problems[-1]


def encode(hu):
    """The three windows, without JPEG."""
    channels = [window_to_uint8(hu, name) for name in ("lung", "pe", "mediastinal")]
    return np.stack(channels, axis=-1)


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_windows_back_to_hu_within_a_grey_level(seed):
    hu = np.random.default_rng(seed).uniform(-1350, 434, (16, 16))
    error = np.abs(windows_to_hu(encode(hu)) - hu)
    step = (
        np.where((hu > -150) & (hu < 228), 400, np.where((hu > -234) & (hu < 434), 700, 1500)) / 255
    )
    assert (error <= step / 2 + 0.51).all()


@pytest.mark.parametrize(
    ("hu", "expected"), [(-2000, -1350), (-1350, -1350), (450, 450), (3000, 450)]
)
def test_beyond_the_windows(hu, expected):
    assert windows_to_hu(encode(np.full((2, 2), float(hu))))[0, 0] == expected
