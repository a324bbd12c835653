"""API pages: the public names of the package, one page a room, from their signatures and docstrings (griffe reads the source).

    python scripts/api_pages.py --out build/docs/api

Docstrings are plain text with ``code`` and roles such as :class:`Run`; here they become Markdown, and public names links.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import griffe
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("griffe is missing: pip install 'robust-transfer[docs]'") from error

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "robust_transfer"
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):`~?([^`]+)`|``(.+?)``|`([^`\n]+)`", re.DOTALL)


@dataclass(frozen=True)
class Api:
    """Public names by room, each with griffe's description."""

    rooms: dict[str, list[str]]
    things: dict[str, griffe.Object]
    modules: dict[str, str]

    def link(self, name: str, room: str) -> str:
        """Name as code; with a link where it, or the class that it belongs to, is public."""
        owner, _, member = name.partition(".")
        home = next((each for each, names in self.rooms.items() if owner in names), None)
        if home is None:
            return f"`{name}`"
        page = "" if home == room else f"{home}.md"
        anchor = f"{owner}.{member}" if member and member in methods_of(self.things[owner]) else owner
        return f"[`{name}`]({page}#{anchor})"


@functools.cache
def read(root: Path = ROOT) -> Api:
    """Public names of the package in ``root``: those of ``__all__``, in the rooms that ``_WHERE`` gives them."""
    package = griffe.load(PACKAGE, search_paths=[root], resolve_aliases=True)
    assert isinstance(package, griffe.Module)
    values = {name: ast.literal_eval(str(package[name].value)) for name in ("_WHERE", "__all__")}
    rooms = {room: sorted(names, key=str.lower) for room, names in values["_WHERE"].items()}
    things: dict[str, griffe.Object] = {}
    for room, names in rooms.items():
        for name in names:
            found = package[f"{room}.{name}"]
            things[name] = found.final_target if isinstance(found, griffe.Alias) else found
    assert set(things) == set(values["__all__"])
    return Api(rooms, things, {room: text_of(package[room]).split("\n\n")[0] for room in rooms})


def pages(api: Api) -> Iterator[tuple[str, str]]:
    """File name and Markdown of every page: an index, and one a room."""
    index = ["# API", "Every public name, by room. `import robust_transfer as rt`, then `rt.NAME`."]
    for room, names in api.rooms.items():
        index += [f"## {room}", prose(api.modules[room], api, "")]
        index += ["\n".join(f"- {api.link(name, '')}: {first_sentence(name, api)}" for name in names)]
        body = [section(name, api, room) for name in names]
        yield f"{room}.md", "\n\n".join([f"# {room}", prose(api.modules[room], api, room), *body]) + "\n"
    yield "index.md", "\n\n".join(index) + "\n"


def section(name: str, api: Api, room: str) -> str:
    """Heading, signature, docstring and methods of a public name."""
    thing = api.things[name]
    parts = [f"## {name} {{ #{name} }}", signature(name, thing)]
    if isinstance(thing, griffe.Class):
        bases = [api.link(str(base).rpartition(".")[2], room) for base in thing.bases if str(base) != "ABC"]
        parts += [f"A kind of {', '.join(bases)}."] if bases else []
    parts += [prose(text_of(thing), api, room)]
    for method, function in methods_of(thing).items():
        parts += [f"### {name}.{method} {{ #{name}.{method} }}", signature(method, function)]
        parts += [prose(text_of(function), api, room)]
    return "\n\n".join(parts)


def signature(name: str, thing: griffe.Object) -> str:
    """Code block of a call: of a function its parameters, of a class its fields or those of its ``__init__``."""
    if isinstance(thing, griffe.Attribute):
        return block(f"{name}: {thing.annotation}")
    if isinstance(thing, griffe.Function):
        given, result = [*parameters(thing)], f" -> {thing.returns}" if thing.returns else ""
    else:
        assert isinstance(thing, griffe.Class)
        result = ""
        start = thing.all_members.get("__init__")
        own = start is not None and isinstance(start, griffe.Function | griffe.Alias) and not is_config(thing)
        given = [*parameters(start)] if own else fields(thing)  # type: ignore[arg-type]
    line = f"{name}({', '.join(given)}){result}"
    if len(line) > 90:
        line = "\n    ".join([f"{name}(", *(f"{each}," for each in given)]) + f"\n){result}"
    return block(line)


