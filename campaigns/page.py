"""Page of all campaigns, docs/survival.md, from their records.

python campaigns/page.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from record import ROOT, Count, Record, read
from table import figure, markdown

PAGE = ROOT / "docs" / "survival.md"
BEGIN, END = "<!-- table: campaigns/page.py -->", "<!-- end of table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the page is out of date")
    asked = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    drawn = with_table(page, read())
    if asked.check:
        sys.exit(0 if page == drawn else f"{PAGE.name} is out of date: python campaigns/page.py")
    PAGE.write_text(drawn, encoding="utf-8")
    print(table(read()))


def with_table(page: str, records: Sequence[Record]) -> str:
    """``page`` with the table between its two marks drawn anew."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{table(records)}\n\n{END}{after}"


def table(records: Sequence[Record]) -> str:
    """Table of counts of all records, and how each was made."""
    cells = [
        ("" if number else record.title, count.what, told(count), "" if count.must_be is None else str(count.must_be))
        for record in records
        for number, count in enumerate(record.counts)
    ]
    lines = [markdown(("campaign", "", "figure", "must be"), cells), ""]
    for record in records:
        facts = record.conditions or {}
        seed = "" if record.seed is None else f", seed {record.seed}"
        made = "; ".join(facts[name] for name in ("hardware", "versions") if name in facts)
        lines.append(f"- {record.title}: `{record.command}`{seed}; {made}; commit {facts.get('commit', 'unknown')}")
    return "\n".join(lines)


def told(count: Count) -> str:
    value = f"{count.value:,}" if isinstance(count.value, int) else figure(count.value)
    return f"{value} {count.unit}".rstrip() + (" **failed**" if count.failed else "")


if __name__ == "__main__":
    main()
