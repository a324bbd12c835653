"""Texts that are read: recipes, class maps, settings, threats, attacks; and JSON changed in every place."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hostile_case import REFUSED, Case
from hostile_kit import cut, flipped, put, spliced, writes

FAMILY = "texts"
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, 1e400, float("nan"), "", "x" * 100_000, "\x1b[2J\u202e<script>alert(1)</script>", "a\0b",
    "../../../canary", [], {}, [[]], {"a": {"b": []}}, ["x"] * 1000, "\ud800", "=1+1", "9" * 5000, "!!python/object:os.system",
)  # fmt: skip
YAML_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 40)
)
TAGS = (
    "!!python/object/apply:os.system ['touch canary']", "!!python/object/new:os.system ['touch canary']",
    "!!python/name:os.system", "!!python/module:antigravity", "!!python/object:builtins.object {}",
    "!!python/object/apply:builtins.eval [\"open('canary', 'w')\"]", "!!python/tuple [1, 2]", "!!binary abc",
    "!!timestamp 2001-99-99",
    "!!int x", "!!float x", "!!bool x", "!!set [a]", "!!omap {a: 1}", "!!pairs 3", "!canary x", "!!merge x", "!!null x",
    "!<tag:x> y",
)  # fmt: skip
RECIPE = """
name: small
title: a title
paper: a paper
sources: {robust: {use: bundled}}
tasks: {own: {data: digits}}
data: {digits: "builtin:digits"}
strategies: {probe: {strategy: linear-probe, each: {l2: [1.0, 0.1]}}}
evaluations: {near: {examples: 10}}
grid:
  - {source: robust, task: own, strategy: probe, evaluation: near, shots: 5}
claims:
  - {says: "it holds", of: {strategy: probe, set.l2: 1.0}, at_least: 0.0}
plots:
  - {x: set.l2, by: source}
scales:
  smoke: {}
  laptop: {}
