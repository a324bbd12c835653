"""A newcomer's walk, timed: photos as a zip or a CSV to a chosen network, its report, predictions, an ONNX file at work.

python benchmarks/walk.py --data PATH/TO/imagenette --out FOLDER [--as zip,csv] [--time-limit 5m]

200 photos of five classes are written as files, then packed or listed. Each command runs as it would in a shell, in a process
of its own; the last is the script of docs/using.md, which classifies with onnxruntime and without this package.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import torch
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


def walk(data: Path, photo: Path, out: Path, limit: str) -> None:
    """All commands, each with its time."""
    tool, run = [sys.executable, "-m", "robust_transfer.cli"], out / "chosen"
    (out / "classify.py").write_text(script())
    commands = {
        "data": [*tool, "data", str(data), "--contact-sheet", str(out / "sheet.png")],
        "choose": [*tool, "choose", "--data", str(data), "--time-limit", limit, "--out", str(run)],
        "predict": [*tool, "predict", str(run), str(photo.parent)],
        "export": [*tool, "export", str(run), "--to", "onnx", "--out", str(out / "model.onnx")],
        "classify": [sys.executable, "-I", "classify.py", str(photo)],
    }
    whole = 0.0
    for name, command in commands.items():
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=out, capture_output=True, text=True)
        whole += (took := time.perf_counter() - begun)
        print(f"\n{name}: {took:.1f} s, status {done.returncode}\n{done.stdout[-3000:]}", flush=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
    page = run / "report.html"
    print(f"{len(commands)} commands, {whole:.0f} s; {page.name}: {page.stat().st_size / 1e6:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="photos to make files of")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--as", dest="kinds", default="zip,csv")
    parser.add_argument("--time-limit", default="5m")
    given = parser.parse_args()
    header("a newcomer's walk", photos=CLASSES * EACH, classes=CLASSES)
    for kind in given.kinds.split(","):
        out = given.out.resolve() / kind
        files = photos(given.data, out / "files")
        print(f"\n== {kind}", flush=True)
        walk(packed(files, kind, out), files[0][0], out, given.time_limit)


if __name__ == "__main__":
    main()
