"""Attacks: closed forms, an independent reference, what can never help the model, and what is not trusted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import ATTACKS, FGSM, PGD, SUITES, Attack, Target, attack_name, parse_attack, worst_case
from robust_transfer.attacks.target import NOISE, is_broken, predicted
from robust_transfer.attacks.worst_case import STANDS, WRONG_WHEN_CLEAN
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import build, config
from robust_transfer.errors import ConfigError, NetworkError, UnknownNameError
from robust_transfer.losses import margin
from robust_transfer.threat import Threat

LINF, L2 = Threat(norm="linf", eps=0.2), Threat(norm="l2", eps=1.0)
SLACK = 1e-6
Batch = tuple[Tensor, Tensor, Tensor]


class Linear(nn.Module):
    """Logits ``w x + b``: every margin is known exactly."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight, self.bias)


class Scaled(nn.Module):
    """A model whose logits are multiplied by a constant."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.scale


class Function(nn.Module):
    """Any function of a batch as a model."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def small_network(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits() -> Batch:
    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()[:, None].repeat(1, 3, 1, 1)
    return images, torch.from_numpy(data.target).long(), torch.arange(len(images))


@pytest.fixture(scope="module")
def network(digits: Batch) -> nn.Module:
    """A small network after a few epochs of adversarial training: many examples lie close to its boundaries."""
    images, labels, _ = digits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_network()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(6):
            for rows in torch.randperm(1200).split(100):
                x = images[rows].requires_grad_(True)
                (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels[rows]), x)
                moved = (x + 0.15 * gradient.sign()).clamp(0, 1).detach()
                optimizer.zero_grad()
                F.cross_entropy(model(torch.cat([x.detach(), moved])), labels[rows].repeat(2)).backward()
                optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@pytest.fixture(scope="module")
def batch(digits: Batch) -> Batch:
    """256 test images that the network has not seen."""
    images, labels, ids = digits
    return images[1200:1456], labels[1200:1456], ids[1200:1456]


def first(batch: Batch, n: int) -> Batch:
    return batch[0][:n], batch[1][:n], batch[2][:n]


def constant(rows: int, classes: int = 4) -> Batch:
    return torch.full((rows, 3, 4, 4), 0.5), torch.zeros(rows).long() % classes, torch.arange(rows)


# ---------------------------------------------------------------- closed forms


def separated(norm: str, pair: tuple[int, int], shares: Tensor, eps: float) -> tuple[Linear, Batch]:
    """A linear model of four classes and grey images whose exact distance to the pair's boundary is ``shares * eps``.

    Classes out of the pair have logits so low that they are out of reach.
    """
    generator = torch.Generator().manual_seed(sum(pair))
    own, other = pair
    weight, bias = torch.randn(4, 48, generator=generator), torch.full((4,), -1000.0)
    across = weight[other] - weight[own]
    length = across.abs().sum() if norm == "linf" else across.norm()
    x = 0.5 + 0.05 * (torch.rand(len(shares), 48, generator=generator) - 0.5)
    # moved along the normal until the margin is what it should be
    bias[own], bias[other] = 0.0, 0.0
    x = x - ((x @ across + shares * eps * length) / across.square().sum())[:, None] * across
    return Linear(weight, bias), (x.view(-1, 3, 4, 4), torch.full((len(x),), own), torch.arange(len(x)))


EXACT: dict[str, list[Attack]] = {
    "linf": [FGSM(), PGD(steps=12), PGD(steps=12, loss="margin"), PGD(steps=4, random_start=False)],
    "l2": [FGSM(), PGD(steps=4, random_start=False), PGD(steps=40, loss="dlr"), PGD(steps=40)],
}


@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (2, 3), (3, 1)])
@pytest.mark.parametrize(("norm", "number"), [(norm, i) for norm, some in EXACT.items() for i in range(len(some))])
def test_on_a_linear_model_the_exact_margin_decides(norm: str, number: int, pair: tuple[int, int]) -> None:
    attack, threat = EXACT[norm][number], Threat(norm=norm, eps=0.03 if norm == "linf" else 0.1)
    shares = torch.tensor([0.3, 0.6, 0.9, 0.97, 1.03, 1.1, 1.5])
    model, (x, labels, ids) = separated(norm, pair, shares, threat.eps)
    assert x.min() > threat.eps  # the box does not interfere
    assert x.max() < 1 - threat.eps
    result = attack(model, x, labels, ids, threat)
    assert result.broken.tolist() == (shares < 1).tolist()
    assert result.prediction.tolist() == torch.where(shares < 1, pair[1], pair[0]).tolist()


