"""JSON and YAML that others may have written, parsed within bounds.

Whatever such a text holds, it becomes plain values or one exception, a :class:`MalformedError`: never more values than
it has characters, as YAML's references to earlier values allow, and no nesting deeper than Python's own limits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 26  # of a file of JSON
MOST_YAML = 1 << 20  # characters: some seconds of its parser, which is written in Python
MOST_VALUES = 200_000  # that YAML unfolds to
MOST_DIGITS = 400  # of a number in YAML; a float's largest has 309
DEEPEST = 64
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class MalformedError(ValueError):
    """Text that is not what it should be, or exceeds the bounds of this module; the message is a clause."""


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Text of a file in UTF-8, with or without its mark. Raises OSError, and :class:`MalformedError` for other encodings."""
    size = path.stat().st_size
    if size > most:
        raise MalformedError(f"it has {size:,} bytes, and at most {most:,} are read")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError(f"it is not UTF-8 (at byte {error.start:,})") from None


def read_json(path: Path) -> Any:
    """Value of a file of JSON. Raises OSError and :class:`MalformedError`."""
    return from_json(read_text(path))


def from_json(text: str | bytes) -> Any:
    """Value of ``text``; its parts are nested at most :data:`DEEPEST` deep. Raises :class:`MalformedError`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # also wrong UTF-8, and numbers with thousands of digits
        reason = str(error) if isinstance(error, json.JSONDecodeError) else _named(error)
        raise MalformedError(f"it is not JSON: {reason[:200]}") from None
    _refuse_deep(value)
    return value


def from_yaml(text: str, loader: type[yaml.SafeLoader | yaml.BaseLoader] = yaml.SafeLoader) -> Any:
    """Value of ``text``, one document of YAML without Python's own tags. Raises :class:`MalformedError`."""
    if len(text) > MOST_YAML:
        raise MalformedError(f"it has {len(text):,} characters, and at most {MOST_YAML:,} are read")
    reading = None
    try:
        reading = loader(text)
        node = reading.get_single_node()
        if node is None:
            return None
        _refuse_unfolding(node)
        return reading.construct_document(node)
    except MalformedError:
        raise
    except yaml.YAMLError as error:
        raise MalformedError(f"it is not YAML: {' '.join(str(error).split())[:300]}") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        # its constructors raise these for dates that there are not, numbers that are none and the like
        raise MalformedError(f"it is not YAML: {_named(error)[:200]}") from None
    finally:
        if reading is not None:
            reading.dispose()


def _named(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"


def _refuse_deep(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise MalformedError(f"it is nested deeper than {DEEPEST} levels")


def _refuse_unfolding(root: yaml.Node) -> None:
    """Refuse more values than the bounds, counted wherever a reference repeats them, and references to what holds them."""
    sizes, within = dict[yaml.Node, int](), set[yaml.Node]()

    def size(node: yaml.Node, depth: int) -> int:
        if node in within:
            raise MalformedError("a value in it contains itself")
        if depth > DEEPEST:
            raise MalformedError(f"it is nested deeper than {DEEPEST} levels")
        if node in sizes:
            return sizes[node]
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
                raise MalformedError(f"a number in it has {len(node.value):,} characters")
            return 1
        parts = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        within.add(node)
        sizes[node] = 1 + sum(size(part, depth + 1) for part in parts)
        within.discard(node)
        if sizes[node] > MOST_VALUES:
            raise MalformedError(f"its values unfold to more than {MOST_VALUES:,}")
        return sizes[node]

    size(root, 0)
