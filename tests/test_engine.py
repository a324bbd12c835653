"""The fast copies: the same outputs, nothing of the original touched, chosen by what they gain."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from helpers import noting
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer import engine, hardware, run
from robust_transfer.attacks.feature_loss import LogitsAndFeatures
from robust_transfer.classifier import Classifier, Features, NetworkSpec
from robust_transfer.engine import Engine, better, choose
from robust_transfer.losses import cross_entropy
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run

NETWORKS: dict[str, int | None] = {  # how many batch norms cannot be folded; None: whatever the tracing finds
    "preact_resnet18_w32": 9,
    "wrn_16_2": 6,
    "resnet18_cifar": 0,
    "resnet10t": None,
    "mobilenetv3_small_050": None,
}


def used(name: str = "wrn_16_1", size: int = 16) -> Classifier:
    """A network whose batch norm has seen something."""
    torch.manual_seed(0)
    classifier = Classifier.build(NetworkSpec(name=name, num_classes=5, preprocessing=Preprocessing(size=size))).eval()
    for part in classifier.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return classifier


def relative(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).abs().max() / wanted.abs().max()).detach())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_copy_is_the_same_function_and_has_the_same_gradient(name: str) -> None:
    classifier = used(name, 32)
    x = torch.rand(3, 3, 32, 32).requires_grad_(True)
    fast = Engine().of(classifier)
    assert relative(fast(x), classifier(x)) < 1e-4
    [wanted], [found] = (torch.autograd.grad(m(x)[:, 0].sum(), x) for m in (classifier, fast))
    assert relative(found, wanted) < 1e-3
    norms = [part for part in fast.modules() if isinstance(part, _BatchNorm)]
    before = [part for part in classifier.modules() if isinstance(part, _BatchNorm)]
    assert len(norms) < len(before)
    assert NETWORKS[name] in (None, len(norms))


def test_the_original_is_untouched() -> None:
    classifier = used()
    state = copy.deepcopy(classifier.state_dict())
    wanted = classifier(torch.ones(1, 3, 16, 16))
    Engine(torch.bfloat16).of(classifier)(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())
    assert all(parameter.requires_grad and parameter.dtype is torch.float32 for parameter in classifier.parameters())
    assert torch.equal(classifier(torch.ones(1, 3, 16, 16)), wanted)


def test_a_copy_asks_for_no_weight_gradients_even_where_the_original_trains() -> None:
    fast = Engine().of(used().train())
    assert not any(part.training for part in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


@pytest.mark.parametrize("build", [Features, LogitsAndFeatures])
def test_what_is_built_on_a_classifier_is_copied_too(build: type[nn.Module]) -> None:
    classifier, how, x = used(), Engine(), torch.rand(2, 3, 16, 16)
    whole = build(classifier)
    assert relative(how.of(whole)(x), whole(x)) < 1e-4
    bodies = [part.body for m in (whole, classifier) for part in how.of(m).modules() if isinstance(part, Classifier)]
    assert bodies[0] is bodies[1]  # folded once


def test_bfloat16_stays_in_the_body() -> None:
    classifier, seen = used(), dict[str, torch.dtype]()
    fast = Engine(torch.bfloat16).of(classifier)
    assert isinstance(fast, Classifier)
    for name, part in fast.named_modules():
        part.register_forward_hook(lambda _m, given, _out, name=name: seen.update({name: given[0].dtype}))
    x = torch.rand(4, 3, 16, 16)
    logits = fast(x)
    assert logits.dtype is seen["head"] is seen["normalise"] is torch.float32
    assert {seen[name] for name in seen if "conv" in name} == {torch.bfloat16}
    statistics = [part.running_mean for part in fast.modules() if isinstance(part, _BatchNorm)]
    assert {value.dtype for value in statistics if value is not None} == {torch.float32}
    assert 0 < relative(logits, classifier(x)) < 0.1


def test_networks_that_cannot_be_traced_are_copied_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: nn.Module) -> nn.Module:
        raise torch.fx.proxy.TraceError("control flow")

    monkeypatch.setattr(engine, "fuse", fails)
    classifier, x = used(), torch.rand(2, 3, 16, 16)
    assert torch.allclose(Engine().of(classifier)(x), classifier(x), rtol=1e-5)


def test_a_fold_that_changes_the_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(body: nn.Module) -> nn.Module:
        body = copy.deepcopy(body)
        with torch.no_grad():
            next(body.parameters()).mul_(0.5)
        return body

    monkeypatch.setattr(engine, "fuse", wrong)
    classifier, x = used(), torch.rand(2, 3, 16, 16)
    assert torch.allclose(Engine().of(classifier)(x), classifier(x), rtol=1e-5)


def test_other_modules_are_taken_as_they_are() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert Engine().of(module) is module
    assert Engine(torch.bfloat16).of(module)(torch.rand(2, 3, 2, 2)).dtype is torch.bfloat16
    classifier = used()
    assert Engine(folded=False).of(classifier) is classifier


def batch() -> tuple[Tensor, Tensor]:
    return torch.rand(16, 3, 16, 16), torch.arange(16) % 5


def test_the_precision_that_was_asked_for_is_used() -> None:
    assert choose(used(), batch, Run(precision="float32")).precision == "float32"
    assert choose(used(), batch, Run(precision="bfloat16")).precision == "bfloat16"


def test_without_units_for_bfloat16_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "gains_by_bfloat16", lambda _: False)
    monkeypatch.setattr(engine, "better", None)
    assert choose(used(), batch, Run()).precision == "float32"


def test_with_them_it_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "gains_by_bfloat16", lambda _: True)
    asked: list[Any] = []
    monkeypatch.setattr(engine, "better", noting(asked, lambda *given: given[1]))
    network = used()
    assert choose(network, batch, Run()).precision == "bfloat16"
    assert asked[0][:3] == (Engine(), Engine(torch.bfloat16), network)


def test_compiled_gradients_are_the_same_and_passes_without_one_are_not_compiled() -> None:
    network, (x, labels) = used(), batch()
    plain, compiled = (Engine(compiled=which).of(network) for which in (False, True))
    gradients = []
    for module in (plain, compiled):
        at = x.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(cross_entropy(module(at), labels).sum(), at)[0])
    first, second = (gradient.flatten(1) for gradient in gradients)
    alike = cosine_similarity(first, second, dim=1)  # a ReLU may fall to its other side
    assert alike.median() > 0.9999
    assert alike.min() > 0.99
    with torch.no_grad():
        assert torch.equal(plain(x), compiled(x))
    assert not Engine(compiled=True).in_float32().compiled


@pytest.mark.parametrize(("passes", "seconds", "asked"), [(1e9, 1.0, True), (1e9, 1e-9, False), (1e3, 1.0, False)])
def test_what_takes_minutes_is_tried_compiled(
    monkeypatch: pytest.MonkeyPatch, passes: float, seconds: float, asked: bool
) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(engine, "seconds_of", lambda *_: seconds)
    monkeypatch.setattr(engine, "better", noting(tried, lambda *given: given[1]))
    chosen = choose(used(), batch, Run(device="cpu", precision="float32"), passes=passes)
    assert chosen.compiled == asked == bool(tried)
    other = choose(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), batch, Run(device="cpu"), passes=passes)
    assert not other.compiled


class Clock:
    """Seconds that pass as the network under way says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "process_time", lambda: self.now)


