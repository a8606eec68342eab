"""Tables as hospitals export them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.csv_files import csv_text, number_in, read_csv
from pe_unified.errors import DataError

ROWS = [(2, {"study": "Müller", "dose": "12,5"}), (4, {"study": "Ö 2", "dose": ""})]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffStudy;Dose\r\nMüller;12,5\r\n;\r\nÖ 2;\r\n".encode(),
        "Study;Dose\nMüller;12,5\n\nÖ 2;;;\n".encode("cp1252"),
        'Study\tDose\n"Müller"\t12,5\n\t\nÖ 2\t\n'.encode("utf-16"),
        'Study,Dose\nMüller,"12,5"\n,\nÖ 2\n'.encode(),
        "STUDY | dose\nMüller | 12,5\n\nÖ 2|\n".encode(),
    ],
)
def test_separators_and_encodings(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    table = read_csv(path)
    assert table.columns == ("study", "dose") and list(table.rows) == ROWS


def test_the_line_that_excel_writes_is_no_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\nStudy UID;pe-present\n1.2;ja\n")
    table = read_csv(path)
    assert table.columns == ("study_uid", "pe_present") and table.rows[0][0] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty table"),
        ("a,b\n1,2,3\n", "line 2 has 3 fields, the first line 2"),
        ("A,a\n1,2\n", "two columns are named a"),
    ],
)
def test_what_is_no_table(tmp_path, text, said):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_csv(path)
    path.write_bytes(b"\xff\xfea")  # half a letter of UTF-16
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_csv(path)
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read .*; check the path"):
        read_csv(tmp_path / "absent.csv")


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@settings(max_examples=25)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=6))
def test_what_is_written_is_read(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    rows = [{"one": a, "two": b} for a, b in cells]
    path.write_text(csv_text(["one", "two"], rows), encoding="utf-8", newline="")
    found = [dict(values) for _, values in read_csv(path).rows]
    # An apostrophe keeps a spreadsheet from running a cell.
    assert [[v.lstrip("'") for v in r.values()] for r in found] == [
        [v.lstrip("'") for v in r.values()] for r in rows
    ]


def test_numbers_with_a_comma():
    assert number_in("12,5") == number_in("12.5") == 12.5
    for text in ("nan", "inf", "1,2,3", ""):
        with pytest.raises(ValueError):
            number_in(text)
