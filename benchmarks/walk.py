"""A newcomer's walk, timed: photos as a zip or a CSV to a chosen network, its report, predictions, an ONNX file at work.

python benchmarks/walk.py --data PATH/TO/imagenette --out FOLDER [--as zip,csv] [--time-limit 5m]
python benchmarks/walk.py --data PATH/TO/imagenette --out FOLDER --source-format madry [--source bundled]

200 photos of five classes are written as files, then packed or listed. Each command runs as it would in a shell, in a process
of its own; the last is the script of docs/using.md, which classifies with onnxruntime and without this package. Its classes
have to be those of `predict`.

``--source-format madry``: the newcomer also has a robust checkpoint as MadryLab's package robustness writes it. Its weights
are those of ``--source``: bundled, or a run folder of a ResNet that timm has, which then reads 224 pixels as ImageNet's do.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import torch
from as_published import as_madry
from common import header
from PIL import Image

import robust_transfer as rt

ROOT = Path(__file__).parents[1]
CLASSES, EACH = 5, 40


def photos(data: str, folder: Path) -> list[tuple[Path, str]]:
    """Files below ``folder``, each with the name of its class."""
    split, found = rt.load_task(data, val=0).train, []
    for label in range(CLASSES):
        name = split.class_names[label].split(",")[0].replace(" ", "-")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in (split.labels == label).nonzero()[:EACH, 0].tolist():
            path = folder / name / f"{number}.jpg"
            (pixels,) = split.fetch(torch.tensor([number]))
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=92)
            found.append((path, name))
    return found


def packed(files: list[tuple[Path, str]], kind: str, out: Path) -> Path:
    """Data set of these files, as people send one."""
    if kind == "zip":
        path = out / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file, name in files:
                archive.write(file, f"photos/{name}/{file.name}")
        return path
    path = out / "labels.csv"
    with path.open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "label"])
        writer.writerows([os.path.relpath(file, out), name] for file, name in files)
    return path


def script() -> str:
    """Script of docs/using.md that needs nothing of ours."""
    (found,) = [
        block for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/using.md").read_text(), re.DOTALL)
        if "onnxruntime.InferenceSession" in block
    ]  # fmt: skip
    return str(found)


def commands(data: str, photos: str, limit: str, source: str, threat: str) -> dict[str, list[str]]:
    """What is typed, by name; with a ``source`` of somebody else's, `inspect` says what it is taken for."""
    tool = [sys.executable, "-m", "robust_transfer.cli"]
    own = ["--source", source, "--threat", threat] if source else []
    looked = {"inspect": [*tool, "inspect", source, "--data", data]} if source else {}
    return {
        "data": [*tool, "data", data, "--contact-sheet", "sheet.png"],
        **looked,
        "choose": [*tool, "choose", "--data", data, *own, "--time-limit", limit, "--out", "chosen"],
        "predict": [*tool, "predict", "chosen", photos, "--json"],
        "export": [*tool, "export", "chosen", "--to", "onnx", "--out", "model.onnx"],
    }


def walk(typed: dict[str, list[str]], photos: Path, out: Path) -> None:
    """All commands and the script, each with its time; then what has to be there, and what has to be the same."""
    (out / "classify.py").write_text(script())
    files = sorted(os.path.relpath(file, out) for file in photos.iterdir())
    typed = {**typed, "classify": [sys.executable, "-I", "classify.py", *files]}
    whole, said = 0.0, dict[str, str]()
    for name, command in typed.items():
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=out, capture_output=True, text=True)
        whole += (took := time.perf_counter() - begun)
        said[name] = done.stdout
        print(f"\n{name}: {took:.1f} s, status {done.returncode}\n{done.stdout[-3000:]}", flush=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
    page = out / "chosen" / "report.html"
    print(f"{len(typed)} commands, {whole:.0f} s; {page.name}: {page.stat().st_size / 1e6:.2f} MB", flush=True)
    predicted = {one["file"]: one["top"][0]["class"] for one in map(json.loads, said["predict"].splitlines())}
    classified = dict(map(answer, said["classify"].splitlines()))
    if predicted != classified:
        sys.exit(f"the script names other classes than predict does:\n{predicted}\n{classified}")
    print(f"the script and predict name the same classes on all of {len(predicted)} photos", flush=True)


def answer(line: str) -> tuple[str, str]:
    """Photo and its class, from a line of the script: ``tench 93.1 % path``."""
    found = re.fullmatch(r"(.+?) [\d.]+ % (.+)", line)
    assert found is not None, line
    return found[2], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="photos to make files of")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--as", dest="kinds", default="zip,csv")
    parser.add_argument("--time-limit", default="5m")
    parser.add_argument("--source-format", choices=["madry"], help="bring a source as a file of this format")
    parser.add_argument("--source", default="bundled", help="whose weights are in that file")
    given = parser.parse_args()
    header("a newcomer's walk", photos=CLASSES * EACH, classes=CLASSES, source=given.source_format or "the package's")
    for kind in given.kinds.split(","):
        out = given.out.resolve() / kind
        files = photos(given.data, out / "files")
        source, threat = "", ""
        if given.source_format:
            own = rt.load_source(given.source)
            source, threat = as_madry(own, out / "net.pt").name, str(own.card.threat)
            print(f"\n{source}: {own.card.network.name}, {own.card.method} on {own.card.data['name']} for {threat}")
        print(f"\n== {kind}", flush=True)
        data, looked_at = packed(files, kind, out).name, files[0][0].parent
        typed = commands(data, os.path.relpath(looked_at, out), given.time_limit, source, threat)
        walk(typed, looked_at, out)


if __name__ == "__main__":
    main()