@pytest.mark.parametrize(("steps", "broken"), [(3, False), (4, True)])
def test_the_last_iterate_is_scored(steps: int, broken: bool) -> None:
    threat = Threat(norm="linf", eps=0.03)
    model, (x, labels, ids) = separated("linf", (0, 1), torch.tensor([0.9]), threat.eps)
    result = PGD(steps=steps, random_start=False)(model, x, labels, ids, threat)
    assert result.broken.tolist() == [broken]


def test_the_start_is_scored() -> None:
    x, labels, ids = constant(8)

    def trap(x: Tensor) -> Tensor:
        """Wrong only near the clean image; the gradient leads away from there."""
        mean = x.flatten(1).mean(1)
        off = (mean - 0.5).abs()
        value = torch.where((off > 0) & (off < 0.05), 1.0, -1.0)
        value = value.detach() + 100 * (mean - mean.detach())
        return torch.stack([-value, value], 1)

    result = PGD(steps=5)(Function(trap), x, labels, ids, LINF)
    assert result.broken.all()


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_one_full_pgd_step_is_fgsm(network: nn.Module, batch: Batch, threat: Threat, loss: str) -> None:
    fgsm = FGSM(loss=loss)(network, *batch, threat)
    pgd = PGD(steps=1, step=1.0, random_start=False, loss=loss)(network, *batch, threat)
    assert torch.equal(fgsm.adversarial, pgd.adversarial)
    assert torch.equal(fgsm.broken, pgd.broken)
    assert fgsm.broken.any()
    assert not fgsm.broken.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_takes_the_steps_of_ten_lines_of_plain_pytorch(
    network: nn.Module, batch: Batch, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threat, seed, steps = (LINF if norm == "linf" else L2), 3, 10
    clean, labels, ids = first(batch, 96)
    iterates: list[Tensor] = []

    def never(self: Target, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        iterates.append(x.clone())
        return torch.zeros(len(x), dtype=torch.bool), margin(logits, labels)

    monkeypatch.setattr(Target, "judge", never)
    right = network(clean).argmax(1) == labels
    clean, labels, ids = clean[right], labels[right], ids[right]
    PGD(steps=steps)(network, clean, labels, ids, threat, seed=seed)
    assert len(iterates) == steps + 1
    assert ((iterates[0] - clean).flatten(1).abs().amax(1) > 0.01).all()

    x, size = iterates[0], threat.eps / 4
    for found in iterates[1:]:
        x = x.detach().requires_grad_(True)
        F.cross_entropy(network(x), labels, reduction="sum").backward()
        if norm == "linf":
            delta = (x + size * x.grad.sign() - clean).clamp(-threat.eps, threat.eps)
        else:
            delta = x + size * x.grad / x.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) - clean
            delta = delta * (threat.eps / delta.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
        x = (clean + delta).clamp(0, 1).detach()
        assert torch.allclose(found, x, atol=1e-4 if norm == "l2" else SLACK)
    network.zero_grad(set_to_none=True)


# ---------------------------------------------------------------- what can never help the model


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_more_steps_and_more_restarts_never_help_the_model(
    network: nn.Module, batch: Batch, threat: Threat, seed: int
) -> None:
    settings = [{"steps": 2}, {"steps": 5}, {"steps": 10}, {"steps": 10, "restarts": 2}, {"steps": 10, "restarts": 4}]
    results = [PGD(**some)(network, *batch, threat, seed=seed) for some in settings]  # type: ignore[arg-type]
    for weaker, stronger in pairwise(results):
        assert not (weaker.broken & ~stronger.broken).any()
        stands = ~stronger.broken
        assert (stronger.margin[stands] >= weaker.margin[stands]).all()
    assert int(results[0].broken.sum()) < int(results[-1].broken.sum())
    assert (results[-1].margin > results[-2].margin)[~results[-1].broken].any()


@pytest.mark.parametrize("loss", ["margin", "dlr"])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_the_scale_of_the_logits_changes_no_bit(network: nn.Module, batch: Batch, loss: str, scale: float) -> None:
    attack = PGD(steps=5, loss=loss)
    plain, scaled = attack(network, *batch, LINF), attack(Scaled(network, scale), *batch, LINF)
    assert torch.equal(plain.adversarial, scaled.adversarial)
    assert torch.equal(plain.broken, scaled.broken)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_logits_does_not_hide_the_gradient(
    network: nn.Module, batch: Batch, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = PGD(steps=10)
    plain, scaled = (int(attack(model, *batch, LINF).broken.sum()) for model in (network, Scaled(network, scale)))
    assert abs(scaled - plain) <= 0.04 * 256
    monkeypatch.setitem(losses.LOSSES, "ce", losses.cross_entropy)
    naive = int(attack(Scaled(network, scale), *batch, LINF).broken.sum())
    assert naive < scaled - (0.2 if scale > 1 else 0.02) * 256  # what cross-entropy itself would have found


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_the_scale_of_the_loss_changes_no_bit(
    network: nn.Module, batch: Batch, threat: Threat, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = PGD(steps=5)(network, *batch, threat)
    for factor in (2.0**-60, 2.0**20):
        monkeypatch.setitem(losses.LOSSES, "ce", lambda z, y, factor=factor: factor * losses.log_odds(z, y))
        assert torch.equal(PGD(steps=5)(network, *batch, threat).adversarial, found.adversarial)


# ---------------------------------------------------------------- one example's verdict is its own


def random_network() -> nn.Module:
    torch.manual_seed(4)
    return small_network().eval()


def residual_network() -> nn.Module:
    torch.manual_seed(5)
    return Classifier.build(NetworkSpec(name="wrn_16_1", num_classes=10, input_size=8)).eval()


@pytest.mark.parametrize(
    ("make", "threat", "n"),
    [
        (None, LINF, 256),
        (None, L2, 256),
        (random_network, Threat(norm="linf", eps=0.02), 256),
        (residual_network, Threat(norm="linf", eps=0.01), 64),
    ],
    ids=["trained-linf", "trained-l2", "random-linf", "residual-linf"],
)
def test_verdicts_do_not_depend_on_batch_size_order_or_neighbours(
    network: nn.Module, batch: Batch, make: Callable[[], nn.Module] | None, threat: Threat, n: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        model = make() if make else network
    x, labels, ids = first(batch, n)
    if make:  # a random network is right about its own predictions
        labels = model(x).argmax(1)
    attack = PGD(steps=3 if make else 6)
    together = attack(model, x, labels, ids, threat)
    assert 0.05 < together.broken.float().mean() < 0.95
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    for size in (1, 8, 37, n):
        rows = order[:64] if size == 1 else order
        parts = [attack(model, x[some], labels[some], ids[some], threat) for some in rows.split(size)]
        for name in ("broken", "margin", "prediction", "adversarial"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(together, name)[rows]), (
                size,
                name,
            )


def test_costs_are_counted_in_image_passes_whatever_the_batch(network: nn.Module, batch: Batch) -> None:
    x, labels, ids = first(batch, 40)
    tiny = Threat(norm="linf", eps=1e-6)
    right = int((network(x).argmax(1) == labels).sum())
    # clean and final scoring, and per restart a gradient (two passes) a step and the last iterate's score
    expected = 40 + right * (1 + 2 * (2 * 5 + 1))
    attack = PGD(steps=5, restarts=2)
    assert attack(network, x, labels, ids, tiny).passes == expected
    parts = [attack(network, x[i], labels[i], ids[i], tiny).passes for i in torch.arange(40).split(7)]
    assert sum(parts) == expected


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
from robust_transfer.attacks.target import exact_float32

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


# ---------------------------------------------------------------- precision


def test_bfloat16_steps_get_float32_verdicts(network: nn.Module, batch: Batch) -> None:
    result = PGD(steps=8)(network, *batch, LINF, dtype=torch.bfloat16)
    exact = PGD(steps=8)(network, *batch, LINF)
    logits = network(result.adversarial).detach()
    assert torch.allclose(result.margin, margin(logits, batch[1]), atol=1e-4)
    assert torch.equal(result.broken, is_broken(logits, batch[1]) | (result.clean_prediction != batch[1]))
    assert torch.equal(result.clean_prediction, exact.clean_prediction)
    assert abs(int(result.broken.sum()) - int(exact.broken.sum())) <= 0.03 * len(exact.broken)
    assert not torch.equal(result.adversarial, exact.adversarial)  # the steps were taken in bfloat16


def lying(inside: float, outside: float) -> nn.Module:
    """A model that says another margin under autocast than in float32 once the image is off the clean one."""

    def function(x: Tensor) -> Tensor:
        off = (x - 0.5).flatten(1).abs().amax(1) > 1e-4
        value = torch.where(off, inside if torch.is_autocast_enabled("cpu") else outside, -1.0) + 0 * x.flatten(1).sum(
            1
        )
        return torch.stack([-value, value], 1)

    return Function(function)


def test_a_break_that_only_bfloat16_sees_is_none() -> None:
    assert not PGD(steps=3)(lying(1.0, -0.5), *constant(4), LINF, dtype=torch.bfloat16).broken.any()


def test_a_survivors_last_iterate_is_scored_in_float32() -> None:
    assert PGD(steps=3)(lying(-2.0, 0.5), *constant(4), LINF, dtype=torch.bfloat16).broken.all()


def test_a_tie_within_noise_is_no_break() -> None:
    labels = torch.zeros(3).long()
    logits = torch.tensor([[1.0, 1 + 0.5 * NOISE, 0.0], [1.0, 1 + 3 * NOISE, 0.0], [1.0, 1.0, 0.0]])
    for same in (logits, logits * 1e4, logits + 50, logits - torch.tensor([0, 0, 1e4])):
        assert is_broken(same, labels).tolist() == [False, True, False]

    def function(x: Tensor) -> Tensor:
        off = (x - 0.5).flatten(1).abs().amax(1, keepdim=True) > 0
        return torch.where(off, logits[:1], torch.tensor([[1.0, 0.0, 0.0]])).expand(len(x), 3)

    result = FGSM(random_start=True)(Function(function), *constant(2), LINF)
    assert (result.margin > 0).all()
    assert not result.broken.any()
    assert result.prediction.tolist() == [0, 0]  # what stands is its label


def test_logits_that_are_no_numbers_count_as_broken() -> None:
    nan, inf = torch.nan, torch.inf
    rows = [[2.0, 1.0], [nan, 1.0], [inf, 1.0], [2.0, -inf], [-inf, 2.0], [-inf, -inf]]
    logits, labels = torch.tensor(rows), torch.zeros(6).long()
    assert predicted(logits).tolist() == [0, -1, -1, 0, 1, -1]
    assert is_broken(logits, labels).tolist() == [False, True, True, False, True, True]

    def explodes(x: Tensor) -> Tensor:
        value = x.flatten(1).mean(1)
        return torch.stack([torch.where(value > 0.5001, nan, 1.0) + value, value], 1)

    x, own, ids = constant(4)
    result = FGSM(random_start=False)(Function(explodes), x, own, ids, LINF)
    assert result.clean_prediction.tolist() == [0] * 4
    result = PGD(steps=4, restarts=4)(Function(explodes), x, own, ids, LINF)
    assert result.broken.all()
    assert result.prediction.tolist() == [-1] * 4


# ---------------------------------------------------------------- what an attack returns is not trusted


@config
class Rogue(Attack):
    """Returns whatever it is told to."""

    how: str

    def run(self, target: Target, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        if self.how == "in place":
            x += 5
            labels += 1
            return x
        makes: dict[str, Callable[[], Any]] = {
            "far": lambda: x + 7,
            "far one way": lambda: x - 3 * torch.eye(4),
            "one NaN": lambda: torch.where(torch.arange(x.numel()).view_as(x) % 48 == 5, torch.nan, x + threat.eps),
            "infinite": lambda: x * torch.inf,
            "float64": lambda: (x + threat.eps).double(),
            "tracked": lambda: (x + threat.eps).requires_grad_(True),
            "too few": lambda: x[:-1],
            "other shape": lambda: x.flatten(1),
            "nothing": lambda: None,
        }
        return makes[self.how]()


@pytest.mark.parametrize("how", ["far", "far one way", "one NaN", "infinite", "float64", "tracked", "in place"])
@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.1), Threat(norm="l2", eps=0.4)], ids=str)
def test_whatever_comes_back_ends_in_ball_and_box(how: str, threat: Threat) -> None:
    x, labels, ids = constant(6)
    clean = x.clone()
    weight = torch.zeros(4, 48)
    weight[1] = 1.0  # class 1 wins as soon as the image is brighter than 0.52
    model = Linear(weight, torch.tensor([0.52 * 48, 0.0, 0.0, 0.0]))
    result = Rogue(how=how)(model, x, labels, ids, threat)
    assert torch.equal(x, clean)
    assert labels.tolist() == [0] * 6
    assert result.adversarial.dtype is torch.float32
    assert not result.adversarial.requires_grad
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert (threat.size(result.adversarial - clean) <= threat.eps + SLACK).all()
    assert torch.allclose(result.margin, margin(model(result.adversarial).detach(), labels), atol=1e-4)
    assert result.broken.all() == (how not in ("one NaN", "infinite", "far one way"))
    if how in ("one NaN", "infinite"):
        assert torch.equal(result.adversarial, clean)


@pytest.mark.parametrize("how", ["too few", "other shape", "nothing"])
def test_other_shapes_are_refused(how: str) -> None:
    model = Linear(torch.zeros(2, 48), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="must return images of the shape it was given"):
        Rogue(how=how)(model, *constant(6), LINF)


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


@pytest.mark.parametrize("name", ATTACKS.names())
@pytest.mark.parametrize("threat", [LINF, L2, Threat(norm="linf", eps=0.9), Threat(norm="l2", eps=9.0)], ids=str)
def test_every_attack_stays_in_ball_and_box_and_is_seeded(
    name: str, threat: Threat, network: nn.Module, batch: Batch
) -> None:
    attack, some = ATTACKS.get(name)(), first(batch, 12)
    result, again = (attack(network, *some, threat, seed=1) for _ in range(2))
    assert torch.equal(result.adversarial, again.adversarial)
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert (threat.size(result.adversarial - some[0]) <= threat.eps + SLACK * max(1, threat.eps)).all()
    assert result.broken.any()
    assert not network.training
    if getattr(attack, "random_start", False):
        other = attack(network, *some, threat, seed=2)
        assert not torch.equal(result.adversarial, other.adversarial)


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
        entry.cls(no_such_setting=1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}, {"step": 0.0}, {"step": -1}, {"loss": "nonsense"}])
def test_pgd_refuses_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PGD(**wrong)


def test_fgsm_refuses_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="positive multiple"):
        FGSM(step=0)
    with pytest.raises(ConfigError, match="unknown loss"):
        FGSM(loss="nonsense")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "attacks"),
    [
        ("pgd-20", [PGD(steps=20)]),
        ("pgd", [PGD()]),
        ("PGD-7", [PGD(steps=7)]),
        ("pgd-20:loss=margin,restarts=10", [PGD(steps=20, loss="margin", restarts=10)]),
        ("pgd:steps=3", [PGD(steps=3)]),
        ("fgsm", [FGSM()]),
        ("fgsm:random_start=true, step=1.25", [FGSM(random_start=True, step=1.25)]),
        ("pgd-5:step=1e-1", [PGD(steps=5, step=0.1)]),
        ("fgsm:step=1e+3+pgd-2", [FGSM(step=1000.0), PGD(steps=2)]),
        ("fgsm + pgd-10:random-start=no", [FGSM(), PGD(steps=10, random_start=False)]),
        ("pgd-2+fgsm+pgd-2", [PGD(steps=2), FGSM()]),
        ("quick+fgsm", [*parse_attack("quick"), FGSM()]),
    ],
)
def test_attacks_are_parsed(text: str, attacks: list[Attack]) -> None:
    assert parse_attack(text) == attacks
    assert parse_attack(attack_name(attacks)) == attacks


