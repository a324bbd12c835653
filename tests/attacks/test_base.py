"""Every attack: the model is left as it was, odd models and batches, the registry's contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack_helpers import L2, LINF, SLACK, Batch, Function, Linear, constant, first, small_network
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import APGD, ATTACKS, FGSM, PGD, Attack, Knowledge, TargetedAPGD, Victim, parse_attack
from robust_transfer.attacks.base import SURVIVAL_SHARE
from robust_transfer.classifier import Classifier
from robust_transfer.config import build
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture
from robust_transfer.threat import Threat

# ---------------------------------------------------------------- the model is left as it was


@pytest.fixture
def dressed() -> nn.Module:
    """Mixed modes and frozen weights, as in the middle of training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_network(dropout=0.5)
    model.train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("fails", [False, True])
def test_modes_flags_statistics_and_gradients_are_left_alone(dressed: nn.Module, batch: Batch, fails: bool) -> None:
    seen: list[bool] = []
    modes = [m.training for m in dressed.modules()]
    flags = [p.requires_grad for p in dressed.parameters()]
    state = {k: v.clone() for k, v in dressed.state_dict().items()}

    def spy(module: nn.Module, inputs: Any) -> None:
        seen.append(any(m.training for m in dressed.modules()) or any(p.requires_grad for p in dressed.parameters()))
        if fails and len(seen) > 1:
            raise RuntimeError("stop")

    handle = dressed.register_forward_pre_hook(spy)
    x, _, ids = first(batch, 16)
    dressed.eval()
    with torch.no_grad():
        labels = dressed(x).argmax(1)
    for module, mode in zip(dressed.modules(), modes, strict=True):
        module.training = mode
    seen.clear()
    if fails:
        with pytest.raises(RuntimeError, match="stop"):
            PGD(steps=2)(dressed, x, labels, ids, LINF)
    else:
        PGD(steps=2)(dressed, x, labels, ids, LINF)
    handle.remove()
    assert len(seen) >= 2
    assert not any(seen)
    assert [m.training for m in dressed.modules()] == modes
    assert [p.requires_grad for p in dressed.parameters()] == flags
    assert all(p.grad is None for p in dressed.parameters())
    assert all(torch.equal(v, state[k]) for k, v in dressed.state_dict().items())


def test_callers_modes_do_not_matter(network: nn.Module, batch: Batch) -> None:
    x, labels, ids = first(batch, 32)
    wanted = PGD(steps=3)(network, x, labels, ids, LINF)
    with torch.no_grad():
        plain = PGD(steps=3)(network, x, labels, ids, LINF)
    with torch.inference_mode():
        inferred = PGD(steps=3)(network, x.clone(), labels.clone(), ids.clone(), LINF)
    with torch.autocast("cpu", torch.bfloat16):
        cast = PGD(steps=3)(network, x, labels, ids, LINF)
    for result in (plain, inferred, cast):
        assert torch.equal(result.adversarial, wanted.adversarial)
        assert torch.equal(result.margin, wanted.margin)


EXACT_MATHS = """
import torch
from robust_transfer.attacks.victim import exact_float32

conv, matmul, cpu = torch.backends.cudnn.conv, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul

def check(*wanted):
    before = [o.fp32_precision for o in (conv, matmul, cpu)]
    assert before == list(wanted), before
    with exact_float32():
        assert all(o.fp32_precision in ("none", "ieee") for o in (conv, matmul, cpu))
    assert [o.fp32_precision for o in (conv, matmul, cpu)] == before

check("tf32", "none", "none")  # PyTorch's default
assert torch.backends.cudnn.allow_tf32
matmul.allow_tf32 = True
check("tf32", "tf32", "none")
assert torch.backends.cudnn.allow_tf32 and matmul.allow_tf32
conv.fp32_precision, matmul.fp32_precision, cpu.fp32_precision = "ieee", "tf32", "bf16"
check("ieee", "tf32", "bf16")
conv.fp32_precision = "tf32"
check("tf32", "tf32", "bf16")
"""


def test_float32_is_exact_inside_and_settings_are_restored() -> None:
    """In a process of its own: PyTorch's two interfaces to these settings cannot be mixed and undone."""
    subprocess.run([sys.executable, "-W", "error", "-c", EXACT_MATHS], check=True)


# ---------------------------------------------------------------- odd models and batches


def test_an_empty_batch_is_an_empty_result() -> None:
    model = Linear(torch.zeros(2, 48), torch.zeros(2))
    result = PGD()(model, *constant(0), LINF)
    assert [len(t) for t in (result.adversarial, result.broken, result.margin, result.prediction)] == [0] * 4
    assert result.passes == 0


