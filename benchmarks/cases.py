"""Cases for attack benchmarks: networks with images; and silence for the peers' output."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import classifier
from torch import Tensor

import robust_transfer as rt
from robust_transfer.attacks import Attack
from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.engine import Engine
from robust_transfer.evaluation.effort import effort
from robust_transfer.trials import choose, sample_size

L2 = 0.1  # of the probes


@dataclass(frozen=True)
class Case:
    """A network and the images that it is attacked on."""

    name: str
    model: Classifier
    x: Tensor
    labels: Tensor
    threat: rt.Threat
    batch: int

    @property
    def ids(self) -> Tensor:
        return torch.arange(len(self.x), device=self.x.device)

    @property
    def digest(self) -> str:
        """Hash of its images, 16 hex digits."""
        return hashlib.sha256(self.x.cpu().numpy().tobytes()).hexdigest()[:16]

    def robust(self, adversarial: Tensor) -> float:
        """The share that is classified right, clean and attacked, by a float32 forward pass."""
        with torch.no_grad():
            answers = [[self.model(x).argmax(1) for x in images.split(250)] for images in (self.x, adversarial)]
        clean, attacked = (torch.cat(each) == self.labels for each in answers)
        return float((clean & attacked).float().mean())


def engine_for(case: Case, run: rt.Run, attacks: Sequence[Attack]) -> Engine:
    """Engine of our attacks' steps, chosen by trial as in an evaluation."""
    rows = torch.arange(sample_size(case.x.device, case.x.shape[-1], run)) % len(case.x)
    return choose(case.model, lambda: (case.x[rows], case.labels[rows]), run, passes=len(case.x) * effort(attacks))


def batches(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(case.x.split(case.batch), case.labels.split(case.batch), strict=True)


def cases(given: argparse.Namespace, run: rt.Run) -> Iterator[Case]:
    task, device = rt.load_task(given.data), run.torch_device()
    test = task.test
    if given.classes:
        test = test.subset((test.labels < given.classes).nonzero().squeeze(1))
    for name in given.models.split(","):
        checkpoint = rt.load_source(name)
        told = Path(name).name
        if checkpoint.classifier.num_classes != len(task.class_names):
            checkpoint, told = rt.LinearProbe(l2=L2)(checkpoint, task, run=run), f"{told} with a linear probe"
        model = fewer_classes(checkpoint.classifier, given.classes) if given.classes else checkpoint.classifier
        split = test.prepared(model.spec.preprocessing)
        split = split.sample(given.examples, seed=0, purpose="bench")
        split = split.subset(torch.arange(min(given.first or len(split), len(split))))
        x = to_pixels(split.images(), device)
        model = model.to(device).eval().requires_grad_(True)
        threat = rt.Threat.parse(given.threat)
        yield Case(f"{told} ({model.spec.name})", model, x, split.labels.to(device), threat, given.batch)


def untrained(names: str, threat: rt.Threat, batch: int, run: rt.Run) -> Iterator[Case]:
    """Networks as they are drawn, on noise: enough to tell how fast a step is."""
    device = run.torch_device()
    for name in filter(None, names.split(",")):
        model = classifier(name, 10).to(device).eval()
        x, labels = torch.rand(64, 3, 32, 32, device=device), torch.zeros(64, dtype=torch.long, device=device)
        yield Case(name, model, x, labels, threat, batch)


def fewer_classes(classifier: Classifier, count: int) -> Classifier:
    """The first classes of a classifier."""
    fewer = classifier.with_head(count)
    kept = {name: value[:count] for name, value in classifier.head.state_dict().items()}
    fewer.head.load_state_dict(kept)
    return fewer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the peers' output and warnings."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
