"""Reference pages, ``docs/reference/*.md``: tables of everything registered, and every command with its options.

    python scripts/reference_pages.py [--out docs/reference]

Names are read from the package's own source files and options from the command line's signatures, without PyTorch.
"""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from typer.models import ArgumentInfo, ParameterInfo

from robust_transfer import cli
from robust_transfer.cli.base import ROAD
from robust_transfer.cli.catalogue import PACKAGE, REGISTRIES, networks, read_registrations, recipes
from robust_transfer.files import write_text
from robust_transfer.sources import list_sources

DOCS = PACKAGE.parent / "docs"
NOTE = "<!-- written by scripts/reference_pages.py: `make reference` writes it again -->"
SECTIONS = {
    "strategies": ("Strategies", "For `transfer --strategy`. [Each in detail](../strategies.md)."),
    "pretraining": ("Pretraining methods", "For `pretrain --method`."),
    "attacks": ("Attacks", "For `evaluate --attack`. Several are joined by `+`; settings follow a colon."),
    "data": ("Data formats", "For `--data`. [How data is read](../data.md)."),
}
VALUES = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown table, with the bars inside cells escaped."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def names_page() -> str:
    """Page of all registered names: one table per registry."""
    parts = [
        NOTE,
        "# Names",
        "Values for the [options of commands](commands.md). `robust-transfer list` prints the same.",
    ]
    for kind, (title, purpose) in SECTIONS.items():
        package, registry = REGISTRIES[kind]
        rows = read_registrations(PACKAGE.joinpath(*package.split(".")), registry)
        columns = ("name", "what it is", "paper")
        shown = [(name if " " in name else code(name), plain(summary), plain(paper)) for name, summary, paper in rows]
        if not any(paper for *_, paper in shown):
            columns, shown = columns[:2], [row[:2] for row in shown]  # type: ignore[assignment,misc]
        parts += [f"## {title}", purpose, table(columns, shown)]
    for title, purpose, found in (
        ("Sources", "For `--source`. [Other people's networks](../sources.md).", list_sources()),
        ("Networks", "For `--network`. Any other timm network with one head goes by its timm name.", networks()),
        ("Recipes", "For `study`. [How studies run](../studies.md).", recipes()),
    ):
        rows_of = [(code(name), plain(line)) for name, line in found.items()]
        parts += [f"## {title}", purpose, table(("name", "what it is"), rows_of)]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Page of every command, in the order of ``--help``: what it does, its arguments, its options."""
    called: dict[str, Callable[..., Any]] = {}
    for info in cli.app.registered_commands:
        assert info.callback is not None
        called[info.name or info.callback.__name__] = info.callback
    parts = [NOTE, "# Commands and their options", "[Shared conventions](../commands.md) of all commands."]
    for name in sorted(called, key=ROAD.index):
        parameters = list(parameters_of(called[name]))
        arguments = [f" {row[0].strip('`')}" for row, is_argument in parameters if is_argument]
        parts += [f"## {name}", plain(inspect.getdoc(called[name]) or "")]
        parts += [f"```text\nrobust-transfer {name}{''.join(arguments)} [OPTIONS]\n```"]
        parts += [table(("option", "value", "what it does", "default"), (row for row, _ in parameters))]
    return "\n\n".join(parts) + "\n"


def parameters_of(command: Callable[..., Any]) -> Iterator[tuple[tuple[str, str, str, str], bool]]:
    """Row of every parameter that ``--help`` shows, and whether it is an argument."""
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kind, info = told(parameter.annotation)
        if info.hidden:
            continue
        is_argument, optional = isinstance(info, ArgumentInfo), parameter.default is not inspect.Parameter.empty
        # in an annotation the first spelling is the first positional, which typer calls the default
        spellings = [each for each in (info.default, *(info.param_decls or ())) if str(each).startswith("-")]
        spelt = ", ".join(map(str, spellings)) or f"--{name.replace('_', '-')}"
        if is_argument:
            spelt = (info.metavar or name.upper()).strip("[]")
            spelt = f"[{spelt}]" if optional else spelt
        text, _, stated = (info.help or "").removesuffix("]").partition(" [default: ")
        if not optional:
            default = "required"
        elif stated or parameter.default in (None, False):
            default = plain(stated)
        else:
            default = code(str(parameter.default))
        value = value_of(kind, info, is_argument)
        yield (code(spelt), ", ".join(map(code, value)), plain(text), default), is_argument


def told(annotation: Any) -> tuple[Any, ParameterInfo]:
    """Type of an annotated parameter, and its typer settings."""
    assert typing.get_origin(annotation) is Annotated
    kind, info = typing.get_args(annotation)
    assert isinstance(info, ParameterInfo)
    return kind, info


def value_of(kind: Any, info: ParameterInfo, is_argument: bool) -> list[str]:
    """Values of an option, or a word for them; none for a flag."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    [one] = [each for each in (typing.get_args(kind) if union else (kind,)) if each is not types.NoneType]
    if typing.get_origin(one) is Literal:
        return [str(each) for each in typing.get_args(one)]
    if one is bool:
        return []
    if isinstance(one, type) and issubclass(one, Enum):
        return [str(each.value) for each in one]
    if info.metavar and not is_argument:
        return [info.metavar]
    return [VALUES[(typing.get_args(one) or (one,))[0]]]


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"


def plain(text: str) -> str:
    """One line of text, without Markdown markup but for code."""
    joined = " ".join(text.replace("``", "`").split())
    parts = joined.split("`")
    return "`".join(part if n % 2 else part.replace("<", "&lt;").replace("*", "\\*") for n, part in enumerate(parts))


PAGES = {"names.md": names_page, "commands.md": commands_page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "reference")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        write_text(out / name, page())
        print(out / name)


if __name__ == "__main__":
    main()
