"""The automatic learning rate: its checkpoints by hand, and training that follows it, restored and resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, log_of, make_classifier, make_task, same_state

from robust_transfer.classifier import Classifier
from robust_transfer.errors import ConfigError
from robust_transfer.training import NaturalObjective, TrainingSettings, fit
from robust_transfer.training.automatic_rate import halvings

RISING = [0.01 * epoch for epoch in range(50)]


def test_what_rises_is_left_alone() -> None:
    assert halvings(RISING, 50) == []


def test_what_rises_too_rarely_is_halved_at_every_checkpoint() -> None:
    assert halvings([0.5] * 50, 50) == [17, 25, 29, 37, 41, 43, 45, 47, 49]
    assert halvings([0.5] * 17, 50) == [17], "of 50 epochs, 17 are done"
    assert halvings([0.5] * 16, 50) == []


def test_three_quarters_are_enough() -> None:
    """Of the first 16 steps from epoch to epoch 12 rise, or 11."""
    enough = [0.0, *[0.01 * n for n in range(1, 13)], 0.12, 0.12, 0.12, 0.12]
    assert len(enough) == 17
    assert halvings(enough, 50) == []
    assert halvings([*enough[:12], *[0.11] * 5], 50) == [17]


def test_a_best_that_stays_is_halved_once_and_given_time() -> None:
    """Rises again and again after a fall, but never to the old best: at the second checkpoint, not at the one after."""
    first = [0.5 + 0.01 * n for n in range(17)]  # the best is 0.66
    later = [0.1 + 0.001 * n for n in range(33)]
    found = halvings([*first, *later], 50)
    assert found[:3] == [25, 37, 43], "not where it was halved at the checkpoint before"


def test_few_epochs_have_few_checkpoints() -> None:
    assert halvings([0.5] * 4, 4) == [2, 3, 4]
    assert halvings([0.5], 1) == []


def settings(**more: Any) -> TrainingSettings:
    given = {"epochs": 6, "batch_size": 64, "learning_rate": 0.01, "augment": False, "schedule": "automatic"}
    return TrainingSettings(**{**given, "select": "robust", **more})


class Scores:
    """Robust accuracies that are told, not measured; and the weights that each was asked about."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.seen = list(scores), list[dict[str, torch.Tensor]]()

    def __call__(self, classifier: Classifier) -> dict[str, float]:
        self.seen.append({name: values.clone() for name, values in classifier.state_dict().items()})
        return {"robust_accuracy": self.scores[len(self.seen) - 1]}


def test_training_halves_its_rate_and_goes_on_from_the_best_weights(tmp_path: Path) -> None:
    """Checkpoints of six epochs are after 2, 3, 4, 5 and 6; the score falls from the second epoch on."""
    objective, scores = NaturalObjective(make_classifier(), 400), Scores(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    begun = list[dict[str, torch.Tensor]]()
    objective.register_forward_pre_hook(
        lambda module, given: begun.append({k: v.clone() for k, v in module.classifier.state_dict().items()})
    )
    run = dataclasses.replace(QUIET, out=tmp_path)
    fit(objective, make_task().train, settings(), run, validate=scores)
    rates = {record["step"]: record["rate"] for record in log_of(tmp_path) if "rate" in record}
    assert rates == pytest.approx({1: 0.01, 2: 0.01, 4: 0.01, 6: 0.01, 8: 0.005, 10: 0.0025, 12: 0.00125})
    for epoch, kept in ((2, False), (3, True), (4, True)):  # two steps an epoch
        assert all(torch.equal(v, scores.seen[0][k]) for k, v in begun[2 * epoch].items()) is kept


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    told = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)

    def trained(validate: Any, **run: Any) -> Classifier:
        objective = NaturalObjective(make_classifier(), 400)
        torch.manual_seed(0)
        return fit(
            objective, make_task().train, settings(), dataclasses.replace(QUIET, **run), validate=validate
        ).classifier

    whole, killed = trained(Scores(*told)), Scores(*told[:4])
    with pytest.raises(IndexError):
        trained(killed, out=tmp_path)
    resumed = trained(Scores(*told[4:]), out=tmp_path, resume=True)
    assert same_state(resumed, whole)


def test_it_needs_robust_accuracy_of_the_weights_themselves() -> None:
    with pytest.raises(ConfigError, match="set select=robust, too"):
        settings(select="clean")
    with pytest.raises(ConfigError, match="leave out ema"):
        settings(ema=0.9)
