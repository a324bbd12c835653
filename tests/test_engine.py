"""Fast copies: the same outputs, the original unchanged, chosen by their gain."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer import engine
from robust_transfer.attacks.feature_loss import LogitsAndFeatures
from robust_transfer.classifier import Classifier, Features, NetworkSpec
from robust_transfer.engine import Engine
from robust_transfer.losses import cross_entropy
from robust_transfer.preprocessing import Preprocessing

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


def test_compiled_gradients_are_the_same_and_passes_without_one_are_not_compiled() -> None:
    network, (x, labels) = used(), (torch.rand(16, 3, 16, 16), torch.arange(16) % 5)
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