def test_an_example_wrong_when_clean_is_broken_and_left_alone(network: nn.Module, batch: Batch) -> None:
    x, labels, ids = first(batch, 20)
    labels = labels.clone()
    labels[::2] = (labels[::2] + 1) % 10
    result = PGD(steps=2)(network, x, labels, ids, LINF)
    wrong = network(x).argmax(1) != labels
    assert wrong.sum() >= 10
    assert result.broken[wrong].all()
    assert torch.equal(result.adversarial[wrong], x[wrong])
    assert torch.equal(result.prediction[wrong], result.clean_prediction[wrong])


def test_no_budget_gives_the_clean_accuracy(network: nn.Module, batch: Batch) -> None:
    result = PGD()(network, *batch, Threat(norm="linf", eps=0.0))
    assert torch.equal(result.broken, network(batch[0]).argmax(1) != batch[1])
    assert torch.equal(result.adversarial, batch[0])


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2)], ids=str)
def test_a_model_without_gradients_is_attacked_all_the_same(attack: Attack) -> None:
    constant_model = Function(lambda x: torch.tensor([1.0, 0.0]).repeat(len(x), 1))
    assert not attack(constant_model, *constant(3), LINF).broken.any()


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2, random_start=False)], ids=str)
def test_a_pixel_whose_gradient_is_no_number_does_not_stop_the_others(attack: Attack) -> None:
    def kinked(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        value = flat[:, 1:].sum(1) - 23.6 + 0 * (flat[:, 0] - 0.5).sqrt()  # at 0.5 its slope is 0 times infinity
        return torch.stack([-value, value], 1)

    assert attack(Function(kinked), *constant(2), LINF).broken.all()


def test_a_model_that_calls_view_on_its_input_works(batch: Batch) -> None:
    x, _, ids = first(batch, 8)
    weight = torch.randn(3, 192, generator=torch.Generator().manual_seed(0))
    model = Function(lambda x: x.view(len(x), -1) @ weight.T)
    labels = model(x).argmax(1)
    laid_out = x.contiguous(memory_format=torch.channels_last)
    assert FGSM()(model, laid_out, labels, ids, LINF).broken.any()


@pytest.mark.parametrize("returned", [lambda x: (x, x), lambda x: x, lambda x: x.flatten(1)[:1]])
def test_a_model_without_a_row_of_logits_an_image_is_refused(returned: Callable[[Tensor], Any]) -> None:
    with pytest.raises(NetworkError, match="must return logits"):
        FGSM()(Function(returned), *constant(3), LINF)


def test_labels_beyond_the_models_classes_are_refused() -> None:
    x, labels, ids = constant(3)
    with pytest.raises(NetworkError, match="2 classes apart, but a label is 2"):
        FGSM()(Linear(torch.zeros(2, 48), torch.zeros(2)), x, labels + 2, ids, LINF)


# ---------------------------------------------------------------- every registered attack


@pytest.fixture(scope="module")
def transferred(batch: Batch) -> tuple[Classifier, Knowledge, Batch]:
    """A network, the source that it has its features from, and images with the labels that it gives them."""
    source, model = make_classifier(seed=1).eval(), make_classifier(seed=1).with_head(10, seed=2).eval()
    x, _, ids = batch
    with torch.no_grad():
        labels = model(x).argmax(1)
    return model, Knowledge(source, x[-40:], labels[-40:]), (x, labels, ids)


@pytest.fixture(scope="module")
def mixed(batch: Batch) -> tuple[Classifier, None, Batch]:
    """A mixture of two networks, and images with the labels that it gives them."""
    how = Mixing(share=0.7, scale=5.0, power=2.0, shift=-0.5)
    model = mixture(make_classifier(seed=1).eval(), make_classifier(seed=2).eval(), how)
    x, _, ids = batch
    with torch.no_grad():
        return model, None, (x, model(x).argmax(1), ids)


@pytest.fixture
def scene(
    name: str,
    network: nn.Module,
    batch: Batch,
    transferred: tuple[Classifier, Knowledge, Batch],
    mixed: tuple[Classifier, None, Batch],
) -> tuple[nn.Module, Knowledge | None, Batch]:
    """What the attack called ``name`` is tried on."""
    if ATTACKS.get(name).needs_parts:
        return mixed
    return transferred if ATTACKS.get(name).needs_source else (network, None, batch)


OURS = [name for name in ATTACKS.names() if ATTACKS.get(name).batch_free]  # the reference has a file of its own


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("threat", [LINF, L2, Threat(norm="linf", eps=0.9), Threat(norm="l2", eps=9.0)], ids=str)
def test_every_attack_stays_in_ball_and_box_and_is_seeded(
    name: str, threat: Threat, scene: tuple[nn.Module, Knowledge | None, Batch]
) -> None:
    (model, known, batch), cls = scene, ATTACKS.get(name)
    effort: dict[str, Any] = {cls.count: 8} if cls.count else {}
    some, attack = first(batch, 12), cls(**effort)
    result, again = (attack(model, *some, threat, seed=1, knowledge=known) for _ in range(2))
    assert torch.equal(result.adversarial, again.adversarial)
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert (threat.size(result.adversarial - some[0]) <= threat.eps + SLACK * max(1, threat.eps)).all()
    assert not model.training
    if cls.count:  # one step from the image itself draws nothing
        other = attack(model, *some, threat, seed=2, knowledge=known)
        assert not torch.equal(result.adversarial, other.adversarial)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_every_attack_breaks_something_whatever_the_batch(
    name: str, threat: Threat, scene: tuple[nn.Module, Knowledge | None, Batch]
) -> None:
    (model, known, batch), cls = scene, ATTACKS.get(name)
    effort: dict[str, Any] = {cls.count: 150 if cls.gradient_free else 10} if cls.count else {}
    attack = cls(**effort)
    x, labels, ids = first(batch, 60)
    together = attack(model, x, labels, ids, threat, knowledge=known)
    assert (together.broken & (together.clean_prediction == labels)).sum() >= 3
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    parts = [attack(model, x[i], labels[i], ids[i], threat, knowledge=known) for i in order.split([1, 7, 22, 30])]
    for what in ("broken", "margin", "adversarial"):
        assert torch.equal(torch.cat([getattr(p, what) for p in parts]), getattr(together, what)[order]), what
    assert sum(part.passes for part in parts) >= together.passes > 60


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_is_documented_and_strict(name: str) -> None:
    entry = ATTACKS.entry(name)
    assert entry.summary
    assert entry.paper
    assert len((entry.cls.__doc__ or "").split()) > 10
    assert str(entry.cls()) == str(parse_attack(str(entry.cls()))[0])
    assert parse_attack(name) == [entry.cls()]
    assert entry.cls.count is None or isinstance(getattr(entry.cls(), entry.cls.count), int)
    with pytest.raises(ConfigError, match="no_such_setting"):
        build(entry.cls, {"no_such_setting": 1}, f"attack {name!r}")
    with pytest.raises(ConfigError, match="no_such_setting"):
        entry.cls(no_such_setting=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", OURS)
def test_an_attack_says_about_how_many_passes_it_takes(
    name: str, scene: tuple[nn.Module, Knowledge | None, Batch]
) -> None:
    """Where nothing breaks no example leaves, and the effort is the most that there can be: 1 / 0.4 times as much."""
    (model, known, batch), cls = scene, ATTACKS.get(name)
    effort: dict[str, Any] = {cls.count: 150 if cls.gradient_free else 10} if cls.count else {}
    attack = cls(**effort)
    x, _, ids = first(batch, 20)
    labels = model(x).argmax(1)
    result = attack(model, x, labels, ids, Threat(norm="linf", eps=1e-6), knowledge=known)
    assert not result.broken.any()
    assert 0.9 < result.passes / len(x) / attack.passes < 1.2 / SURVIVAL_SHARE


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}, {"step": 0.0}, {"step": -1}, {"loss": "nonsense"}])
def test_pgd_refuses_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PGD(**wrong)