@pytest.mark.parametrize("suite", list(SUITES))
def test_suites_are_attacks(suite: str) -> None:
    assert len(parse_attack(suite)) > 1


def test_attacks_that_are_given_are_passed_on() -> None:
    assert parse_attack(PGD(steps=3)) == [PGD(steps=3)]
    assert parse_attack([PGD(steps=3), FGSM(), PGD(steps=3)]) == [PGD(steps=3), FGSM()]


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (PGD(), "pgd-20"),
        (PGD(steps=5, loss="margin", restarts=10), "pgd-5:restarts=10,loss=margin"),
        (PGD(random_start=False, step=0.1), "pgd-20:step=0.1,random_start=false"),
        (FGSM(), "fgsm"),
    ],
)
def test_attacks_have_one_name(attack: Attack, name: str) -> None:
    assert str(attack) == name


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("pdg-20", UnknownNameError, "unknown attack 'pdg': did you mean 'pgd'"),
        ("strong", UnknownNameError, "unknown attack 'strong': known: fgsm, pgd, quick"),
        ("autoattack", UnknownNameError, "known: fgsm, pgd, quick"),
        ("quik", UnknownNameError, "did you mean 'quick'"),
        ("quick:steps=3", UnknownNameError, "unknown attack 'quick'"),
        ("", UnknownNameError, "unknown attack"),
        ("pgd-20+", UnknownNameError, "unknown attack"),
        ("pgd-20+5", UnknownNameError, "unknown attack"),
        ("pgd-20:restart=3", ConfigError, "did you mean 'restarts'"),
        ("pgd-20:loss", ConfigError, "cannot read 'loss' in the attack 'pgd-20:loss'"),
        ("pgd-20:", ConfigError, "cannot read ''"),
        ("pgd-20:=3", ConfigError, "cannot read '=3'"),
        ("pgd-20:steps=3", ConfigError, "gives steps twice"),
        ("pgd-20:loss=ce,loss=dlr", ConfigError, "gives loss twice"),
        ("pgd-0", ConfigError, "at least 1 step"),
        ("pgd-20:restarts=many", ConfigError, "restarts='many'"),
        ("pgd-20:loss=cee", ConfigError, "unknown loss 'cee'"),
        ("fgsm-3", ConfigError, "takes no number"),
    ],
)
def test_what_is_no_attack_is_refused(text: str, error: type[ConfigError], said: str) -> None:
    with pytest.raises(error) as caught:
        parse_attack(text)
    assert said in str(caught.value)


