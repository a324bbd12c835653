"""Names that carry HTML, control characters, escapes of terminals or formulas, wherever they are shown."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hostile_case import CANARY, Case
from hostile_kit import pictures, put, put_run, run_folder

FAMILY = "names"
TAG = f"{CANARY}-tag"
NAMES = (
    f"<{TAG}>", f"</script><{TAG}>", f'" onload="{CANARY}()" x="', f"' onmouseover='{CANARY}()", f"--><{TAG}>",
    f"]]><{TAG}>", f"</title><{TAG}>",
    f"<svg/onload={CANARY}()>", f"javascript:{CANARY}()", "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}", "&lt;b&gt;",
    "\x1b[2J\x1b[31m", "\x1b]0;owned\x07", "\x1b]8;;http://x\x1b\\x\x1b]8;;\x1b\\", "\x9b31m", "\x07\x08\x7f",
    "\u202egnp.exe", "\u2066x\u2069", "\u200b\ufeff",
    "\u2028\u2029", "a\r\nb", "a\nrobust-transfer: all is well", "a\tb", "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1+1)",
    "'=1", "a,b\"c;d",
    "[red]x[/red]", "[link=http://x]y[/link]", "| a | b |", "![x](http://127.0.0.1:9/x.png)", "[x](javascript:x)", "`x`",
    "# x", "$\\frac{1}{$", "$x$ $y", "\\n\\x1b",
    "%s%n%d", "x" * 5000, "\u0301" * 500, "\U0001f4a9", "---\nx: y", "*a", "&a", "!!python/object:os.system", "~", "null",
    "NaN", "_x", " ", "\u00a0", "../../canary",
    "\ud800",
)  # fmt: skip


class _Tags(HTMLParser):
    """What a page has that no name may bring: tags, and attributes that run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag == TAG else []
        self.found += [f"{name} of {tag}" for name, value in attrs if name.startswith("on")]
        self.found += [
            f"{name} of {tag}"
            for name, value in attrs
            if name in ("href", "src") and "javascript:" in (value or "").lower()
        ]


def harmless(folder: Path, shown: str) -> str | None:
    """Complaint on the files that a command has written below the folder."""
    for path in folder.rglob("*"):
        if (
            not path.is_file()
            or path.suffix not in (".html", ".md", ".csv", ".json", ".jsonl", ".yaml", ".svg")
            or path.is_relative_to(folder / "run")
        ):
            continue
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if raw := {each for each in text if not each.isprintable() and each not in "\n\t"}:
            return f"{path.name} holds {sorted(raw)!r}"
        if path.suffix in (".html", ".svg") and (found := _Tags(text).found):
            return f"{path.name} has {found}"
        if path.suffix == ".md" and f"<{TAG}" in text.replace("&lt;", ""):
            return f"{path.name} has the tag"
    return None


def no_formulas(folder: Path, shown: str) -> str | None:
    """Complaint on CSV on standard output."""
    for row in csv.reader(io.StringIO(shown)):
        for cell in row:
            if cell.startswith(("=", "@")) or (cell[:1] in "+-" and cell[:1] and not cell[1:2].isdigit()):
                return f"a formula: {cell!r}"
    return None


def cases(chance: random.Random) -> Iterator[Case]:
    for name in NAMES:
        shown = name[:30].encode("unicode_escape").decode()
        for what, make, check in WAYS:
            yield Case(FAMILY, f"{shown} {what}", partial(make, name=name), None, check=check)


# ---------------------------------------------------------------- where names come from


def _file(name: str) -> str:
    """The name as that of a file, as near as can be."""
    return (
        (name.replace("/", "\u2215")[:60].strip(".") or "x")
        .encode("utf-8", "surrogatepass")
        .decode("utf-8", "surrogateescape")
    )


def _classes(name: str) -> tuple[str, ...]:
    return (name, *map(str, range(1, 10)))


