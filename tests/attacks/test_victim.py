"""Verdicts: an example's is its own, float32 gives it, and what an attack returns is not trusted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from attack_helpers import L2, LINF, SLACK, Batch, Function, Linear, constant, first, small_network
from torch import Tensor, nn

from robust_transfer.attacks import ATTACKS, FGSM, PGD, Attack, Victim, parse_attack
from robust_transfer.attacks.victim import NOISE, attacking, is_broken, predicted
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import config
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.losses import margin
from robust_transfer.pass_sizes import usual_chunk
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.threat import Threat

# ---------------------------------------------------------------- one example's verdict is its own


def random_network() -> nn.Module:
    torch.manual_seed(4)
    return small_network().eval()


def residual_network() -> nn.Module:
    torch.manual_seed(5)
    return Classifier.build(NetworkSpec(name="wrn_16_1", num_classes=10, preprocessing=Preprocessing(size=8))).eval()


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
    attack = partial(PGD(steps=3 if make else 6), engine=Engine() if make is residual_network else None)
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


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("engine", "sizes"),
    [
        (Engine(), [32, 32]),
        (Engine(tight=True), [32, 8]),
        (Engine(tight=True, compiled=True), [32, 32]),  # a size that is compiled once
    ],
)
def test_the_last_pass_of_a_tight_engine_is_a_small_one(engine: Engine, sizes: list[int]) -> None:
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.flatten(1)[:, :2]

    x = torch.rand(37, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    victim = Victim(Function(model), x.device, engine, chunk=32)
    assert torch.equal(victim.logits(x), x.flatten(1)[:, :2])
    assert victim.passes == 37
    assert seen == sizes
    for few, size in [(1, 4), (4, 4), (5, 8), (16, 16), (17, 32), (32, 32)]:
        seen.clear()
        assert torch.equal(
            victim.gradient(x[:few], torch.zeros(few, dtype=torch.long), margin)[0], x[:few].flatten(1)[:, :2]
        )
        assert seen == ([size] if engine.tight and not engine.compiled else [32])


def test_passes_take_fewer_photos() -> None:
    """Eight of 224 pixels a thread: their maps fill what more of smaller images fill."""
    device = torch.device("cpu")
    for threads, sizes in ((1, {32: 16, 64: 16, 160: 15, 224: 8, 384: 2}), (2, {32: 32, 224: 16, 1024: 1})):
        torch.set_num_threads(threads)
        for size, images in sizes.items():
            spec = NetworkSpec(name="wrn_16_1", num_classes=2, preprocessing=Preprocessing(size=size))
            for model, said in ((Classifier.build(spec), None), (nn.Linear(2, 2), size)):
                with attacking(model, device, size=said) as victim:
                    assert victim.chunk == images, size
        assert usual_chunk(device) == 16 * threads
    assert usual_chunk(torch.device("cuda"), 224) is None


def test_a_gradient_of_several_draws_is_their_mean() -> None:
    """A model whose slope is 1, 2, 3, ... from call to call: so is the gradient of the margin in every pixel."""
    slopes = iter(range(1, 100))

    def random(x: Tensor) -> Tensor:
        rise = next(slopes) * x.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(rise), rise], 1)

    x, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.int64)
    with attacking(Function(random), x.device, draws=4) as target:
        logits, gradient = target.gradient(x, labels, margin)
    assert torch.equal(gradient, torch.full_like(x, (1 + 2 + 3 + 4) / 4))
    assert torch.equal(logits[:, 1], torch.full((3,), 2 * 2.5))
    assert target.passes == 3 * 2 * 4


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_that_takes_gradients_takes_means_of_them(name: str) -> None:
    attack = ATTACKS.get(name)
    if attack.gradient_free:
        with pytest.raises(ConfigError, match="takes no gradients: leave out eot"):
            attack(eot=2)
    else:
        assert f"{attack(eot=2)}".endswith("eot=2")
        assert parse_attack(str(attack(eot=2))) == [attack(eot=2)]
    with pytest.raises(ConfigError, match="eot"):
        attack(eot=0)


def test_means_of_gradients_cost_what_they_count(network: nn.Module, batch: Batch) -> None:
    some = first(batch, 10)
    one, four = (PGD(steps=3, eot=eot)(network, *some, Threat(norm="linf", eps=1e-6)) for eot in (1, 4))
    steps = int((one.clean_prediction == some[1]).sum()) * 3
    assert four.passes - one.passes == steps * 2 * 3
    assert torch.equal(one.broken, four.broken)


def test_bfloat16_steps_get_float32_verdicts(network: nn.Module, batch: Batch) -> None:
    result = PGD(steps=8)(network, *batch, LINF, engine=Engine(torch.bfloat16))
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
    assert not PGD(steps=3)(lying(1.0, -0.5), *constant(4), LINF, engine=Engine(torch.bfloat16)).broken.any()

    result = PGD(steps=3)(lying(1.0, -0.5), *constant(4), LINF, engine=Engine(torch.bfloat16))
    assert result.unconfirmed == 4 * 3  # the last iterate is only ever asked in float32


def test_a_survivors_last_iterate_is_scored_in_float32() -> None:
    result = PGD(steps=3)(lying(-2.0, 0.5), *constant(4), LINF, engine=Engine(torch.bfloat16))
    assert result.broken.all()
    assert (result.missed, result.unconfirmed) == (4, 0)


def test_an_attack_can_insist_on_float32() -> None:
    attack = PGD(steps=3, precision="float32")
    assert str(attack) == "pgd-3:precision=float32"
    result = attack(lying(1.0, -0.5), *constant(4), LINF, engine=Engine(torch.bfloat16))
    assert (result.missed, result.unconfirmed) == (0, 0)


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

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
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
        made: Any = makes[self.how]()
        return cast(Tensor, made)


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
