"""Models and images whose robust accuracy is known exactly, and a small checkpoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run
from robust_transfer.threat import Threat

COLUMNS = ["index", "label", "clean_prediction", "adversarial_prediction", "broken_by", "margin"]
QUIET = Run(quiet=True, device="cpu", precision="float32")
EPS = 20 / 255


class Brightness(nn.Module):
    """Class 1 where the image is brighter than the threshold: a grey image is broken iff it is within eps of that."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(127.5 / 255))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        value = 20 * (x.flatten(1).mean(1) - self.threshold)
        return F.pad(torch.stack([-value, value], 1), (0, self.classes - 2), value=-50.0)


class Same(nn.Module):
    """Says class 1, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0]).repeat(len(x), 1)


def grey(values: list[int], labels: list[int], names: tuple[str, ...] = ("dark", "bright"), first_id: int = 0) -> Split:
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 4, 4)
    return Split.in_memory(images, torch.tensor(labels), names, ids=torch.arange(len(values)) + first_id)


VALUES = torch.arange(40, 216, 5)
BREAKABLE = int(((VALUES - 127.5).abs() < 20).sum())
N = len(VALUES)


def checkpoint(classes: int = 10, threat: str | None = "linf:4/255", size: int = 8) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = NetworkSpec(name="wrn_16_1", num_classes=classes, preprocessing=Preprocessing(size=size))
        ball = Threat.parse(threat) if threat is not None else None
        card = Card(network=spec, class_names=tuple(f"c{i}" for i in range(classes)), method="test", threat=ball)
        return Checkpoint(Classifier.build(spec).eval(), card)


def noise(n: int, size: int = 8, classes: int = 10) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return Split.in_memory(images, torch.arange(n) % classes, tuple(f"c{i}" for i in range(classes)))


def labelled_greys() -> Split:
    """Values 40 to 215 with their true class; the first two labels are wrong. |value - 127.5| < 20 is breakable."""
    values = list(range(40, 216, 5))
    labels = [int(v > 127.5) for v in values]
    return grey(values, [1 - labels[0], 1 - labels[1], *labels[2:]], first_id=100)