class Slow(nn.Module):
    """Takes as many seconds as its precision does; ``noise`` is what bfloat16 adds to its gradient."""

    def __init__(self, clock: Clock, bfloat16: float, noise: float = 0.0) -> None:
        super().__init__()
        self.clock, self.seconds, self.noise = clock, bfloat16, noise
        self.weight = nn.Parameter(torch.randn(5, 768, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        low = torch.is_autocast_enabled("cpu")
        self.clock.now += self.seconds if low else 1.0
        weight: Tensor = self.weight
        if low and self.noise:
            weight = weight + self.noise * torch.randn(5, 768, generator=torch.Generator().manual_seed(1))
        return x.flatten(1).float() @ weight.T.float()


@pytest.mark.parametrize(
    ("seconds", "noise", "chosen"), [(0.5, 0.0, "bfloat16"), (0.95, 0.0, "float32"), (0.5, 3.0, "float32")]
)
def test_bfloat16_is_used_where_it_gains_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, seconds: float, noise: float, chosen: str
) -> None:
    network = Slow(Clock(monkeypatch), seconds, noise)
    assert better(Engine(), Engine(torch.bfloat16), network, *batch()).precision == chosen
    assert network.weight.requires_grad


@pytest.mark.parametrize(("units", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_matrix_units_are_trusted_unless_they_are_clearly_slower(
    monkeypatch: pytest.MonkeyPatch, units: bool, chosen: str
) -> None:
    monkeypatch.setattr(run, "gains_by_bfloat16", lambda _: True)
    monkeypatch.setattr(hardware, "has_matrix_units", lambda _: units)
    clock = Clock(monkeypatch)
    assert choose(Slow(clock, 1.03), batch, Run(device="cpu", quiet=True)).precision == chosen
    assert choose(Slow(clock, 1.5), batch, Run(device="cpu", quiet=True)).precision == "float32"


def test_a_module_that_does_not_fit_is_left_to_the_attack() -> None:
    for out in (lambda x: (x, x), lambda x: x.flatten(1)[:, :3], lambda x: x):

        class Odd(nn.Module):
            def forward(self, x: Tensor, out=out) -> Tensor:  # type: ignore[no-untyped-def]
                return out(x)  # type: ignore[no-any-return]

        assert better(Engine(), Engine(torch.bfloat16), Odd(), *batch()).precision == "float32"


def test_a_network_that_cannot_compute_in_bfloat16_is_not_made_to() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("expected scalar type Float but found BFloat16")
            return x.flatten(1)

    assert better(Engine(), Engine(torch.bfloat16), Strict(), *batch()).precision == "float32"