def _run_with(folder: Path, name: str) -> None:
    """A run folder with classes, data, notes and flags of this name."""
    put(folder / "run", run_folder())
    for file in ("card.json", "evaluation.json"):
        path = folder / "run" / file
        made = json.loads(path.read_text(encoding="utf-8"))
        if file == "card.json":
            made |= {"class_names": _classes(name), "data": {"name": name, name: name, "train": 5}, "criterion": name,
            "command": name, "events": [name],
                     "method": name, "metrics": {name: name}, "environment": {name: {name: name}},
                     "settings": {name: name}}  # fmt: skip
        else:
            made |= {"flags": [name], "notes": [name], "untested": [name], "split": name, "command": name,
            "hardware": {"cpu": name, "gpu": None},
                     "versions": {name: name}}  # fmt: skip
        path.write_text(json.dumps(made), encoding="utf-8")


def _command(folder: Path, name: str, words: Sequence[object], files: bool = False) -> Sequence[object]:
    from images import encoded, picture

    _run_with(folder, name)
    picture_name = f"./{_file(name)}.png"
    put(folder, {picture_name: encoded(picture(0, 0)), "x.png": encoded(picture(0, 1))})
    return [picture_name if word == "PICTURE" else word for word in words]


def _in_data(folder: Path, name: str, words: Sequence[object]) -> Sequence[object]:
    put_run(folder / "run")
    put(folder / "pets", pictures(("cat", _file(name))))
    return words


def _in_study(folder: Path, name: str) -> Sequence[object]:
    from report_helpers import study

    study(folder / "s", title=name)
    made = json.loads((folder / "s/study.json").read_text())
    made["recipe"] |= {"paper": name, "notes": name}
    made |= {"command": name, "hardware": {"cpu": name, "gpu": None}}
    (folder / "s/study.json").write_text(json.dumps(made))
    (folder / "s/findings.json").write_text(
        json.dumps({"cells": 8, "claims": [{"says": name, "measured": name, "verdict": name}]})
    )
    return "report", "s", "--out", "report.html", "--no-pictures", "--quiet"


def _in_folder(folder: Path, name: str) -> Sequence[object]:
    put_run(folder / _file(name))
    put_run(folder / "other")
    return "report", f"./{_file(name)}", "other", "--out", "report.html", "--no-pictures", "--quiet"


def _in_weights(folder: Path, name: str) -> Sequence[object]:
    import torch
    from hostile_checkpoints import GIVEN, state

    torch.save(
        {"state_dict": dict(state()), "classes": list(_classes(name)), "args": {name: name}, name: name},
        folder / "x.pt",
    )
    return "inspect", "x.pt", *GIVEN["set"]


def _in_table(folder: Path, name: str) -> Sequence[object]:
    from image_tables import files as image_rows

    image_rows(folder / "pets/images", 8)
    rows = [{"image": f"images/{i}.png", name: ("cat", name)[i % 2]} for i in range(8)]
    (folder / "pets/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "data", "pets", "--quiet", "--label-column", name.encode("utf-8", "replace").decode()


Way = tuple[str, Callable[..., Sequence[object]], Callable[[Path, str], str | None] | None]
DIGITS: Any = ("--data", "builtin:digits", "--quiet")
WAYS: tuple[Way, ...] = (
    ("in a report", partial(_command, words=("report", "run", "--out", "report.html", "--no-pictures", "--quiet")), harmless),
    ("in a prediction", partial(_command, words=("predict", "run", "PICTURE", "none.png", "--top", "3")), None),
    ("in a prediction's CSV", partial(_command, words=("predict", "run", "PICTURE", "x.png", "--csv", "--top", "2",
    "--quiet")), no_formulas),
    ("in a comparison", partial(_command, words=("compare", "run", "run", "--page", "page.html")), harmless),
    ("among a data set's classes", partial(_in_data, words=("data", "pets", "--contact-sheet", "sheet.png")), None),
    ("in a transfer", partial(_in_data, words=("transfer", "--source", "run", "--data", "pets", "--strategy", "linear-probe",
    "--out", "made")), harmless),
    ("in a study", _in_study, harmless),
    ("as a run folder", _in_folder, harmless),
    ("in weights", _in_weights, None),
    ("in a table", _in_table, None),
)  # fmt: skip
