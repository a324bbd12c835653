"""Table of planted defences in docs/survival.md, from their record.

python campaigns/defence_table.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from page import PAGE
from record import read
from table import markdown

BEGIN, END = "<!-- table: campaigns/defence_table.py -->", "<!-- end of defences -->"
# Words of a flag, and what the table calls it.
SHORT = {
    "the model is random": "random",
    "depend on the batch": "batch",
    "probabilities, not logits": "probabilities",
    "softmax is exactly 1": "saturated",
    "softmax is all but even": "too close",
    "where a gradient is asked for": "other answers",
    "the gradient is random": "random gradient",
    "zero or vanishing": "no gradient",
    "do not change the logits as it says": "no slope",
    "no better than ten random guesses": "misleads",
    "through smooth stand-ins of what hides": "stand-in",
    "without gradients breaks": "square",
    "random search broke": "square",
    "still stand, where nothing can": "linf 0.5",
    "times the effort": "effort",
    "that the model's own gradient had left": "other gradient",
    "if it is a rejection": "rejection",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the table is out of date")
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    drawn = with_table(text, [case for record in read() if record.name == "planted" for case in record.cases])
    if asked.check:
        sys.exit(0 if text == drawn else f"{PAGE.name} is out of date: python campaigns/defence_table.py")
    PAGE.write_text(drawn, encoding="utf-8")


def with_table(page: str, cases: Iterable[Mapping[str, Any]]) -> str:
    """``page`` with the table between its two marks drawn anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table(cases)}\n\n{END}{rest.split(END)[1]}"


def table(cases: Iterable[Mapping[str, Any]]) -> str:
    """Defences with their figures in percent and the names of their flags, and a line for each honest network flagged."""
    head = ("defence", "kind", "n", "clean", "PGD-20", "all attacks", "adaptive", "flags")
    rows = [
        (
            case["name"],
            case["kind"],
            str(case["n"]),
            *(_percent(case.get(name)) for name in ("clean", "pgd-20", "reported", "adaptive")),
            ", ".join(names(case["flags"])) or ("**missed**" if case.get("too high") else "none: the figure is right"),
        )
        for case in cases
        if case["kind"] != "honest" or case["flags"]
    ]
    return markdown(head, rows)


def names(flags: Iterable[str]) -> list[str]:
    """Short names of flags, each once."""
    found = [next((short for words, short in SHORT.items() if words in flag), flag) for flag in flags]
    return list(dict.fromkeys(found))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
