"""Parsers of the project, each a function of bytes, with inputs to begin with: what a fuzzer drives."""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import hostile_case  # noqa: F401 - the helpers of the tests are on the path from here on
import hostile_texts
from hostile_kit import flipped, run_folder, spliced

from robust_transfer.errors import RobustTransferError


@dataclass(frozen=True)
class Parser:
    """``parse(content)`` returns, or raises one of ``refusals``; ``seeds``: harmless inputs and some that are not.

    A ``lenient`` one refuses nothing: what it cannot read, it takes for nothing.
    """

    parse: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    refusals: tuple[type[Exception], ...] = (RobustTransferError,)
    lenient: bool = False

    def refuses(self, content: bytes) -> bool:
        """True for content that is refused, False for one that is read. Anything else that is raised escapes."""
        try:
            self.parse(content)
        except self.refusals:
            return True
        return False


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz"))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


# ---------------------------------------------------------------- weights


def _weights(content: bytes) -> object:
    from robust_transfer.foreign.reading import read_weights

    return read_weights(_file("x.pt", content))


def _pickles() -> list[bytes]:
    from foreign_files import push, text, whole
    from foreign_hostile import BROKEN, HOSTILE

    made = [
        whole(b"}(", text("weight"), push([1.0]), text("evil"), value, b"u") for value in list(HOSTILE.values())[:60]
    ]
    return [*made, *(content for content in BROKEN.values() if len(content) < 2000)]


def _files_of_weights() -> list[bytes]:
    import torch
    from foreign_files import saved, storage, tensor, text, whole, write_zip
    from foreign_hostile import LIES

    state = {"a.weight": torch.ones(2, 3), "b": torch.arange(4)}
    made = [saved(state), saved(state, _use_new_zipfile_serialization=False)]
    good = tensor(storage("0", 6), 0, (2, 3), (3, 1))
    place = _folder() / "seed.pt"
    return made + [
        write_zip(place, whole(b"}", text("a"), each, b"s"), _0=bytes(24)).read_bytes()
        for each in [good, *LIES.values()]
    ]


def _arrays() -> list[bytes]:
    import numpy as np

    one, several = io.BytesIO(), io.BytesIO()
    np.save(one, np.ones((2, 3), np.float32))
    np.savez(several, a=np.ones(3), b=np.zeros((1, 2), np.int64))
    return [one.getvalue(), several.getvalue()]


def _header(content: bytes) -> object:
    from robust_transfer.weights_file import parse_header

    return parse_header(content, 8 + len(content) + 8)


def _headers() -> list[bytes]:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return [
        json.dumps(each).encode()
        for each in ({"a": one}, {"__metadata__": {"x": "y"}, "a": one}, {"a": {**one, "shape": [2**40]}})
    ]


# ---------------------------------------------------------------- archives, tables, images


def _zip(content: bytes) -> object:
    from robust_transfer.data.formats.zips import ZipArchive

    archive = ZipArchive(_file("x.zip", content))
    return [_member(archive, name) for name in list(archive.members)[:20]]


def _tar(content: bytes) -> object:
    from robust_transfer.data.formats.archive import open_archive

    archive = open_archive(_file("x.tar", content))
    return [_member(archive, name) for name in list(archive.members)[:20]]


def _member(archive: object, name: str) -> object:
    import zlib

    try:
        return archive.read(name)  # type: ignore[attr-defined]
    except (ValueError, OSError, zlib.error) as error:  # what its callers take for a member that cannot be read
        return error


def _archives(kind: str) -> Callable[[], list[bytes]]:
    def made() -> list[bytes]:
        from archives import pack

        files = {"train/cat/0.png": b"x" * 40, "train/dog/1.png": b"yz"}
        plain = pack(_folder() / f"seed.{kind}", files).read_bytes()
        return [plain, pack(_folder() / f"links.{kind}", files, {"train/cat/l.png": "../dog/1.png"}).read_bytes()]

    return made


def _table(ending: str) -> Callable[[bytes], object]:
    def parse(content: bytes) -> object:
        from robust_transfer.data.formats.table_text import read_text_table

        return read_text_table(content, Path(f"x{ending}"))

    return parse


def _image(content: bytes) -> object:
    from robust_transfer.data.decode import open_image, to_rgb

    return to_rgb(open_image(io.BytesIO(content)))


# ---------------------------------------------------------------- texts


def _recipe(content: bytes) -> object:
    from robust_transfer.study.reading import load_recipe

    return load_recipe(_file("x.yaml", content))


