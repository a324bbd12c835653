"""Make a source for 32x32 images one for 64x64 images that computes the same: where the training of `bundled-64` begins.

python scripts/enlarge.py bundled --out runs/enlarged

Its first convolution, of 3x3 weights, becomes one of 6x6 with a stride of 2: each weight stands four times, a quarter
each. So an image of 64x64 pixels gives what its means over 2x2 pixels give the source.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import robust_transfer as rt
from robust_transfer.classifier import Classifier

ENLARGED = {"preact_resnet18_w32": "preact_resnet18_w32_64"}


def enlarged(source: rt.Checkpoint) -> rt.Checkpoint:
    """Source of the same function for images of twice the side. Raises SystemExit for a network without such a twin."""
    spec = source.card.network
    if spec.name not in ENLARGED:
        raise SystemExit(f"{spec.name} has no twin for larger images: one of {', '.join(ENLARGED)} has")
    preprocessing = dataclasses.replace(spec.preprocessing, size=2 * spec.input_size)
    spec = dataclasses.replace(spec, name=ENLARGED[spec.name], preprocessing=preprocessing)
    classifier, state = Classifier.build(spec), source.classifier.state_dict()
    stem = "body.conv1.weight"
    state[stem] = state[stem].repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    classifier.load_state_dict(state)
    note = "first convolution enlarged to 6x6 weights with a stride of 2, for images of twice the side"
    card = dataclasses.replace(source.card, network=spec, metrics={}, events=(*source.card.events, note))
    return rt.Checkpoint(classifier, card, source.trained_on)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(enlarged(rt.load_source(given.source)).save(given.out).card.network)


if __name__ == "__main__":
    main()
