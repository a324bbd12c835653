"""Every pretraining method keeps the contract, and adversarial ones train on what they say."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from helpers import make_classifier, make_digits, same_state
from torch import Tensor, nn

from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import as_dict, build
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import ConfigError, DivergedError, NetworkError, OutputError, UnknownNameError
from robust_transfer.monitor import Validation, refuse_collapse
from robust_transfer.preprocessing import CIFAR_MEAN, Preprocessing
from robust_transfer.pretraining import PGDAT, PRETRAINING, Fast, Natural, Pretraining
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.weight_perturbation import Crafting
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective

RUN = Run(precision="float32", quiet=True, device="cpu")
TINY: dict[str, Any] = {"epochs": 1, "batch_size": 20, "augment": False}
NETWORK: dict[str, Any] = {"network": "wrn_16_1", "threat": "linf:8/255"}
THREAT = Threat.parse("linf:8/255")
CLASSES = tuple(str(digit) for digit in range(10))
methods = pytest.mark.parametrize("name", PRETRAINING.names())


@pytest.fixture(scope="module")
def tiny() -> Task:
    """40 images: two steps an epoch."""
    return make_digits(train=40, val=20, test=0)


def made_start() -> Checkpoint:
    """Random weights, as those are that a method begins with."""
    classifier = make_classifier(RUN.seed).eval()
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=CLASSES, method="made", data={"name": "x"}))


def arguments(name: str) -> dict[str, Any]:
    """Network, or start, and threat of a call of the method."""
    return {"start": made_start(), "threat": NETWORK["threat"]} if PRETRAINING.get(name).starts else NETWORK


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Two steps teach nobody to tell digits apart; the check on collapse has its own test."""
    if "collapse" not in request.node.name:
        monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)


# ---------------------------------------------------------------- the contract


@methods
def test_every_method_says_what_it_is(name: str) -> None:
    entry = PRETRAINING.entry(name)
    assert entry.summary
    assert any(year.isdigit() and len(year) == 4 for year in entry.paper.replace(",", " ").split()), "a year"
    assert len(inspect.getdoc(entry.cls) or "") > 20
    assert inspect.getdoc(entry.cls) != inspect.getdoc(Pretraining)
    assert issubclass(entry.cls, Pretraining)
    assert isinstance(entry.cls.adversarial, bool)


@methods
def test_every_methods_defaults_are_valid_and_plain(name: str) -> None:
    made = PRETRAINING.get(name)()
    settings = json.loads(json.dumps(as_dict(made)))
    assert build(PRETRAINING.get(name), settings, "method") == made


@methods
def test_every_method_refuses_an_unknown_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting of method {name!r} 'epoch': did you mean 'epochs'"):
        build(PRETRAINING.get(name), {"epoch": 3}, f"method {name!r}")
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        PRETRAINING.get(name)(learning_rat=0.1)  # type: ignore[call-arg]


@methods
def test_every_method_runs_is_seeded_and_saves_a_checkpoint(name: str, tiny: Task, tmp_path: Path) -> None:
    method, call = PRETRAINING.get(name)(**TINY), arguments(name)
    state = torch.get_rng_state()
    saved = method(tiny, **call, run=Run(precision="float32", quiet=True, out=tmp_path / "run", seed=3))
    torch.set_rng_state(state)
    torch.rand(3)
    again = method(tiny, **call, run=Run(precision="float32", quiet=True, seed=3))
    other = method(tiny, **call, run=Run(precision="float32", quiet=True, seed=4))
    assert same_state(saved.classifier, again.classifier)
    assert not same_state(saved.classifier, other.classifier)
    loaded = load_checkpoint(tmp_path / "run")
    assert same_state(loaded.classifier, saved.classifier)
    assert not (tmp_path / "run" / "state").exists()
    card = loaded.card
    assert card.method == f"pretrain:{name}"
    assert card.settings == as_dict(method)
    assert card.threat == (THREAT if method.adversarial else None)
    assert card.data == {"name": "digits", "train": 40, "val": 20, "hash": tiny.train.hash, "notes": []}
    assert (card.seed, card.precision, card.criterion) == (3, "float32", "last epoch")
    measured = {"val_clean_accuracy", "val_robust_accuracy"} if method.adversarial else {"val_clean_accuracy"}
    assert set(card.metrics) == measured
    assert card.class_names == tiny.class_names
    assert card.environment["versions"]["torch"]
    assert again.card.metrics == card.metrics
    assert again.card.cost.passes == card.cost.passes > 40 * 3