def block(text: str) -> str:
    """Text as Python code."""
    return f"```python\n{text}\n```"


def parameters(function: griffe.Function | griffe.Alias) -> Iterator[str]:
    """Parameters as written, without ``self``."""
    star = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not star:
            yield "*"
        star = star or kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional)
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
        default = f" = {parameter.default}" if parameter.default is not None and not stars else ""
        yield f"{stars}{parameter.name}{annotation}{default}"


def is_config(thing: griffe.Class) -> bool:
    """True for a dataclass, whose ``__init__`` is made of its fields."""
    return any(str(each.value).split("(")[0].rpartition(".")[2] in ("config", "dataclass") for each in thing.decorators)


def fields(thing: griffe.Class) -> list[str]:
    """Fields of a dataclass with their defaults, those of its bases first; keyword-only where ``@config`` makes it."""
    found: dict[str, str] = {}
    for each in reversed([thing, *thing.mro()]):
        if not is_config(each):
            continue
        for name, member in each.members.items():
            if not isinstance(member, griffe.Attribute) or member.annotation is None:
                continue
            if not name.startswith("_") and "instance-attribute" in member.labels:  # ClassVars are of the class alone
                default = f" = {member.value}" if member.value is not None else ""
                found[name] = f"{name}: {member.annotation}{default}"
    keyword_only = any(str(each.value) == "config" for each in thing.decorators)
    return ["*", *found.values()] if found and keyword_only else list(found.values())


def methods_of(thing: griffe.Object) -> dict[str, griffe.Object]:
    """Public methods and properties with docstrings of their own."""
    if not isinstance(thing, griffe.Class):
        return {}
    return {
        name: member
        for name, member in thing.members.items()
        if isinstance(member, griffe.Function | griffe.Attribute)
        and not name.startswith("_")
        and member.docstring
        and (isinstance(member, griffe.Function) or "property" in member.labels)
    }


def text_of(thing: griffe.Object | griffe.Alias) -> str:
    """Docstring, without its indentation."""
    return thing.docstring.value.strip() if thing.docstring else ""


def first_sentence(name: str, api: Api) -> str:
    """First sentence of a name's docstring, as Markdown."""
    summary = " ".join(text_of(api.things[name]).split("\n\n")[0].split())
    return prose(re.split(r"(?<=\.)\s", summary)[0], api, "")


def prose(text: str, api: Api, room: str) -> str:
    """Docstring as Markdown: roles and ``code`` become code and links, everything else is plain text."""
    return "\n\n".join(paragraph(each, api, room) for each in re.split(r"\n\s*\n", text))


def paragraph(text: str, api: Api, room: str) -> str:
    """Paragraph of a docstring; indented ones, and calls of the module's example, are code."""
    lines = text.splitlines()
    if all(line.startswith("    ") for line in lines):
        return block("\n".join(line[4:] for line in lines))
    out, at = [], 0
    for match in ROLE.finditer(text):
        role, literal, quoted = match.groups()
        code = " ".join((role or literal or quoted).split())
        out += [escaped(text[at : match.start()])]
        out += [api.link(code.removeprefix(f"{PACKAGE}."), room) if role else f"`{code}`"]
        at = match.end()
    return "".join([*out, escaped(text[at:])])


def escaped(text: str) -> str:
    """Text without Markdown markup."""
    return re.sub(r"([\\*_\[\]<|])", r"\\\1", text)


def write(out: Path) -> list[Path]:
    """Write all pages into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(read()):
        (out / name).write_text(text, encoding="utf-8")
        written.append(out / name)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for path in write(parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