"""
THREATS = (
    "", ":", "linf", "linf:", "linf:8", "linf:8/0", "linf:0/0", "linf:-1/255", "linf:1e400", "linf:nan", "linf:inf",
    "l2:" + "9" * 5000,
    "linf:8/255/255", "linf:__import__('os').system('touch canary')", "l3:1", "linf:8/255\x1b[2J", "linf:\uff11/255",
    "LINF:8/255",
    "linf:0x1", "linf:1_0", "linf:" + "1/" * 1000 + "1", "linf:1e-400", "linf: 8 / 255 ", "linf:8\n/255", "linf:²", "linf:8/²",
)  # fmt: skip
ATTACKS = (
    "", "+", "pgd-", "pgd-0", "pgd--1", "pgd-99999999999999999999", "pgd-1:", "pgd-1:x", "pgd-1:x=1", "pgd-1:step=nan",
    "pgd-1:step=1e999",
    "pgd-1:loss=__import__", "pgd-1:restarts=" + "9" * 5000, "pgd-1:step=!!python/name:os.system", "pgd-1:step=&a [*a]",
    "fgsm-3",
    "pgd-1:step=2001-99-99", "+".join(["pgd-1"] * 1000), "pgd-1:step={a: 1}", "\x1b[2J", "pgd-1:restarts=0", "square-0",
    "pgd-1:step=1,step=2",
    "pgd-1:step=[[[[", "strong+" * 50, "pgd-²", "pgd-1:step=0b1", "pgd-1:step=" + "[" * 2000,
)  # fmt: skip
SETTINGS = (
    "", "=", "l2", "l2=", "l2=nan", "l2=1e999", "l2=" + "9" * 5000, "l2=!!python/object/apply:os.system ['touch canary']",
    "l2=[1,[2]]",
    "l2={a: b}", "l2=2001-99-99", "l2=&a [*a]", "l2=" + "[" * 5000, "l2=0x" + "f" * 300, "l2=\x1b[2J", "__class__=1",
    "__init__=1",
    "l2=0b" + "1" * 20000, "l2=1:99:99", "l2=0o9", "l2=.inf", "l2=~", "l2=" + "a" * 10**5, "grid=99999999", "grid=-1",
    "mirror=maybe",
)  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to all values inside a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*way, key)
        yield from places(part, (*way, key))


def changed_json(value: Any, chance: random.Random, times: int) -> Iterator[tuple[str, Any]]:
    """A JSON value with one place changed, removed or doubled; and texts that are no such value."""
    ways = list(places(value))
    for _ in range(times):
        made, way, new = copy.deepcopy(value), chance.choice(ways), chance.choice(VALUES)
        where = made
        for key in way[:-1]:
            where = where[key]
        name = ".".join(map(str, way))
        if chance.random() < 0.15:
            del where[way[-1]]
            yield f"without {name}", made
        else:
            where[way[-1]] = new
            yield f"{name} is {str(new)[:20].encode('unicode_escape').decode()}", made
    for name, text in (("deep", b"[" * 10**6), ("deep objects", b'{"a":' * 10**5), ("a long number", b"9" * 10**6),
    ("nothing", b""),
                       ("UTF-16", '{"a": 1}'.encode("utf-16")), ("latin-1", b'{"a": "\xe9"}'), ("a list", b"[]"), ("NaN",
                       b"NaN"),
                       ("zeros", bytes(1000)), ("a text", b'"x"'), ("a mark", b"\xef\xbb\xbf{}"), ("HTML",
                       b"<html>")):  # fmt: skip
        yield name, text


def recipe(content: bytes | str, *more: object) -> Any:
    text = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return writes("r.yaml", text, "study", "r.yaml", "--out", "o", "--dry-run", "--quiet", *more)


def cases(chance: random.Random) -> Iterator[Case]:
    yield from _recipes(chance)
    digits = ("--data", "builtin:digits")

    def in_run(words: Sequence[object]) -> Any:
        def make(folder: Path) -> Sequence[object]:
            from hostile_kit import put_run

            put_run(folder / "run")
            return words

        return make

    words: Sequence[object]
    for threat in THREATS:
        words = ("evaluate", "run", *digits, "--threat", threat, "--attack", "pgd-1", "--examples", "4", "--quiet")
        yield Case(FAMILY, f"the threat {threat[:40]!r}", in_run(words))
    for attack in ATTACKS:
        words = ("evaluate", "run", *digits, "--threat", "linf:8/255", "--attack", attack, "--examples", "4", "--quiet")
        yield Case(FAMILY, f"the attack {attack[:40]!r}", in_run(words))
    for setting in SETTINGS:
        words = ("transfer", "--source", "run", *digits, "--strategy", "linear-probe", "--shots", "2", "--set", setting,
        "--out", "o",
                 "--quiet")  # fmt: skip
        yield Case(FAMILY, f"the setting {setting[:40]!r}", in_run(words))
    for name in ("curve", "also", "certify", "time-limit", "corruptions", "class-map", "split", "device", "weights"):
        for value in ("", "nan", "-1", "9" * 5000, "\x1b[2J", "../../x", "1e400", "!!python/name:os.system"):
            words = ("evaluate", "run", *digits, "--threat", "linf:8/255", "--attack", "pgd-1", "--examples", "4",
            f"--{name}", value,
                     "--quiet")  # fmt: skip
            yield Case(FAMILY, f"--{name} {value[:20]!r}", in_run(words))
    yield from _class_maps(chance)


def _recipes(chance: random.Random) -> Iterator[Case]:
    yield Case(FAMILY, "a recipe that is right", recipe(RECIPE), "read")
    for tag in TAGS:
        yield Case(FAMILY, f"recipe: {tag[:40]}", recipe(RECIPE + f"notes: {tag}\n"))
        yield Case(FAMILY, f"recipe, the title: {tag[:40]}", recipe(RECIPE.replace("a title", tag)))
        yield Case(FAMILY, f"recipe, all: {tag[:40]}", recipe(tag), REFUSED)
    bombs = {
        "an alias bomb": YAML_BOMB, "an alias bomb as sources": YAML_BOMB + RECIPE.replace("{robust: {use: bundled}}", "*a39"),
        "an alias bomb as notes": YAML_BOMB + RECIPE + "notes: *a39\n", "an alias bomb as a source": YAML_BOMB + RECIPE.replace(
            "{use: bundled}", "*a39"), "an alias bomb as a setting": YAML_BOMB + RECIPE.replace("[1.0, 0.1]", "*a39"),
        "an alias bomb as claims": YAML_BOMB + RECIPE.replace("strategy: probe, set", "strategy: *a39, set"),
        "an alias bomb as a name": YAML_BOMB + RECIPE.replace("name: small", "name: *a39"),
        "an alias bomb as a scale": YAML_BOMB + RECIPE.replace("laptop: {}", "laptop: {notes: *a39}"),
        "an alias bomb as data": YAML_BOMB + RECIPE.replace('"builtin:digits"', "*a39"),
        "an alias bomb as seeds": YAML_BOMB + RECIPE.replace("shots: 5", "shots: 5, seed: *a39"),
        "merges": "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1,
        12)),
        "itself": "&a {name: *a, title: *a, sources: *a}", "itself as a source": RECIPE.replace("{use: bundled}",
        "&b {use: *b}"),
        "itself as a setting": RECIPE.replace("[1.0, 0.1]", "&b [*b]"), "deep lists": "[" * 100_000,
        "deep maps": "{a: " * 10_000,
        "deep blocks": "".join(" " * i + f"a{i}:\n" for i in range(3000)), "deep dashes": "- " * 100_000,
        "a grid of billions": RECIPE.replace("shots: 5", f"shots: 5, seed: [{', '.join(map(str, range(3000)))}]").replace(
            "[1.0, 0.1]", f"[{', '.join(map(str, range(1, 3000)))}]"),
        "settings multiplied": RECIPE.replace("each: {l2: [1.0, 0.1]}", "each: {" + ", ".join(
            f"s{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9]" for i in range(30)) + "}"),
        "a million scales": RECIPE + "".join(f"  s{i}: {{}}\n" for i in range(20_000)),
        "a long number": RECIPE.replace("shots: 5", "shots: " + "9" * 5000), "a hexadecimal": RECIPE.replace("5}",
        "0x" + "f" * 5000 + "}"),
        "binary digits": RECIPE.replace("shots: 5", "shots: 0b" + "1" * 50_000), "base 60": RECIPE.replace("5}",
        "1" + ":59" * 5000 + "}"),
        "a date that is none": RECIPE.replace("a title", "2001-99-99"), "a time": RECIPE.replace("a title",
        "2001-12-14 99:99:99"),
        "two documents": RECIPE + "---\na: 1\n", "a key twice": RECIPE + "name: other\n",
        "an unhashable key": RECIPE + "? [a]\n: b\n",
        "a key that is a map": RECIPE + "? {a: b}\n: c\n", "numbers as keys": RECIPE.replace("robust:", "3:"),
        "None as a key": RECIPE.replace("robust:", "~:"), "an anchor that is not there": RECIPE + "notes: *none\n",
        "a directive": "%YAML 9.9\n---\n" + RECIPE,
        "a tag's directive": "%TAG ! tag:yaml.org,2002:python/\n---\n" + RECIPE + "notes: !x 1\n",
        "zero bytes": RECIPE + "\0", "an escape": RECIPE + "notes: \"\\e[2J\\x9b\\u202e\"\n",
        "a surrogate": RECIPE + 'notes: "\\ud800"\n',
        "a name that climbs": RECIPE.replace("name: small", "name: ../../canary"),
        "a title of HTML": RECIPE.replace("a title", "<script>"),
        "data that climbs": RECIPE.replace("builtin:digits", "../../../../etc"),
        "a megabyte of comments": "#" * 2**20 + "\n" + RECIPE,
        "tabs": RECIPE.replace("  ", "\t"),
    }  # fmt: skip
    for name, text in bombs.items():
        yield Case(FAMILY, f"recipe: {name}", recipe(text))
    for encoding in ("utf-16", "utf-32", "latin-1", "utf-7", "cp037", "utf-8-sig"):
        encoded = RECIPE.replace("a title", "é" if encoding != "cp037" else "x").encode(encoding)
        yield Case(FAMILY, f"recipe in {encoding}", recipe(encoded))
    content = RECIPE.encode()
    for how, new in [*cut(content), *flipped(content, chance, 30), *spliced(content, chance, 30)]:
        yield Case(FAMILY, f"recipe {how}", recipe(new))
    import yaml

    for what, value in changed_json(yaml.safe_load(RECIPE), chance, 80):
        content = value
        if not isinstance(value, bytes):
            content = yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
        yield Case(FAMILY, f"recipe: {what}", recipe(content))
    for change in ("", "=", "grid=1", "grid.0.seed=[0, 1]", "grid.9.seed=1", "grid.x=1", "name.x=1", "a.b.c.d=1", ".=1",
    "..=1", "grid.-1=1",
                   "grid.²=1", "grid.0.seed=" + "[" * 3000, "title=\x1b[2J", "grid.0=" + "x" * 10**5, "strategies=3",
                   "sources.robust=~"):  # fmt: skip
        yield Case(FAMILY, f"recipe --set {change[:30]!r}", recipe(RECIPE, "--set", change))


def _class_maps(chance: random.Random) -> Iterator[Case]:
    from hostile_kit import put_run

    maps: dict[str, bytes] = {
        "m.csv": b"a,b\n", "climb.csv": b"../../x,0\n", "formula.csv": b"=cmd|' /C calc'!A0,0\n", "columns.csv": b"a," * 10**6,
        "cell.csv": b'"' + b"x" * 10**6 + b'",1\n', "quotes.csv": b'"a,b\n', "zero.csv": b"a\0,b\n", "latin.csv": b"\xe9,b\n",
        "utf16.csv": "a,b\n".encode("utf-16"), "deep.json": b"[" * 10**6, "deep.yaml": b"[" * 10**5,
        "bomb.yaml": YAML_BOMB.encode(),
        "bomb2.yaml": (YAML_BOMB + "b: *a39\n").encode(), "number.json": b"9" * 10**6,
        "tag.yaml": b"a: !!python/name:os.system\n",
        "list.json": b"[]", "nested.json": b'{"a": {"b": 1}}', "null.json": b"null", "empty.yaml": b"",
        "escape.json": b'{"\\u001b[2J": "0"}',
        "surrogate.json": b'{"\\ud800": "0"}', "itself.yaml": b"&a {b: *a}", "key.yaml": b"? [a]\n: b", "none.txt": b"a: b",
        "dir": b"",
    }  # fmt: skip
    for name, content in maps.items():

        def make(folder: Path, name: str = name, content: bytes = content) -> Sequence[object]:
            put_run(folder / "run")
            put(folder, {name: content})
            return ("evaluate", "run", "--data", "builtin:digits", "--threat", "linf:8/255", "--attack", "pgd-1",
            "--examples", "4",
                    "--class-map", name, "--quiet")  # fmt: skip

        yield Case(FAMILY, f"class map {name}", make, REFUSED)
