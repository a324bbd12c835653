"""Make a run folder a source of the package: float16 weights, and on the card the figures of the file as it is stored.

python scripts/bundle.py runs/source --name bundled --data PATH/TO/cifar100
python scripts/bundle.py runs/twin --name natural --data PATH/TO/cifar100
python scripts/bundle.py runs/source-64 --name bundled-64 --data PATH/TO/tiny-imagenet
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path

import torch

import robust_transfer as rt
from robust_transfer.checkpoint import readme
from robust_transfer.config import as_dict
from robust_transfer.files import write_json, write_text
from robust_transfer.sources import PACKAGED

WEIGHTS = Path(rt.__file__).parent / "weights"
LIMIT = 6_000_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--name", required=True, choices=PACKAGED)
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    folder = WEIGHTS / given.name
    stored = rt.load_checkpoint(given.run_folder).save(folder, dtype=torch.float16)
    size = (folder / "model.safetensors").stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{size} bytes are more than a source of the package may have ({LIMIT})")
    test = rt.load_task(given.data, val=0).test
    found = rt.evaluate(stored, test, attack="pgd-20", run=rt.Run(threads=given.threads))
    names = ("clean_accuracy", "robust_accuracy")
    figures = {f"test_{name}": as_dict(getattr(found, name)) for name in names}
    figures |= {"test_attack": found.attack, "test_threat": found.threat}
    command = re.sub(r"--data \S*?([^/\s]+)(?=\s|$)", r"--data PATH/TO/\1", stored.card.command)  # of no machine
    card = dataclasses.replace(stored.card, metrics={**stored.card.metrics, **figures}, command=command)
    write_json(folder / "card.json", as_dict(card))
    write_text(folder / "README.md", readme(card))
    log = [json.loads(line) for line in (given.run_folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in log if "seconds" not in r or r["step"] % 100 == 0)
    )
    rt.load_checkpoint(folder)
    print(found, f"{size} bytes", sep="\n")


if __name__ == "__main__":
    main()
