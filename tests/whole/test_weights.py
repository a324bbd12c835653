"""Weights of images from the data to the choice: what is selected on val is selected by the weighted measure."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import QUIET, make_digits, make_source
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_sample_weight

from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import STRATEGIES, LinearProbe, features_of, transfer


def skewed() -> Task:
    """Digits of which the second half of the classes has a tenth of its images, in train and val."""
    task = make_digits(train=800, val=300, test=20)

    def thinned(split: Split) -> Split:
        rare = (split.labels >= 5).nonzero()[:, 0]
        return split.subset(torch.cat([(split.labels < 5).nonzero()[:, 0], rare[: len(rare) // 10]]))

    return dataclasses.replace(task, train=thinned(task.train), val=thinned(task.val))


def test_the_probe_chooses_by_the_weighted_measure() -> None:
    task, source = skewed().balanced(), make_source(threat="linf:8/255")
    result = transfer(source, task, LinearProbe(), run=QUIET)
    assert result.card.criterion == "best weighted val log-loss over the L2 path"
    features = features_of(source.classifier, task.val, QUIET)
    labels = task.val.labels.numpy()
    path = LinearProbe().solve(source, task, QUIET)
    for record, solution in zip(path.records, path.solutions, strict=True):
        logits = solution.logits(features)
        each = log_loss(
            labels,
            logits.double().softmax(1).numpy(),
            sample_weight=compute_sample_weight("balanced", labels),
            labels=range(10),
        )
        assert record["val_loss"] == pytest.approx(each, rel=1e-5)
        assert record["val_accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1).numpy()))
    best = min(path.records, key=lambda record: record["val_loss"])
    assert result.card.metrics["l2"] == best["l2"]


def test_training_is_selected_by_the_weighted_measure() -> None:
    task, source = skewed().balanced(), make_source(threat="linf:8/255")
    for name, more in (("fine-tune", {"l2": 0.1}), ("mlp-head", {})):
        result = transfer(
            source,
            task,
            STRATEGIES.get(name).from_settings({**STRATEGIES.get(name).quick, "select": "clean", **more}),
            run=QUIET,
        )
        assert result.card.criterion.startswith("best weighted val clean accuracy (epoch ")
        said = result.classifier(to_pixels(task.val.images())).argmax(1)
        found = balanced_accuracy_score(task.val.labels.numpy(), said.numpy())
        assert result.card.metrics["val_clean_accuracy"] == pytest.approx(found)


def test_rare_classes_gain_by_weights() -> None:
    task, source = skewed(), make_source()
    test = make_digits(train=800, val=300, test=600).test
    recalls = []
    for given in (task, task.balanced()):
        model = transfer(source, given, LinearProbe(), run=QUIET).classifier
        recalls.append(balanced_accuracy_score(test.labels.numpy(), model(to_pixels(test.images())).argmax(1).numpy()))
    assert recalls[1] > recalls[0] + 0.02


class Deaf(LinearProbe):
    """A strategy of somebody's, of which nobody knows what it does with weights."""


def test_a_strategy_that_does_not_weigh_says_so(task: Task) -> None:
    deaf, source = Deaf(), make_source()
    with pytest.raises(ConfigError, match="has no way to weigh classes or images"):
        transfer(source, task.balanced(), deaf, run=QUIET)