@methods
def test_every_methods_steps_change_the_weights(name: str, tiny: Task) -> None:
    method = PRETRAINING.get(name)(**TINY, learning_rate=0.05)
    trained = method(tiny, **arguments(name), run=RUN)
    start = make_classifier(RUN.seed).state_dict()
    moved = {k for k, v in trained.classifier.state_dict().items() if not torch.equal(v, start[k])}
    kept = (
        {k for k in start if k.startswith("head.") or "running" in k or "num_batches" in k} if method.starts else set()
    )
    assert moved == set(start) - kept


@methods
def test_every_method_costs_what_it_says(name: str, tiny: Task) -> None:
    """Forecast and objective agree, with and without a step on the weights."""
    cls = PRETRAINING.get(name)
    tried: tuple[dict[str, Any], ...] = ({}, {"awp": 0.01}) if issubclass(cls, Crafting) else ({},)
    for settings in tried:
        method = cls(**settings)
        objective = method.objective(make_classifier(), tiny, THREAT, RUN)
        assert objective.passes_per_image == method.passes_per_image, settings


@methods
def test_a_start_is_for_methods_that_take_one(name: str, tiny: Task) -> None:
    method, call = PRETRAINING.get(name)(**TINY), arguments(name)
    if method.starts:
        with pytest.raises(ConfigError, match="starts from a checkpoint: name one with --from"):
            method(tiny, run=RUN)
    else:
        with pytest.raises(ConfigError, match="trains from random weights: leave out the start"):
            method(tiny, **call, start=made_start(), run=RUN)


# ---------------------------------------------------------------- what a call refuses


def test_what_does_not_fit_is_refused_before_anything_is_touched(tiny: Task, tmp_path: Path) -> None:
    old = tmp_path / "card.json"
    old.write_text("{}")
    run = Run(out=tmp_path, overwrite=True, quiet=True)
    spec = NetworkSpec(name="wrn_16_1", num_classes=10, preprocessing=Preprocessing(size=16))
    for error, message, call in (
        (NetworkError, "unknown network 'wrn_61_1'", {"network": "wrn_61_1"}),
        (ConfigError, "the network reads 16x16 images, not 8x8", {"network": spec, "input_size": 8}),
        (ConfigError, "threat", {"threat": "linf 8"}),
        (
            ConfigError,
            "the network has 5 classes, the data 10",
            {"network": NetworkSpec(**{**vars(spec), "num_classes": 5})},
        ),
        (NetworkError, "convnext_atto", {"network": "convnext_atto"}),
    ):
        with pytest.raises(error, match=message):
            Natural(**TINY)(tiny, **{**NETWORK, **call}, run=run)
        assert old.exists()
    with pytest.raises(ConfigError, match="select=robust needs a val split"):
        Natural(**TINY, select="robust")(make_digits(train=40, val=0), **NETWORK, run=run)
    assert old.exists()
    with pytest.raises(OutputError, match="is not empty"):
        Natural(**TINY)(tiny, **NETWORK, run=Run(out=tmp_path))
    with pytest.raises(UnknownNameError, match="did you mean 'fast'"):
        PRETRAINING.get("fats")


def test_images_are_brought_to_the_networks_size(tiny: Task) -> None:
    spec = NetworkSpec(name="wrn_16_1", num_classes=10, preprocessing=Preprocessing(size=12))
    for call in ({"network": spec}, {"network": "WRN-16-1", "input_size": 12}):
        made = Natural(**TINY)(tiny, threat="linf:8/255", run=RUN, **call)
        assert made.card.network == spec
        assert made.card.data["hash"] == tiny.at_size(12).train.hash
    assert spec.preprocessing.normalisation.mean == CIFAR_MEAN


def test_the_papers_network_standardises_per_image(tiny: Task) -> None:
    assert Natural().network_spec("WRN-32-10-Shafahi", tiny, None).preprocessing.normalisation.per_image
    assert not Natural().network_spec("wrn_28_10", tiny, None).preprocessing.normalisation.per_image


def test_without_val_nothing_is_measured(tmp_path: Path) -> None:
    made = Fast(**TINY)(make_digits(train=40, val=0, test=0), **NETWORK, run=RUN)
    assert made.card.metrics == {}
    assert made.card.cost.adversarial_examples == 40


def test_selection_is_on_the_card(tiny: Task) -> None:
    made = Natural(**{**TINY, "epochs": 2}, select="clean")(tiny, **NETWORK, run=RUN)
    assert made.card.criterion in ("best val clean accuracy (epoch 1)", "best val clean accuracy (epoch 2)")


