"""Make a run folder the bundled source: float16 weights, and on the card the figures of the file as it is stored.

python scripts/bundle.py runs/source --data PATH/TO/cifar100
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch

import robust_transfer as rt
from robust_transfer.checkpoint import readme
from robust_transfer.config import as_dict
from robust_transfer.files import write_json, write_text
from robust_transfer.sources import load_source

BUNDLED = Path(rt.__file__).parent / "weights" / "bundled"
LIMIT = 6_000_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    stored = rt.load_checkpoint(given.run_folder).save(BUNDLED, dtype=torch.float16)
    size = (BUNDLED / "model.safetensors").stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{size} bytes are more than a bundled source may have ({LIMIT})")
    test = rt.load_task(given.data, val=0).test
    found = rt.evaluate(stored, test, attack="pgd-20", run=rt.Run(threads=given.threads))
    names = ("clean_accuracy", "robust_accuracy")
    figures = {f"test_{name}": as_dict(getattr(found, name)) for name in names} | {"test_attack": found.attack}
    card = dataclasses.replace(stored.card, metrics={**stored.card.metrics, **figures})
    write_json(BUNDLED / "card.json", as_dict(card))
    write_text(BUNDLED / "README.md", readme(card))
    log = [json.loads(line) for line in (given.run_folder / "metrics.jsonl").read_text().splitlines()]
    (BUNDLED / "metrics.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in log if "seconds" not in r or r["step"] % 100 == 0)
    )
    load_source("bundled")
    print(found, f"{size} bytes", sep="\n")


if __name__ == "__main__":
    main()