def test_fgsm_refuses_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="positive multiple"):
        FGSM(step=0)
    with pytest.raises(ConfigError, match="unknown loss"):
        FGSM(loss="nonsense")


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        PGD(steps=3, restarts=2),
        APGD(steps=4, restarts=2),
        TargetedAPGD(steps=5, restarts=2, targets=3),
        TargetedAPGD(steps=9, trial=2, finalists=2, targets=3),
        TargetedAPGD(steps=9, trial=2, finalists=3, targets=3),
    ],
    ids=str,
)
def test_the_most_steps_are_those_of_what_nothing_breaks(monkeypatch: pytest.MonkeyPatch, attack: Attack) -> None:
    taken, gradient = [0], Victim.gradient

    def counted(self: Victim, x: Tensor, *rest: Any) -> Any:
        taken[0] += len(x)
        return gradient(self, x, *rest)

    monkeypatch.setattr(Victim, "gradient", counted)
    unbreakable = Function(lambda x: 9.0 - torch.arange(4.0) + 0 * x.flatten(1)[:, :1])
    assert not attack(unbreakable, *constant(5), LINF).broken.any()
    assert taken[0] == 5 * attack.most_steps


def test_a_pass_takes_no_more_images_than_it_may(network: nn.Module, batch: Batch) -> None:
    x, labels, _ = first(batch, 8)
    seen: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    target = Victim(network, x.device, most=3)
    logits = target.logits(x)
    again, gradient = target.gradient(x, labels, losses.cross_entropy)
    hook.remove()
    assert seen == [3, 3, 2] * 2
    assert target.passes == 8 + 16
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(again, logits)
    assert gradient.shape == x.shape
