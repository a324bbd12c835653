"""The estimate of a study's cells, beside what they turn out to cost."""

from __future__ import annotations

import pytest
import torch

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import load_task
from robust_transfer.pretraining import Fast, Free, Natural, Pretraining
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, Adversarial, LinearProbe, LwF, Strategy
from robust_transfer.threat import Threat

RUN = Run(quiet=True, threads=1, precision="float32", device="cpu")


@pytest.mark.parametrize(
    "how",
    [
        Fast(epochs=2, augment=False),
        Free(epochs=8, replays=4, augment=False),
        Adversarial(method="free", replays=2, init="scratch", epochs=6, select="robust", augment=False),
        LwF(epochs=2, batch_size=32),
        LinearProbe(choose="robust", path=(1.0, 0.1)),
        *(entry.cls.from_settings(entry.cls.quick) for entry in STRATEGIES),
    ],
    ids=lambda how: type(how).__name__,
)
def test_the_estimate_of_a_cell_is_about_what_its_card_says(
    how: Pretraining | Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)
    task = load_task("builtin:digits", shots=30, seed=0)
    if isinstance(how, Pretraining):
        card = how(task, network="wrn_16_1", threat="linf:0.1", run=RUN).card
    else:
        torch.manual_seed(0)
        spec = Natural().network_spec("wrn_16_1", task, None)
        source = Checkpoint(
            Classifier.build(spec),
            Card(network=spec, class_names=task.class_names, method="x", threat=Threat.parse("linf:0.1")),
        )
        card = how(source, task, run=RUN).card
    assert 0.7 < how.passes(task) / card.cost.passes < 1.6
