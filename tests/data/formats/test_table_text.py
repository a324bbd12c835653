"""Text tables in the encodings and dialects that programs write: cells are what stands there, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from robust_transfer.data.formats.table_text import header_of, read_text_table
from robust_transfer.errors import DataError

CSV = Path("labels.csv")
EXPECTED = {"image": ["a.png", "b, c.png"], "label": ["NA", "caf\u00e9"]}
TEXT = 'image,label\na.png,NA\n"b, c.png",caf\u00e9\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(encoding: str, end: str) -> None:
    assert read_text_table(TEXT.replace("\n", end).encode(encoding), CSV) == EXPECTED


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".CSV"])
def test_separators_of_csv_are_told_by_the_header(separator: str, suffix: str) -> None:
    text = f'image{separator}label\na.png{separator}"x,y;z"\n'
    assert read_text_table(text.encode(), Path(f"t{suffix}")) == {"image": ["a.png"], "label": ["x,y;z"]}


def test_the_separator_that_gives_a_column_of_paths_is_taken() -> None:
    assert read_text_table(b"file name;kind, age, size\n1.png;cat, 2, 3\n", CSV) == {
        "file name": ["1.png"],
        "kind, age, size": ["cat, 2, 3"],
    }


def test_quotes_lines_within_cells_and_empty_lines() -> None:
    text = 'path,label\n"a ""b"".png","one\ntwo"\n\n c.png ,""\n'
    assert read_text_table(text.encode(), CSV) == {"path": ['a "b".png', " c.png "], "label": ["one\ntwo", ""]}


@pytest.mark.parametrize("cell", ["NA", "nan", "None", "null", "", "1e5", "007", "2024-01-01", "TRUE"])
def test_no_cell_is_taken_for_anything_else(cell: str) -> None:
    assert read_text_table(f"image,label\na.png,{cell}\n".encode(), CSV)["label"] == [cell]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "image,label\na.png,caf\u00e9\n".encode("latin-1"),
            r"labels.csv is not UTF-8 \(in line 2\): save it",
        ),
        (b"image,label\n\0\n", "holds zero bytes, so it is no text"),
        (b"", "is empty, or its header cannot be read"),
        (b"0.png,cat\n1.png,dog\n", "has no header, its first line holds '0.png': name the columns in a line above it"),
        (b"image,label,label\na.png,1,2\n", "has the column 'label' twice"),
        (b"image,label\na.png,cat\nb.png,dog,3\n", "line 3 of labels.csv has 3 cells and not 2, as the header has"),
        (b"image,label\na.png\n", "line 2 of labels.csv has 1 cell and not 2"),
        (b'image,label\n"a.png,cat\nb.png,dog\n', "line 3 of labels.csv cannot be read"),
        (b'image,label\n"a".png,cat\n', "line 2 of labels.csv cannot be read"),
    ],
)
def test_what_is_no_table_is_told_by_its_line(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_text_table(content, CSV)


def test_json_lines_keep_their_types() -> None:
    text = '{"file_name": "a.png", "label": 3}\n\n{"label": null, "file_name": "2024-01-01", "more": [1]}\r\n'
    assert read_text_table(b"\xef\xbb\xbf" + text.encode(), Path("t.jsonl")) == {
        "file_name": ["a.png", "2024-01-01"],
        "label": [3, None],
        "more": [None, [1]],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": "a"}\n{"image": \n', r"line 2 of t.jsonl is no JSON"),
        ('{"image": "a"}\n["b"]\n', "line 2 of t.jsonl is no JSON object: write one object a line"),
        ("[\n", "line 1 of t.jsonl is no JSON"),
        ('{"image": "a", "label": 1, "label": 2}', r"line 1 of t.jsonl is no JSON \(an object has a key twice\)"),
        ("\n", "t.jsonl is empty"),
        ("[" * 100_000, "line 1 of t.jsonl is no JSON"),
    ],
)
def test_other_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_text_table(text.encode(), Path("t.jsonl"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_header_is_read_from_what_is_cut_off(encoding: str) -> None:
    content = (TEXT + '"caf\u00e9').encode(encoding)
    assert header_of(content[:-1], CSV) == ["image", "label"]
    assert header_of(b"0.png,cat\n", CSV) == header_of(b"", CSV) == header_of(b"\xff", CSV) == []


def test_a_table_with_a_million_columns_is_refused_at_once() -> None:
    header = ",".join(["image", "label", *(f"c{i}" for i in range(10**6))])
    with pytest.raises(DataError, match="1,000,002 columns, and at most 1,000 are read"):
        read_text_table(header.encode(), Path("x.csv"))


def test_lines_with_other_keys_each_are_refused() -> None:
    lines = "".join(f'{{"k{i % 900}": 1}}\n' for i in range(5000))
    with pytest.raises(DataError, match="hardly a key in common"):
        read_text_table(lines.encode(), Path("x.jsonl"))
    with pytest.raises(DataError, match="2,000 keys, and at most 1,000"):
        read_text_table("".join(f'{{"k{i}": 1}}\n' for i in range(2000)).encode(), Path("x.jsonl"))


def test_lines_may_lack_keys() -> None:
    lines = '{"image": "a", "label": 1}\n' + '{"image": "b"}\n' * 1000
    assert len(read_text_table(lines.encode(), Path("x.jsonl"))["label"]) == 1001
