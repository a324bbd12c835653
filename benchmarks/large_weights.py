"""Peak memory and seconds of loading and saving large weights, each in a process of its own, as a ratio to the file.

    python benchmarks/large_weights.py [--network vit_large_patch16_224] [--repeats 3] [--only WORDS]

A run folder (load, and save from a network that is there), and foreign files: read, and copied in float32 one tensor
after the other, as importing does. The peak is the resident memory's, beyond that of the process before. It counts the
network itself, and pages of the file that are mapped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import header
from safetensors.torch import save_file

from robust_transfer.checkpoint import WEIGHTS, Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.preprocessing import Preprocessing

WAYS = ("load a run folder", "load a float16 run folder", "save a run folder")
FOREIGN = ("PyTorch zip", "PyTorch legacy", "pickle of PyTorch", "safetensors", "float16 safetensors", "bfloat16 zip")


def peak() -> int:
    """Highest resident memory of this process so far, in bytes. Linux's own count is not inherited from a parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def source(network: str) -> Checkpoint:
    torch.manual_seed(0)
    size = 224 if "224" in network else 32
    spec = NetworkSpec(name=network, num_classes=1000, preprocessing=Preprocessing(size=size))
    names = tuple(str(i) for i in range(1000))
    return Checkpoint(Classifier.build(spec).eval(), Card(network=spec, class_names=names, method="made"))


def file_of(folder: Path, way: str) -> Path:
    if way in WAYS:
        return folder / ("half" if "float16" in way else "run") / WEIGHTS
    return folder / f"{way}{'.safetensors' if 'safetensors' in way else '.pt'}"


def make(folder: Path, network: str) -> None:
    """All files, from one network."""
    made = source(network)
    made.save(folder / "run")
    made.save(folder / "half", dtype=torch.float16)
    state = {name: value.contiguous() for name, value in made.classifier.state_dict().items()}
    half = {k: v.half() for k, v in state.items()}
    torch.save({"state_dict": state}, file_of(folder, "PyTorch zip"))
    torch.save({"state_dict": state}, file_of(folder, "PyTorch legacy"), _use_new_zipfile_serialization=False)
    with file_of(folder, "pickle of PyTorch").open("wb") as file:
        import pickle

        pickle.dump({"state_dict": state}, file)
    save_file(state, file_of(folder, "safetensors"))
    save_file(half, file_of(folder, "float16 safetensors"))
    torch.save({"state_dict": {k: v.bfloat16() for k, v in state.items()}}, file_of(folder, "bfloat16 zip"))


def child(folder: Path, way: str, network: str) -> dict[str, float]:
    """One way, in this process."""
    import timm  # noqa: F401  # loading it is not what is measured

    torch.set_num_threads(1)
    before = peak()
    begun = time.perf_counter()
    kept: Any
    if way == "save a run folder":
        made = source(network)
        begun = time.perf_counter()
        kept = made, made.save(folder / "new")
    elif way in WAYS:
        kept = load_checkpoint(file_of(folder, way).parent)
    else:
        from robust_transfer.foreign.reading import read_weights

        contents = read_weights(file_of(folder, way))
        state, kept = contents.tree.get("state_dict", contents.tree), []
        copied = 0
        for value in state.values():
            kept.append(torch.empty(value.shape).copy_(value))
            copied += value.numel()
            if copied > 1 << 23:
                contents.release()
                copied = 0
    seconds = time.perf_counter() - begun
    return {"bytes": peak() - before, "seconds": seconds, "before": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="vit_large_patch16_224")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="words of the ways to measure")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(Path(given.child[0]), given.child[1], given.network)))
        return
    header("large weights: peak memory and seconds, median", network=given.network, n=given.repeats)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        make(folder, given.network)
        for way in (way for way in (*WAYS, *FOREIGN) if given.only in way):
            size = file_of(folder, way).stat().st_size
            runs = []
            for _ in range(given.repeats):
                command = [sys.executable, __file__, "--network", given.network, "--child", str(folder), way]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    break
                runs.append(json.loads(done.stdout.splitlines()[-1]))
            if len(runs) < given.repeats:
                print(f"  {way}: failed ({done.stderr.strip().splitlines()[-1]})", flush=True)
                continue
            worst, before = max(run["bytes"] for run in runs), runs[0]["before"]
            seconds = statistics.median(run["seconds"] for run in runs)
            print(
                f"  {way} ({size / 1e6:.0f} MB): peak {worst / 1e6:.0f} MB, {worst / size:.2f} x the file, "
                f"{seconds:.2f} s, {size / 1e6 / seconds:.0f} MB/s (process before: {before / 1e6:.0f} MB)",
                flush=True,
            )


if __name__ == "__main__":
    main()
