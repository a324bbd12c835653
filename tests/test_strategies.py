"""Contract tests over the registered strategies, and what each of them promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import make_classifier, make_digits, same_state
from safetensors.torch import load_file

from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import ConfigError, DivergedError, OutputError, UnknownNameError
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, FineTune, LinearProbe, features_of, interpolate, transfer
from robust_transfer.strategies.fine_tune import HeldHead
from robust_transfer.strategies.linear_probe import attach
from robust_transfer.strategies.softmax import Standardisation
from robust_transfer.training import Batch, NaturalObjective

QUICK = {"linear-probe": {}, "fine-tune": {"epochs": 1, "head": "new"}, "lwf": {"epochs": 1, "head": "new"}}
QUIET = Run(quiet=True)


class Untouchable(Split):
    """A split that fails when anybody looks at its images."""

    def fetch(self, indices):
        assert not len(indices), "the test split was read"
        return super().fetch(indices)


@pytest.fixture(scope="module")
def task():
    made = make_digits(train=160, val=40, test=40)
    return dataclasses.replace(made, test=Untouchable(**vars(made.test)))


@pytest.fixture(scope="module")
def source():
    classifier = make_classifier()
    classifier.eval()
    names = tuple(str(i) for i in range(10))
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=names, method="made", threat="linf:8/255"))


def of(name, **more):
    return STRATEGIES.get(name).from_settings({**QUICK[name], **more})


@pytest.fixture(params=STRATEGIES.names())
def name(request):
    return request.param


def test_every_strategy_has_a_quick_form_here():
    assert set(QUICK) == set(STRATEGIES.names())


def test_the_contract(name, source, task, tmp_path):
    before = source.classifier.copy()
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, of(name), run=run)

    assert same_state(before, source.classifier)  # the source is as it was
    assert not any(m.training for m in source.classifier.modules())
    assert all(p.requires_grad for p in source.classifier.parameters())

    card = result.card
    assert card.criterion
    assert card.cost >= len(task.train)
    assert card.adversarial_examples == 0  # nothing chosen by attack: not one adversarial example
    assert card.source is not None
    assert card.source["weights"] == source.hash
    assert card.threat == "linf:8/255"

    x = to_pixels(task.val.images())
    loaded = load_checkpoint(run.out)
    with torch.no_grad():
        assert torch.equal(loaded.classifier(x), result.classifier(x))
    assert not (run.out / "state").exists()

    again = transfer(source, task, of(name), run=QUIET)
    assert again.hash == result.hash  # deterministic by seed
    with pytest.raises(OutputError):
        transfer(source, task, of(name), run=run)
    finished = transfer(source, task, of(name), run=dataclasses.replace(run, resume=True))
    assert finished.hash == result.hash


def test_unknown_settings_name_the_nearest(name):
    field = dataclasses.fields(STRATEGIES.get(name))[0].name
    with pytest.raises(ConfigError, match=field):
        STRATEGIES.get(name).from_settings({field + "x": 1})
    with pytest.raises(ConfigError, match="preset"):
        STRATEGIES.get(name).from_settings({"preset": "papr"})
    entry = STRATEGIES.entry(name)
    assert entry.summary
    assert entry.paper
    assert entry.cls.__doc__
    with pytest.raises(UnknownNameError, match=name):
        STRATEGIES.get(name + "e")


def test_without_val(name, source, task):
    empty = dataclasses.replace(task, val=task.val.subset(torch.arange(0)))
    assert transfer(source, empty, of(name), run=QUIET).classifier.num_classes == 10


def test_two_classes_of_two_images(name, source):
    digits = make_digits(train=200, val=0, test=0)
    chosen = torch.cat([(digits.train.labels == c).nonzero()[:2, 0] for c in (3, 7)])
    few = digits.train.subset(chosen)
    split = Split.in_memory(few.images(), (few.labels == 7).long(), ("three", "seven"))
    tiny = dataclasses.replace(
        digits, train=split, val=split.subset(torch.arange(0)), test=split.subset(torch.arange(0))
    )
    assert transfer(source, tiny, of(name), run=QUIET).classifier.num_classes == 2


# -------------------------------------------------------------------- linear probe


def test_features_after_a_probe_are_those_of_the_source(source, task):
    result = transfer(source, task, LinearProbe(), run=QUIET)
    result.classifier.train()
    x = to_pixels(task.val.images())
    for _ in range(2):  # a second pass would show moved batch-norm statistics
        assert torch.equal(result.classifier.features(x), source.classifier.features(x))


def test_the_whole_path_is_kept_and_the_choice_is_by_val(source, task, tmp_path):
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, LinearProbe(path=(1.0, 0.01, 1e-4)), run=run)
    records = result.card.metrics["path"]
    assert [r["l2"] for r in records] == [1.0, 0.01, 1e-4]
    assert result.card.metrics["l2"] == min(records, key=lambda r: r["val_loss"])["l2"]
    tensors = load_file(run.out / "path.safetensors")
    assert set(tensors) == {f"{l2}/{part}" for l2 in ("1", "0.01", "0.0001") for part in ("weight", "bias")}
    chosen = f"{result.card.metrics['l2']:g}/weight"
    assert torch.equal(tensors[chosen], result.classifier.head.weight)
    norms = [float(tensors[f"{l2}/weight"].norm()) for l2 in ("1", "0.01", "0.0001")]
    assert norms == sorted(norms)  # a weaker penalty, a larger head


def test_choosing_by_attack_is_counted(source, task):
    result = transfer(source, task, LinearProbe(path=(1.0, 0.01), choose="robust"), run=QUIET)
    right = sum(round(r["val_accuracy"] * len(task.val)) for r in result.card.metrics["path"])
    assert result.card.adversarial_examples == right > 0
    best = max(result.card.metrics["path"], key=lambda r: r["val_robust_accuracy"])
    assert result.card.metrics["l2"] == best["l2"]
    natural = dataclasses.replace(source, card=dataclasses.replace(source.card, threat=None))
    with pytest.raises(ConfigError, match="threat"):
        transfer(natural, task, LinearProbe(choose="robust"), run=QUIET)


# -------------------------------------------------------------------- fine-tuning and the head rule


def test_the_head_rule(source, task):
    kept = transfer(source, task, FineTune(epochs=0.01, learning_rate=1e-9), run=QUIET)  # same class names: kept
    assert torch.allclose(kept.classifier.head.weight, source.classifier.head.weight, atol=1e-6)
    renamed = Split(**{**vars(task.train), "class_names": tuple("abcdefghij")})
    other = dataclasses.replace(task, train=renamed, val=task.val.subset(torch.arange(0)))
    new = transfer(source, other, FineTune(epochs=0.01, learning_rate=1e-9), run=QUIET)
    assert not torch.allclose(new.classifier.head.weight, source.classifier.head.weight, atol=1e-2)
    five = Split.in_memory(task.train.images(), task.train.labels % 5, tuple("abcde"))
    with pytest.raises(ConfigError, match="head=new"):
        transfer(source, dataclasses.replace(other, train=five, val=five), FineTune(head="keep"), run=QUIET)


def test_batch_norm_is_held_or_adapts(source, task):
    held = transfer(source, task, FineTune(epochs=1, head="new"), run=QUIET).classifier.state_dict()
    moved = transfer(
        source, task, FineTune(epochs=1, head="new", batch_norm="train"), run=QUIET
    ).classifier.state_dict()
    for key, value in source.classifier.state_dict().items():
        if "running_" in key:
            assert torch.equal(held[key], value)
            assert not torch.equal(moved[key], value)


def test_a_held_penalty_makes_the_probe_stationary(source, task):
    """At the probe's solution, cross-entropy alone still pulls on the head; with the probe's penalty nothing does."""
    probe = LinearProbe(l2=0.1).solve(source, task, QUIET)
    natural = NaturalObjective(attach(source.classifier, probe.chosen.head()).eval())
    held = HeldHead(natural, 0.1, probe.standardisation.std.float())
    everything = torch.arange(len(task.train))
    batch = Batch(to_pixels(task.train.images()), task.train.labels, task.train.ids, everything, 0)
    pulls = []
    for objective in (natural, held):
        objective.zero_grad()
        objective(batch)["loss"].backward()
        pulls.append(float(objective.classifier.head.weight.grad.abs().max()))
    assert pulls[1] < 1e-4 < 1e-3 < pulls[0]


def test_divergence_saves_nothing(name, source, task, tmp_path):
    if name == "linear-probe":
        return  # convex: nothing to diverge
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    with pytest.raises(DivergedError) as error:
        transfer(source, task, of(name, learning_rate=1e12), run=run)
    assert error.value.exit_status == 3
    assert not (run.out / "model.safetensors").exists()


# -------------------------------------------------------------------- interpolation


def test_interpolation_meets_its_ends(source, task):
    a = transfer(source, task, LinearProbe(), run=QUIET)
    b = transfer(source, task, FineTune(epochs=1, head="new"), run=QUIET)
    assert same_state(interpolate(a, b, 0.0).classifier, a.classifier)
    assert same_state(interpolate(a, b, 1.0).classifier, b.classifier)
    half = interpolate(a, b, 0.5).classifier.head.weight
    assert torch.allclose(half, (a.classifier.head.weight + b.classifier.head.weight) / 2)


def test_features_of_are_in_order_and_independent_of_batches(source, task):
    found = features_of(source.classifier, task.val, QUIET)
    with torch.no_grad():
        one = torch.cat([source.classifier.features(to_pixels(task.val.fetch(torch.tensor([i])))) for i in range(10)])
    assert torch.allclose(found[:10], one, atol=1e-5)
    standard = Standardisation.of(found)(found)
    assert torch.allclose(standard.mean(0), torch.zeros(found.shape[1]).double(), atol=1e-9)