def test_no_attack_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no attack is given"):
        parse_attack([])


# ---------------------------------------------------------------- several attacks


def test_each_attack_sees_only_what_the_earlier_ones_left(
    network: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks: list[Attack] = [FGSM(), PGD(steps=5), PGD(steps=10, loss="margin")]
    alone = [attack(network, *batch, LINF, seed=2) for attack in attacks]
    seen: list[Tensor] = []
    run = PGD.run
    monkeypatch.setattr(
        PGD, "run", lambda self, target, x, y, ids, *rest: seen.append(ids) or run(self, target, x, y, ids, *rest)
    )
    found = worst_case(attacks, network, *batch, LINF, seed=2)

    wrong = alone[0].clean_prediction != batch[1]
    expected = torch.full((len(wrong),), STANDS)
    for number in reversed(range(len(attacks))):
        expected[alone[number].broken] = number
    expected[wrong] = WRONG_WHEN_CLEAN
    assert torch.equal(found.by, expected)
    assert set(found.by.tolist()) == {WRONG_WHEN_CLEAN, STANDS, 0, 1, 2}
    assert torch.equal(seen[0], batch[2][~alone[0].broken])
    assert torch.equal(seen[1], batch[2][~alone[0].broken & ~alone[1].broken])

    stands = found.by == STANDS
    assert torch.equal(found.result.broken, ~stands)
    assert torch.equal(found.result.margin[stands], torch.stack([a.margin for a in alone]).amax(0)[stands])
    assert torch.equal(found.result.prediction[stands], batch[1][stands])
    for number, result in enumerate(alone):
        mine = found.by == number
        assert torch.equal(found.result.adversarial[mine], result.adversarial[mine])
        assert torch.equal(found.result.prediction[mine], result.prediction[mine])
        assert torch.equal(found.result.margin[mine], result.margin[mine])
    assert found.result.passes > alone[0].passes
    assert found.result.passes < sum(a.passes for a in alone)
