"""Evidence for a normaliser: what batch-norm statistics and clean accuracy say of right and wrong ones.

python benchmarks/evidence.py --data PATH/TO/cifar100 [--source bundled]

The first line is the normaliser of the source's card. A table of docs/sources.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial

import robust_transfer as rt
from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.foreign.evidence import IMAGES, decide
from robust_transfer.foreign.families.normalisations import CIFAR10_2023, CIFAR100, HALF, IMAGENET, RAW
from robust_transfer.foreign.measuring import Candidate
from robust_transfer.foreign.normalisations import name_of
from robust_transfer.preprocessing import Normalisation


def read_with(source: rt.Checkpoint, normalisation: Normalisation) -> Classifier:
    """Source with another normaliser."""
    spec = source.card.network
    how = dataclasses.replace(spec.preprocessing, normalisation=normalisation)
    other = Classifier.build(dataclasses.replace(spec, preprocessing=how))
    other.load_state_dict(source.classifier.state_dict())
    return other.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--source", default="bundled")
    given = parser.parse_args()
    source = rt.load_source(given.source)
    own = source.card.network.preprocessing.normalisation
    test = (
        rt.load_task(given.data, val=0).test.prepared(source.preprocessing).sample(IMAGES, seed=0, purpose="evidence")
    )
    each = [own, CIFAR100, IMAGENET, CIFAR10_2023, HALF, RAW]
    tried = [Candidate({"normalisation": name_of(one)}, partial(read_with, source, one)) for one in each]
    _, decision = decide(tried, to_pixels(test.images()), test.labels)
    print(f"{len(test)} test images, decided by {decision.by}")
    for row in decision.rows:
        assert row.distance is not None
        print(f"{row.what['normalisation']:24} distance {row.distance:.4f}  clean accuracy {row.accuracy}")


if __name__ == "__main__":
    main()
