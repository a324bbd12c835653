"""RoLI: an adversarial probe against plain PyTorch, the training that begins at it, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, folder_of, make_source, pgd_examples, same_state

from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.run import Run
from robust_transfer.strategies import Adversarial, RoLI, transfer
from robust_transfer.strategies.roli import ProbeObjective
from robust_transfer.training import Batch, batch_order

EXACT = Run(precision="float32", quiet=True, device="cpu")
QUICK: dict[str, Any] = {"epochs": 1, "probe_epochs": 2, "augment": False, "steps": 2, "batch_size": 32}


def test_the_start_is_an_adversarial_probe_step_by_step(task: Task) -> None:
    """Plain SGD on the head alone, the body in evaluation mode, attacked through all of the network."""
    source = make_source(threat="linf:8/255")
    start = RoLI(**QUICK).start(source, task, EXACT)
    plain = source.classifier.with_head(10, seed=0).eval()
    head = plain.head
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    x, y = to_pixels(task.train.images()), task.train.labels
    for step in range(8):
        optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * step / 8))
        epoch, position = divmod(step, 4)
        rows = batch_order(0, epoch, 128)[position * 32 :][:32]
        batch = Batch(x[rows], y[rows], task.train.ids[rows], rows, step)
        crafted = pgd_examples(plain, batch, 8 / 255, 2)
        optimizer.zero_grad()
        F.cross_entropy(head(plain.features(crafted).detach()), y[rows]).backward()
        optimizer.step()
    found = start.classifier
    torch.testing.assert_close(found.head.state_dict(), head.state_dict(), rtol=1e-2, atol=1e-3)
    kept = {name: values for name, values in found.state_dict().items() if name.startswith("body.")}
    assert all(torch.equal(values, source.classifier.state_dict()[name]) for name, values in kept.items())
    assert all(p.requires_grad for p in found.parameters())
    assert start.cost.adversarial_examples == 256
    assert start.cost.passes == 256 * (1 + 2 * 2)


def test_fine_tuning_is_plain_adversarial_training_from_the_probe(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    source, strategy = make_source(threat="linf:8/255"), RoLI(**QUICK)
    start = strategy.start(source, task, QUIET)
    monkeypatch.setattr(Adversarial, "start", lambda *_: start)
    same = {name: value for name, value in QUICK.items() if name != "probe_epochs"}
    wanted = transfer(source, task, Adversarial(**same), run=QUIET)
    assert same_state(transfer(source, task, strategy, run=QUIET).classifier, wanted.classifier)


def test_a_probe_that_is_interrupted_goes_on(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, strategy = make_source(threat="linf:8/255"), RoLI(**QUICK)
    whole = transfer(source, task, strategy, run=QUIET)
    run, forward, steps = dataclasses.replace(QUIET, out=tmp_path / "run"), ProbeObjective.forward, list[int]()

    def killed(self: ProbeObjective, batch: Batch) -> Any:
        steps.append(batch.step)
        if batch.step == 6 and len(steps) < 8:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(ProbeObjective, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        transfer(source, task, strategy, run=run)
    steps.extend([-1] * 8)
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert [step for step in steps if step >= 0] == [*range(7), 4, 5, 6, 7]
    assert same_state(resumed.classifier, whole.classifier)


def test_divergence_after_the_probe_leaves_nothing_of_it(task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    strategy = RoLI(**{**QUICK, "epochs": 3, "learning_rate": 1e9, "probe_epochs": 1})
    with pytest.raises(DivergedError):
        transfer(make_source(threat="linf:8/255"), task, strategy, run=run)
    assert not (folder_of(run) / "front").exists()


def test_settings_that_make_no_sense() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"probe_epochs": 0.0}, {"probe_learning_rate": 0.0})
    for settings in wrong:
        with pytest.raises(ConfigError, match="must be positive"):
            RoLI(**settings)
    assert RoLI(ema=0.9, select="clean", batch_size=7).probing().batch_size == 7
    assert RoLI(ema=0.9, select="clean").probing().select == "last"
