"""JSON and YAML of others: plain values or one exception, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from robust_transfer.texts import (
    DEEPEST,
    MOST_VALUES,
    MOST_YAML,
    MalformedError,
    from_json,
    from_yaml,
    read_json,
    read_text,
)

TEN = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
BOMB = TEN + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30))


@pytest.mark.parametrize(
    "text", ["{a: [1, 2.5, yes, null], b: &x {c: d}, e: *x}", "3", "", "- a\n- b\n", "a: 2024-01-02"]
)
def test_yaml_is_what_its_library_reads(text: str) -> None:
    assert from_yaml(text) == yaml.safe_load(text)


def test_other_loaders_are_taken() -> None:
    assert from_yaml("no: 1", yaml.BaseLoader) == {"no": "1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("!!timestamp 2001-99-99", "month must be"),
        ("2001-99-99", "month must be"),
        ("!!int x", "invalid literal"),
        ("!!bool x", "KeyError"),
        ("!!float x", "could not convert"),
        ("!!timestamp x", "AttributeError"),
        ("a: [", "expected the node content"),
        ("&a [*a]", "contains itself"),
        ("&a {b: {c: *a}}", "contains itself"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 80 + "]" * 80, f"deeper than {DEEPEST}"),
        ("9" * 5000, "has 5,000 characters"),
        ("0x" + "f" * 5000, "has 5,002 characters"),
        (BOMB, f"more than {MOST_VALUES:,}"),
        (MERGES, f"more than {MOST_VALUES:,}"),
        ("? [a]\n: b", "found unhashable key"),
        ("a\0b", "special characters"),
        ("#" * (MOST_YAML + 1), f"at most {MOST_YAML:,}"),
    ],
)
def test_what_is_no_yaml_is_one_clause(text: str, words: str) -> None:
    with pytest.raises(MalformedError) as told:
        from_yaml(text)
    assert words in str(told.value)
    assert len(str(told.value)) < 400
    assert "\n" not in str(told.value)


def test_the_largest_numbers_of_floats_are_read() -> None:
    assert from_yaml("1" + "0" * 308) == 10**308


@pytest.mark.parametrize("text", ['{"a": [1, 2, {"b": null}]}', "[]", '"x"', "3.5", "[" * DEEPEST + "]" * DEEPEST])
def test_json_is_what_its_library_reads(text: str) -> None:
    import json

    assert from_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"deeper than {DEEPEST}"),
        ('{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), f"deeper than {DEEPEST}"),
        ("9" * 5000, "4300"),
        ("", "Expecting value"),
        (b"\xff\xfe{", "codec"),
    ],
)
def test_what_is_no_json_is_one_clause(text: str | bytes, words: str) -> None:
    with pytest.raises(MalformedError) as told:
        from_json(text)
    assert words in str(told.value)
    assert len(str(told.value)) < 300


def test_files_are_bounded_and_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    with pytest.raises(MalformedError, match="at most 5"):
        read_text(path, 5)
    path.write_bytes(b"ab\xe9")
    with pytest.raises(MalformedError, match=r"not UTF-8 .at byte 2"):
        read_text(path)
