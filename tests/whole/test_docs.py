"""Documentation: its links lead somewhere, and its commands exist, with their options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from robust_transfer import cli
from robust_transfer.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
GROUP = typer.main.get_command(cli.app)
COMMANDS = {name: command.params for name, command in vars(GROUP)["commands"].items()}
OF_ALL = {option for parameter in GROUP.params for option in parameter.opts}
OPTIONS = {name: {opt for p in params for opt in (*p.opts, *p.secondary_opts)} for name, params in COMMANDS.items()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def without_code(text: str) -> str:
    """Markdown without what is shown as it is."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def links(text: str) -> Iterator[str]:
    """Targets of the links and pictures of a page that lie in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """The names that a page's headings are linked by: lower case, punctuation dropped, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, target: str) -> str | None:
    """Why a link of a page leads nowhere, or None."""
    path, _, anchor = target.partition("#")
    file = page if not path else page.parent / path
    if not file.exists():
        return f"{target}: there is no such file"
    if anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
        return f"{target}: there is no such heading"
    return None


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command of ours that a page shows: in blocks, indented or inside a line."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in lines:
        for part in re.split(r"&&|\||;", line.strip().removeprefix("$ ")):
            if re.match(r"(robust-transfer|make|python [\w./-]+\.py)\b", part.strip()):
                yield shlex.split(part, comments=True)


def complaint(words: list[str]) -> str | None:
    """Why a command cannot be called as it is shown, or None."""
    options = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
    if words[0] == "make":
        unknown = {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)} - TARGETS
        return f"the Makefile has no {sorted(unknown)}" if unknown else None
    if words[0] == "python":
        script = ROOT / words[1]
        if not script.exists():
            return f"{words[1]}: there is no such file"
        source = script.read_text(encoding="utf-8")
        beside = {
            script.with_name(f"{name}.py") for name in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
        }
        source += "".join(
            path.read_text(encoding="utf-8") for path in beside if path.exists()
        )  # options that scripts share
        unknown = {option for option in options if f'"{option}"' not in source}
    else:
        names = [word for word in words[1:2] if re.fullmatch(r"[a-z]+", word)]
        if names and names[0] not in OPTIONS:
            return f"there is no command {names[0]}"
        unknown = options - (OPTIONS[names[0]] if names else OF_ALL) - {"--help"}
    return f"{' '.join(words[:2])} has no {sorted(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    found = {broken(page, target) for target in links(page.read_text(encoding="utf-8"))} - {None}
    assert not found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_their_options(page: Path) -> None:
    found = {complaint(words) for words in commands(page.read_text(encoding="utf-8"))} - {None}
    assert not found


def test_what_is_wrong_is_found() -> None:
    page = "[a](docs/no.md) ![b](LICENSE) [c](README.md#no-such) [d](https://example.org) `[e](no.md)`"
    told = [broken(ROOT / "README.md", target) for target in links(page)]
    assert told == ["docs/no.md: there is no such file", None, "README.md#no-such: there is no such heading"]
    shown = """
```sh
robust-transfer transfer --source bundled --strateggy lwf   # a comment
robust-transfer transform && make demo
make demmo
python scripts/bundle.py runs/source --dada x
```
    robust-transfer evaluate x --attack pgd-20 \\
        --nope
Inside a line, `robust-transfer verify x --ham` and `robust-transfer list`.
"""
    assert [complaint(words) for words in commands(shown)] == [
        "robust-transfer transfer has no ['--strateggy']",
        "there is no command transform",
        None,
        "the Makefile has no ['demmo']",
        "python scripts/bundle.py has no ['--dada']",
        "robust-transfer evaluate has no ['--nope']",
        "robust-transfer verify has no ['--ham']",
        None,
    ]


def test_the_pages_show_commands() -> None:
    shown = [words for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
    assert {words[1] for words in shown if words[0] == "robust-transfer" and len(words) > 1} >= set(COMMANDS)


def test_the_page_of_strategies_has_a_section_for_each() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## ([a-z][a-z0-9-]*)$", text, re.M)
    assert sorted(sections) == sorted(STRATEGIES.names())
