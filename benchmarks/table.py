"""Markdown table of measurements, for the docs: medians, ratios, n, and disturbances.

python benchmarks/table.py ROWS.jsonl

ROWS.jsonl is what the scripts append to with ``--rows``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from load import DISTURBED, Load, told

HEAD = ("what", "", "median", "lowest to highest", "n", "ratio", "taken by others")
LEGEND = (
    "Ratio: of the median to that of the first line of its part. Taken by others: the share of the CPUs' time that other "
    f"processes took while the line's own work ran; above {100 * DISTURBED:.0f} % it says that the line is disturbed."
)


@dataclass(frozen=True)
class Row:
    """Line of a table: the values of one contender in one part of a comparison."""

    what: str
    name: str
    values: tuple[float, ...]
    unit: str = "s"
    load: Load | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return median(self.values)


def markdown(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(rows: Sequence[Row]) -> str:
    """The table of rows, a ratio in each to the first one of the same part."""
    cells = []
    for what, part in groupby(rows, key=lambda row: row.what):
        several = list(part)
        for number, row in enumerate(several):
            spread = f"{figure(min(row.values))} to {figure(max(row.values))}" if len(row.values) > 1 else ""
            ratio = f"{row.median / several[0].median:.2f}" if number and row.unit == several[0].unit else ""
            typical = f"{figure(row.median)} {row.unit}" + (f", {row.note}" if row.note else "")
            cells.append(
                ("" if number else what, row.name, typical, spread, str(len(row.values)), ratio, told(row.load))
            )
    return markdown(HEAD, cells)


def figure(value: float) -> str:
    """Three figures, without an exponent."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return (
        f"{value:,.{max(0, 3 - whole)}f}"
        if abs(value) >= 0.1 or not value
        else f"{float(f'{value:.3g}'):f}".rstrip("0")
    )


def verdict(rows: Sequence[Row]) -> str:
    """Sentence on disturbance by other processes."""
    unknown, disturbed = (
        sum(row.load is None for row in rows),
        sum(bool(row.load and row.load.disturbed) for row in rows),
    )
    if unknown == len(rows):
        return "What others took is unknown on this machine."
    if disturbed:
        return f"Disturbed by neighbours: {disturbed} of {len(rows)} lines; only their ratios, if anything, count."
    return "Not disturbed by neighbours" + (f" as far as is known ({unknown} lines unknown)." if unknown else ".")


@dataclass(frozen=True)
class Report:
    """Measurements of one command, and their conditions."""

    command: str
    conditions: dict[str, str]
    rows: tuple[Row, ...]

    def append(self, path: Path) -> None:
        """Add it to a file, as a line of JSON."""
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self)) + "\n")


def read(path: Path) -> list[Report]:
    """Reports that were appended to a file."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        made = json.loads(line)
        rows = [
            Row(**{**row, "values": tuple(row["values"]), "load": Load(**row["load"]) if row["load"] else None})
            for row in made["rows"]
        ]
        found.append(Report(made["command"], made["conditions"], tuple(rows)))
    return found


def page(reports: Sequence[Report]) -> str:
    """Commands and conditions, the table of all rows, and whether neighbours disturbed them."""
    said = []
    for how, several in groupby(reports, key=lambda report: report.conditions):
        commands = ", ".join(f"`python benchmarks/{report.command}`" for report in several)
        said.append(f"{commands}: " + "; ".join(f"{name} {value}" for name, value in how.items()) + ".")
    rows = [row for report in reports for row in report.rows]
    return "\n\n".join([*said, table(rows), f"{verdict(rows)} {LEGEND}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    print(page(read(parser.parse_args().rows)), flush=True)


if __name__ == "__main__":
    main()
