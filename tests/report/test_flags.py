"""Every red flag that an evaluation can raise has words of its own."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from robust_transfer.evaluation import gradient_flags, red_flags, seen
from robust_transfer.report.flags import UNKNOWN, advice

PARTS = ("* of * predictions change", "* times the effort breaks * of * images more")  # of a flag, which goes on


OUTCOMES = ("outcome_flags", "_by_other_gradients", "_rejected")


def sentences() -> list[str]:
    """Flags as the source says them, with * for what is measured."""
    found = []
    for module in (red_flags, gradient_flags, seen):
        for node in ast.walk(ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                raises = ast.unparse(node.returns) == "str | None" or node.name in OUTCOMES
                found += list(_texts(node)) if raises else []
    return [
        text
        for text in found
        if len(text) > 20 and " " in text and not text.strip().endswith(".") and text not in PARTS
    ]


def _texts(node: ast.AST) -> Iterator[str]:
    """Strings in ``node``; a formatted one is whole."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


FLAGS = (
    "the model is random: one answer decides nothing, average over many (EOT)",
    "3 of 30 predictions change in bfloat16: attack with --precision float32",
    "3 of 30 predictions change in the fast copy of the network: attack the plain module",
    "12 of 100 test images were trained on (by its source): clean 90.0 %, without them 88.0 %",
    "12 of 100 val images are of the val split that the model was chosen by: clean 1 %",
    "ten times the effort breaks 6 of 30 images more: the attack has not converged, try harder",
    "constant classifier is more robust",
    "3 images are certified by feature-shift and were broken by an attack: one of the two is wrong",
    "only 3 of 10 classes are ever predicted",
)


def test_the_sentences_of_the_evaluation_are_found() -> None:
    assert len(sentences()) >= 12


@pytest.mark.parametrize("flag", [*FLAGS, *sentences()])
def test_every_flag_has_a_meaning_and_advice(flag: str) -> None:
    assert advice(flag) is not UNKNOWN


def test_two_flags_that_share_words_are_told_apart() -> None:
    assert "plain module" in advice(FLAGS[2]).todo
    assert "float32" in advice(FLAGS[1]).todo
    assert "trained on" in advice(FLAGS[3]).means
    assert "chosen" in advice(FLAGS[4]).means


def test_a_flag_of_another_version_is_shown_all_the_same() -> None:
    assert advice("something new") is UNKNOWN
