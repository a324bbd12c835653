"""Tables of image files: paths that climb, formulas, encodings, a million columns; and parquet that is damaged or lies."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_case import REFUSED, Case
from hostile_kit import cut, flipped, put, spliced

from image_tables import files as image_rows  # isort: skip
from images import encoded, picture, write_parquet  # isort: skip

FAMILY = "tables"
PATHS = ("../../../../etc/passwd", "/etc/passwd", "/dev/zero", "", ".", "..", "~/x.png", "file:///etc/passwd",
"http://127.0.0.1:9/x.png",
         "a\0b.png", "x" * 5000 + ".png", "\x1b[2J.png", "images", "images/0.png/x", "=cmd|' /C calc'!A0", "C:\\x.png",
         "images/../../x.png",
         "images/fifo", "images/loop.png", "none.png", "\u202e.png", "<script>.png")  # fmt: skip
LABELS = ("", " ", "=1+1", "@SUM(A1)", "-1", "+1", "1e400", "nan", "NaN", "null", "None", "\x1b[31mred", "<b>x</b>",
"x" * 100_000, "\u202e",
          "9" * 5000, "a,b", "True", "../../x", "a/b", "\u0000".strip("\0") + "\x7f", "%s", "{0}", "2001-99-99", "\u2028",
          "\ufeff")  # fmt: skip
MIXED: tuple[object, ...] = (1, "a", None, 1.5, [1], {}, True)
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-7", "cp037", "utf-8-sig", "shift_jis")


def cases(chance: random.Random) -> Iterator[Case]:
    yield from _texts(chance)
    yield from _parquet(chance)


def table(rows: Sequence[Sequence[str]], ending: str = ".csv") -> bytes:
    if ending == ".jsonl":
        return "".join(json.dumps(dict(zip(rows[0], row, strict=False))) + "\n" for row in rows[1:]).encode()
    between = "\t" if ending == ".tsv" else ","
    return "".join(between.join(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def _make(folder: Path, name: str, content: bytes, command: str) -> Sequence[object]:
    data = folder / "pets"
    image_rows(data / "images", 8)
    (data / "images/loop.png").symlink_to("loop.png")
    import os

    os.mkfifo(data / "images/fifo")
    put(data, {name: content})
    if command == "data":
        return "data", "pets", "--quiet"
    return "transfer", "--source", "bundled", "--data", "pets", "--strategy", "linear-probe", "--out", "run", "--quiet"


def _case(chance: random.Random, name: str, file: str, content: bytes, must: str | None = None) -> Case:
    command = chance.choice(("data", "data", "data", "transfer"))
    return Case(FAMILY, f"{name}, {command}", partial(_make, name=file, content=content, command=command), must)


def _rows(path: str | None = None, label: str | None = None) -> list[list[str]]:
    rows = [["image", "label"], *([f"images/{i}.png", ("cat", "dog")[i % 2]] for i in range(8))]
    rows[3] = [path if path is not None else rows[3][0], label if label is not None else rows[3][1]]
    return rows


def _texts(chance: random.Random) -> Iterator[Case]:
    for path in PATHS:
        for ending in (".csv", ".jsonl"):
            yield _case(
                chance, f"{ending}: the path {path[:30]!r}", f"train{ending}", table(_rows(path=path), ending), REFUSED
            )
    for label in LABELS:
        for ending in (".csv", ".tsv", ".jsonl"):
            yield _case(
                chance, f"{ending}: the label {label[:30]!r}", f"train{ending}", table(_rows(label=label), ending)
            )
    good = table(_rows())
    for encoding in ENCODINGS:
        yield _case(chance, f"in {encoding}", "train.csv", table(_rows(label="c"), ".csv").decode().encode(encoding))
    head = "image,label," + ",".join(f"c{i}" for i in range(10**6))
    made: dict[str, bytes] = {
        "a million columns": (head + "\n").encode() + b"images/0.png,cat" + b"," * 10**6 + b"\n",
        "a million empty columns": b"image,label" + b"," * 10**6 + b"\n",
        "100,000 rows": b"image,label\n" + b"images/0.png,cat\n" * 10**5,
        "50,000 classes": b"image,label\n" + b"".join(b"images/0.png,c%d\n" % i for i in range(50_000)),
        "a cell of 16 MB": b"image,label\nimages/0.png," + b"x" * (1 << 24) + b"\n",
        "a quoted cell of 16 MB": b'image,label\nimages/0.png,"' + b"x\n" * (1 << 23) + b'"\n',
        "16 MB of new lines": b"image,label\n" + b"\n" * (1 << 24),
        "16 MB without a new line": b"image,label" + b"x" * (1 << 24),
        "16 MB of quotes": b'"' * (1 << 24),
        "an open quote": b'image,label\n"images/0.png,cat\n' * 10,
        "a short row": good + b"images/0.png\n", "a long row": good + b"images/0.png,cat,dog\n",
        "no header": good.split(b"\n", 1)[1],
        "only a header": b"image,label\n", "nothing": b"", "spaces": b" \n \n", "a zero byte": good + b"images/0.png,ca\0t\n",
        "columns twice": b"image,label,label\nimages/0.png,cat,dog\n", "an empty name": b"image,\nimages/0.png,cat\n",
        "carriage returns": good.replace(b"\n", b"\r"), "mixed ends": good.replace(b"\n", b"\r\n", 3),
        "vertical tabs": good.replace(b"\n", b"\x0b"),
        "a formula as a header": b"=1+1,label\nimages/0.png,cat\n",
        "an escape as a header": b"image,\x1b[2Jlabel\nimages/0.png,cat\n",
        "HTML as a header": b"image,<script>\nimages/0.png,cat\n", "HTML": b"<html><body>no table</body></html>",
        "a pickle": b"\x80\x02cos\nsystem\n.",
        "wrong split": b"image,label,split\nimages/0.png,cat,\x1b[2J\n",
        "lone surrogates": b"image,label\nimages/0.png,\xed\xa0\x80\n",
    }  # fmt: skip
    for name, content in made.items():
        for file in ("train.csv", "metadata.csv"):
            yield _case(chance, f"{file}: {name}", file, content)
    lines: dict[str, bytes] = {
        "deep": b'{"image": ' + b"[" * 10**6, "deep and closed": b'{"image": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        "a list": b"[1]\n",
        "a number": b"1\n", "a long number": b'{"image": "images/0.png", "label": ' + b"9" * 10**6 + b"}\n",
        "NaN": b'{"image": "images/0.png", "label": NaN}\n', "infinity": b'{"image": "images/0.png", "label": 1e999}\n',
        "a key twice": b'{"image": "a", "image": "b"}\n', "objects": b'{"image": {"a": 1}, "label": {"b": [2]}}\n' * 8,
        "null": b'{"image": null, "label": null}\n' * 8, "surrogates": b'{"image": "images/0.png", "label": "\\ud800"}\n' * 8,
        "numbers as paths": b'{"image": 3, "label": 4}\n' * 8, "true": b'{"image": true, "label": false}\n' * 8,
        "other keys in each line": b"".join(b'{"k%d": 1}\n' % i for i in range(5000)), "mixed labels": b"".join(
            json.dumps({"image": f"images/{i}.png", "label": value}).encode() + b"\n" for i, value in enumerate(MIXED)),
        "large numbers": b"".join(b'{"image": "images/%d.png", "label": %d}\n' % (i % 8, 10**30 + i) for i in range(8)),
        "floats": b"".join(b'{"image": "images/%d.png", "label": 0.%d}\n' % (i % 8, i) for i in range(8)),
        "an escape as a key": b'{"\\u001b[2J": "images/0.png"}\n',
    }  # fmt: skip
    for name, content in lines.items():
        yield _case(chance, f"train.jsonl: {name}", "train.jsonl", content)
    for ending in (".csv", ".jsonl"):
        content = table(_rows(), ending)
        for how, new in [*cut(content), *flipped(content, chance, 12), *spliced(content, chance, 12)]:
            yield _case(chance, f"{ending} {how}", f"train{ending}", new)


# ---------------------------------------------------------------- parquet


def _parquet_make(folder: Path, files: Mapping[str, bytes]) -> Sequence[object]:
    put(folder / "pets", files)
    return "data", "pets", "--quiet"


def _good(folder: Path, **options: object) -> bytes:
    return write_parquet(folder / "x.parquet", [i % 2 for i in range(8)], names=["cat", "dog"], **options).read_bytes()  # type: ignore[arg-type]


def _as_parquet(columns: Mapping[str, object], metadata: Mapping[bytes, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    made = pa.table(dict(columns))
    pq.write_table(made.replace_schema_metadata(dict(metadata)) if metadata is not None else made, file)
    return file.getvalue()


def _parquet(chance: random.Random) -> Iterator[Case]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        good = _good(Path(folder))
    name = "train-00000-of-00001.parquet"

    def case(what: str, content: bytes, must: str | None = None) -> Case:
        return Case(FAMILY, f"parquet: {what}", partial(_parquet_make, files={name: content}), must)

    for how, new in [
        *cut(good),
        *flipped(good, chance, 25),
        *flipped(good[::-1], chance, 0),
        *spliced(good, chance, 25),
    ]:
        yield case(how, new, REFUSED if how.startswith("cut") else None)
    tail = len(good) - 600
    for number in range(40):  # in its footer, where all that it says of itself stands
        made = bytearray(good)
        made[chance.randrange(tail, len(good))] ^= 1 << chance.randrange(8)
        yield case(f"footer flipped {number}", bytes(made))
    images = [{"bytes": encoded(picture(0, i)), "path": None} for i in range(4)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array(images, struct)
    for label in (pa.array([0, 1, 0, 10**18]), pa.array([0, 1, 0, -5]), pa.array([0.5, 1.5, 0.5, 1.5]), pa.array([None, None,
    None, None], pa.int64()),
                  pa.array(["a", "\x1b[2J", "a", "<b>"]), pa.array([[1], [2], [1], [2]]), pa.array([b"a", b"\xff", b"a", b"b"]),
                  pa.array([True, False, True, False]), pa.array([2**63 - 1, 0, 1, 2]), pa.array([float("nan"), 1.0, 1.0,
                  1.0])):  # fmt: skip
        yield case(f"labels {label.type!s} {str(label[-1])[:20]!r}", _as_parquet({"image": column, "label": label}))
    for what, cells in (
        ("paths that climb", [{"bytes": None, "path": "../../../etc/passwd"}] * 4), ("no bytes", [{"bytes": None,
        "path": None}] * 4),
        ("empty bytes", [{"bytes": b"", "path": None}] * 4), ("addresses", [{"bytes": None,
        "path": "http://127.0.0.1:9/x.png"}] * 4),
        ("a null", [None] * 4), ("paths with escapes", [{"bytes": None, "path": "\x1b[2J.png"}] * 4), ("devices",
        [{"bytes": None, "path": "/dev/zero"}] * 4),
    ):  # fmt: skip
        yield case(what, _as_parquet({"image": pa.array(cells, struct), "label": pa.array([0, 1, 0, 1])}), REFUSED)
    features = ("null", "[]", "{}", '{"info": 3}', '{"info": {"features": []}}',
    '{"info": {"features": {"label": {"names": 3, "_type": "ClassLabel"}}}}',
                '{"info": {"features": {"label": {"names": ["a", "a"], "_type": "ClassLabel"}}}}', "[" * 10**5, "x",
                '{"info": {"features": {"label": {"_type": "os.system"}}}}',
                '{"info": {"features": {"label": {"names": ["\\u001b[2J", "<script>"], "_type": "ClassLabel"}}}}',
                '{"info": {"features": {"label": {"num_classes": 1000000000, "_type": "ClassLabel"}}}}',
                '{"info": {"features": {"label": {"dtype": "int999", "_type": "Value"}}}}',
                "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"))  # fmt: skip
    for feature in features:
        content = _as_parquet({"image": column, "label": pa.array([0, 1, 0, 1])}, {b"huggingface": feature.encode()})
        yield case(f"features {feature[:40]!r}", content)
    wide = {f"c{i}": pa.array([0]) for i in range(5000)}
    yield case("5,000 columns", _as_parquet(wide), REFUSED)
    yield case("no columns", _as_parquet({}), REFUSED)
    yield case("no rows", _as_parquet({"image": pa.array([], struct), "label": pa.array([], pa.int64())}), REFUSED)
    yield case("a column twice", _twice(column), REFUSED)
    zeros = pa.array([{"bytes": bytes(1 << 24), "path": None}] * 4, struct)
    yield case("cells of 16 MB", _as_parquet({"image": zeros, "label": pa.array([0, 1, 0, 1])}))
    for title in ("\x1b[2J", "<script>", "=1+1", "\u202e", "x" * 10**5):
        yield case(f"a column {title[:10]!r}", _as_parquet({title: column, "label": pa.array([0, 1, 0, 1])}))
        yield case(f"a label column {title[:10]!r}", _as_parquet({"image": column, title: pa.array([0, 1, 0, 1])}))
    for other in ("pickle", "zip", "html"):
        content = {"pickle": b"\x80\x02cos\nsystem\n.", "zip": b"PK\3\4" + bytes(100), "html": b"<html>"}[other]
        yield case(f"{other} in its place", content, REFUSED)


def _twice(column: pa.Array) -> bytes:
    file = io.BytesIO()
    labels = pa.array([0, 1, 0, 1])
    pq.write_table(pa.Table.from_arrays([column, labels, labels], names=["image", "label", "label"]), file)
    return file.getvalue()