def _class_map(content: bytes) -> object:
    from robust_transfer.data.class_map import read_class_map

    kind = {0: "csv", 1: "json"}.get(content[0] % 3 if content else 0, "yaml")
    return read_class_map(_file(f"x.{kind}", content[1:]))


def _card(content: bytes) -> object:
    from robust_transfer.checkpoint import read_card

    return read_card(_file("card.json", content))


def _evaluation(content: bytes) -> object:
    from robust_transfer.evaluation import load_evaluation

    (_folder() / "outcomes.parquet").write_bytes(run_folder()["outcomes.parquet"])
    return load_evaluation(_file("evaluation.json", content).parent)


def _manifest(content: bytes) -> object:
    from robust_transfer.manifest import FILE, Manifest

    return Manifest(_file(FILE, content).parent).names


def _threat(content: bytes) -> object:
    from robust_transfer.threat import Threat

    return str(Threat.parse(_text(content)))


def _attack(content: bytes) -> object:
    from robust_transfer.attacks.naming import parse_attack

    return parse_attack(_text(content))


def _setting(content: bytes) -> object:
    from robust_transfer.config import parse_settings

    return parse_settings([_text(content)])


def _address(content: bytes) -> object:
    from robust_transfer.download.addresses import read_address

    return read_address(_text(content))


def _page(content: bytes) -> object:
    from robust_transfer.download.pages import Page, is_page

    found = Page(content, "https://drive.google.com/x")
    return is_page(content), found.says, found.leads_to


def _encoded(texts: Sequence[str]) -> Callable[[], list[bytes]]:
    return lambda: [each.encode("utf-8", "surrogatepass") for each in texts if len(each) < 1000]


def _json_of(name: str) -> Callable[[], list[bytes]]:
    return lambda: [run_folder()[name]]


def _pictures() -> list[bytes]:
    from hostile_kit import image_files

    return list(image_files().values())


FORM = b"<html><title>x</title><form id='download-form' action='/d'><input type=hidden name=a value=b>"
UNREADABLE: tuple[type[Exception], ...] = (
    Exception,
)  # Pillow's plugins raise whatever they meet, and all of it is one sentence
PARSERS: Mapping[str, Parser] = {
    "pickle": Parser(_weights, _pickles),
    "PyTorch file": Parser(_weights, _files_of_weights),
    "NumPy file": Parser(_weights, _arrays),
    "safetensors header": Parser(_header, _headers, (ValueError,)),
    "zip of images": Parser(_zip, _archives("zip")),
    "tar of images": Parser(_tar, _archives("tar")),
    "CSV": Parser(_table(".csv"), lambda: [b"image,label\na.png,cat\n", b'image;label\n"a;b.png";x\n']),
    "JSON lines": Parser(_table(".jsonl"), lambda: [b'{"image": "a.png", "label": 1}\n{"image": null}\n']),
    "recipe": Parser(_recipe, lambda: [hostile_texts.RECIPE.encode(), *(tag.encode() for tag in hostile_texts.TAGS)]),
    "class map": Parser(_class_map, lambda: [b"0a,b\n", b'1{"a": "b"}', b"2a: b\n", b"2&a {b: *a}"]),
    "card": Parser(_card, _json_of("card.json")),
    "evaluation": Parser(_evaluation, _json_of("evaluation.json")),
    "manifest": Parser(_manifest, lambda: [b'["card.json", "state/x"]', b"[]"], lenient=True),
    "threat": Parser(_threat, _encoded(["linf:8/255", "l2:0.5", *hostile_texts.THREATS])),
    "attack": Parser(_attack, _encoded(["pgd-20:loss=margin,restarts=10", "strong", *hostile_texts.ATTACKS])),
    "setting": Parser(_setting, _encoded(["l2=0.1", "shares=[0.1, 0.2]", *hostile_texts.SETTINGS])),
    "address": Parser(_address, _encoded(["https://host/file-11ad3fa6.pth", "gdrive:abcdefghijkl", "http://[::1]/x",
    "http://u:p@h/"])),
    "page of a server": Parser(_page, lambda: [FORM], lenient=True),
    "image": Parser(_image, _pictures, UNREADABLE),
}  # fmt: skip


def mutated(name: str, times: int, seed: int = 0) -> list[bytes]:
    """Inputs for a parser: its seeds, and so many changed ones, drawn from ``seed``."""
    chance, seeds = random.Random(f"{name} {seed}"), list(PARSERS[name].seeds())
    made = list(seeds)
    for _ in range(times):
        content = chance.choice(seeds)
        if content:
            change = chance.choice((flipped, spliced))
            made += [new for _, new in change(content, chance, 1)]
    return made