def test_training_that_diverges_saves_nothing(tiny: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hopeless(Objective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            logits = self.classifier(batch.images)
            return {"loss": logits.sum() * math.nan, "logits": logits}

    monkeypatch.setattr(Natural, "objective", lambda self, classifier, *_: Hopeless(classifier))
    with pytest.raises(DivergedError) as caught:
        Natural(**TINY)(tiny, **NETWORK, run=Run(out=tmp_path, quiet=True))
    assert caught.value.exit_status == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [".written.json", "metrics.jsonl"]


def test_training_that_ends_in_a_collapse_saves_nothing(
    tiny: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.monitor.predict", lambda classifier, images, run: torch.zeros(len(images)))
    with pytest.raises(DivergedError, match="every image predicted as one class: nothing was saved"):
        Natural(**TINY)(tiny, **NETWORK, run=Run(out=tmp_path, quiet=True))
    assert not (tmp_path / "model.safetensors").exists()


# ---------------------------------------------------------------- adversarial objectives


def batch_of(task: Task, n: int = 16, step: int = 3) -> Batch:
    some = torch.arange(n)
    return Batch(to_pixels(task.train.fetch(some)), task.train.labels[some], task.train.ids[some], some, step)


@pytest.mark.parametrize(("steps", "step"), [(1, 1.25), (3, 0.25), (7, 0.25), (3, 1.0)])
def test_crafted_images_are_signed_steps_from_an_addressed_start(tiny: Task, steps: int, step: float) -> None:
    """Spelt out: x + clip(start + step * eps * sign(gradient)), as often as there are steps."""
    classifier, batch = make_classifier().train(), batch_of(tiny)
    objective = AdversarialObjective(classifier, THREAT, RUN, steps=steps, step=step)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    found = objective.craft(batch)

    plain, x = classifier.copy().eval(), batch.images
    current = THREAT.random_start(x, batch.ids, seed=0, purpose="train", step=batch.step)
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        nn.functional.cross_entropy(plain(current), batch.labels, reduction="sum").backward()
        assert current.grad is not None
        delta = (current + step * THREAT.eps * current.grad.sign() - x).clamp(-THREAT.eps, THREAT.eps)
        current = (x + delta).clamp(0, 1)
    torch.testing.assert_close(found, current.detach(), rtol=0, atol=1e-6)

    assert float((found - x).abs().max()) <= THREAT.eps + 1e-6
    assert not found.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items()), "no statistic moves"
    assert classifier.training
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
    assert torch.equal(objective.craft(batch), found), "addressed, so the same again"
    assert not torch.equal(objective.craft(batch_of(tiny, step=4)), found), "and other noise at another step"


def test_steps_that_the_guard_added_are_shorter(tiny: Task) -> None:
    """Two steps of 1.25 eps would end at a corner whatever the first one did: they are of 0.75 eps."""
    batch, made = batch_of(tiny), []
    for guarded, step in ((tiny.train, 1.25), (None, 0.75)):
        classifier = make_classifier().train()
        objective = AdversarialObjective(classifier, THREAT, RUN, steps=1 if guarded else 2, step=step, guarded=guarded)
        if guarded:
            objective.react()
        made.append(objective.craft(batch))
    assert torch.equal(*made)


def test_the_loss_is_that_of_the_crafted_images_in_training_mode(tiny: Task) -> None:
    objective, batch = AdversarialObjective(make_classifier(), THREAT, RUN, steps=2, step=0.5), batch_of(tiny)
    crafted = objective.craft(batch)
    plain = objective.classifier.copy().train()
    out = objective.train()(batch)
    torch.testing.assert_close(out["logits"], plain(crafted))
    torch.testing.assert_close(
        out["loss"], nn.functional.cross_entropy(plain(crafted), batch.labels), rtol=1e-4, atol=1e-5
    )
    assert objective.passes_per_image == 3 + 2 * 2


def test_the_methods_settings_reach_their_objectives(tiny: Task) -> None:
    classifier = make_classifier()
    for method, steps, step, guarded in (
        (Fast(step=0.7, guard_images=7), 1, 0.7, 7),
        (PGDAT(steps=4, step=0.3), 4, 0.3, None),
        (PGDAT(), 7, 0.25, None),
        (Fast(guard_images=999), 1, 1.25, 40),
    ):
        objective = method.objective(classifier, tiny, THREAT, RUN)
        assert isinstance(objective, AdversarialObjective)
        assert (int(objective.steps), objective.step) == (steps, step)
        assert (len(objective.guarded) if objective.guarded else None) == guarded
        assert objective.max_reactions == (3 if guarded else 0)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [(Fast, {"step": 0}), (Fast, {"guard_images": 0}), (PGDAT, {"steps": 0}), (PGDAT, {"step": -1})],
)
def test_settings_that_make_no_sense(cls: type[Pretraining], settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs a"):
        cls(**settings)


class Masked(nn.Module):
    """Overfitted to one full step, by construction: the margin is a wave over the mean pixel, one period an eps long.

    The gradient at a clean image points along the wave; after a whole eps the margin is as large again, half way it
    is negative.
    """

    def __init__(self, eps: float, wave: bool) -> None:
        super().__init__()
        self.eps, self.wave, self.device = eps, wave, torch.device("cpu")

    def forward(self, x: Tensor) -> Tensor:
        along = (x.mean((1, 2, 3)) - 128 / 255) / self.eps
        margin = torch.cos(2 * math.pi * (along + 0.05)) if self.wave else 0.5 - 0.1 * along
        return torch.stack([margin, -margin], 1)


@pytest.mark.parametrize("wave", [True, False])
def test_real_attacks_show_real_overfitting(wave: bool) -> None:
    grey = Split.in_memory(
        torch.full((8, 3, 8, 8), 128, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), ("a", "b")
    )
    objective = AdversarialObjective(make_classifier(), THREAT, RUN, steps=1, step=1.25, guarded=grey)
    objective.classifier = Masked(THREAT.eps, wave)  # type: ignore[assignment]
    what, figures = objective.guard()
    assert figures == {"guard_fgsm_accuracy": 1.0, "guard_pgd_accuracy": 0.0 if wave else 1.0}
    assert what == ("catastrophic overfitting (FGSM accuracy 1.00, PGD-5 accuracy 0.00)" if wave else None)
    assert objective.spent > 0


# ---------------------------------------------------------------- validation


def test_validation_measures_and_counts() -> None:
    task = make_digits(train=0, val=60, test=0)
    classifier = make_classifier().eval()
    right = classifier(to_pixels(task.val.images())).argmax(1) == task.val.labels
    none = Validation(task.val, Threat.parse("linf:0"), RUN)
    figures = none(classifier)
    assert figures["clean_accuracy"] == pytest.approx(float(right.float().mean()))
    assert figures["robust_accuracy"] == figures["clean_accuracy"], "a budget of 0 changes nothing"
    strong = Validation(task.val, Threat.parse("linf:0.5"), RUN)
    assert strong(classifier)["robust_accuracy"] < figures["clean_accuracy"]
    assert strong.cost.adversarial_examples == int(right.sum())
    once = strong.cost.passes
    assert once > none.cost.passes >= 60
    strong(classifier)
    assert strong.cost.passes == 2 * once
    clean = Validation(task.val, None, RUN)
    assert clean(classifier) == {"clean_accuracy": figures["clean_accuracy"]}
    assert clean.cost.adversarial_examples == 0
    assert len(Validation(task.val, THREAT, RUN, limit=7).val) == 7


class Constant(nn.Module):
    """Predicts class 3, but class 4 for images whose mean is above ``bright``."""

    def __init__(self, bright: float) -> None:
        super().__init__()
        self.bright = bright

    def forward(self, x: Tensor) -> Tensor:
        return torch.eye(10)[3 + (x.mean((1, 2, 3)) > self.bright).long()]

    def eval_mode(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def test_a_collapse_is_refused_however_the_images_are_sorted() -> None:
    constant, wavering = cast(Classifier, Constant(1.0)), cast(Classifier, Constant(0.3))
    task = make_digits(train=600, val=0, test=0)
    by_class = task.train.subset(task.train.labels.argsort(stable=True))
    one = by_class.subset((by_class.labels == 3).nonzero().squeeze(1))
    refuse_collapse(constant, one, RUN)  # one class is all there is
    for split in (task.train, by_class):
        with pytest.raises(DivergedError, match="every image predicted as one class"):
            refuse_collapse(constant, split, RUN, limit=50)
        refuse_collapse(wavering, split, RUN, limit=50)


def test_a_checkpoint_is_what_comes_out(tiny: Task) -> None:
    made = Natural(**TINY)(tiny, **NETWORK)
    assert isinstance(made, Checkpoint)
    assert not made.classifier.training


def test_the_card_says_how_images_were_augmented() -> None:
    task, settings = make_digits(train=40, val=0, test=0), {**TINY, "augment": "random-resized-crop"}
    card = Natural(**settings)(task, **NETWORK, run=RUN).card
    assert card.settings["augment"] == "random-resized-crop"
    told = "random resized crop (scale 0.08 to 1, ratio 3/4 to 4/3, bilinear)"
    assert card.metrics["augmentation"].removesuffix(", random flip") == told
