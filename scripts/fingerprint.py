"""Add fingerprints of the training images to an older run folder; its weights are unchanged.

python scripts/fingerprint.py robust_transfer/weights/bundled --data PATH/TO/cifar100 --val 0
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import robust_transfer as rt
from robust_transfer.checkpoint import CARD
from robust_transfer.config import as_dict
from robust_transfer.files import write_atomically, write_json
from robust_transfer.trained_on import FINGERPRINTS, trained_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--val", type=float, help="As the run had it.")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--source", help="What the run was transferred from, if it was: bundled, or a run folder.")
    given = parser.parse_args()
    model = rt.load_checkpoint(given.run_folder)
    if (model.card.source is not None) != (given.source is not None):
        raise SystemExit("give --source where the run was transferred, and only there")
    task = rt.load_task(given.data, val=given.val, shots=given.shots, seed=model.card.seed)
    if task.train.prepared(model.preprocessing).hash != model.card.data["hash"]:
        raise SystemExit(f"{given.run_folder} was trained on other images: its card has another hash of the data")
    source = rt.load_source(given.source) if given.source else None
    seen = trained_on(task, source.trained_on if source else None, transferred=source is not None)
    content = seen.to_bytes()
    card = dataclasses.replace(model.card, fingerprints=seen.record(content))
    write_atomically(given.run_folder / FINGERPRINTS, lambda path: _write(path, content))
    write_json(given.run_folder / CARD, as_dict(card))
    print(f"{len(content)} bytes for {seen.record(content)['levels']}")
    rt.load_checkpoint(given.run_folder)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


if __name__ == "__main__":
    main()
