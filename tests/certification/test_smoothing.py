"""Smoothing: exact on a linear model in the limit of many draws, and as often wrong as alpha says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_helpers import Batch, Function, Linear, first
from certification_helpers import bodies, inner_images
from scipy import stats
from torch import Tensor, nn

from robust_transfer.attacks.victim import attacking
from robust_transfer.certification import Smoothing
from robust_transfer.certification import smoothing as module
from robust_transfer.certification.base import Certified
from robust_transfer.certification.smoothing import ESTIMATION, largest_radius, lower_bound
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.randomness import Address
from robust_transfer.run import Run
from robust_transfer.threat import Threat

RUN = Run(quiet=True, device="cpu", precision="float32")
THREAT = Threat.parse("l2:0.5")


def halves(n: int, classes: int = 2) -> tuple[Linear, Split, Tensor]:
    """A linear model, images whose distances to its boundary are 0 to 0.6, and these distances."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, generator=generator)
    images = torch.randint(100, 156, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)
    scores = (images.flatten(1).double() / 255) @ weight.double()
    wide = weight.norm() * 0.6 / (scores - scores.median()).abs().amax()
    rows = torch.zeros(classes, 48)
    rows[0], rows[1] = -weight / 2 * wide, weight / 2 * wide
    bias = torch.full((classes,), -1e4)
    bias[0], bias[1] = 0.0, float(-scores.median() * wide)
    margin = scores * float(wide) + float(bias[1])
    labels = (margin > 0).long()
    return Linear(rows, bias), Split.in_memory(images, labels, ("a", "b")), margin.abs() / (weight.norm() * wide)


def certified(model: nn.Module, split: Split, how: Smoothing, run: Run = RUN, state: Path | None = None) -> Certified:
    return how.certify(model, split, THREAT, run, state=state, identity={"of": "this"})


def test_on_a_linear_model_the_radius_approaches_the_distance_from_below() -> None:
    model, split, distances = halves(24)
    exact = distances.numpy()
    near = exact < 0.55  # the largest radius for the fewest draws is 0.4, for the most 0.73
    share = []
    for n in (100, 1000, 20_000):
        found = certified(model, split, Smoothing(sigma=0.25, n=n))
        assert (found.radii <= exact).all()  # each holds with 99.9 %
        assert ((found.classes == split.labels.numpy()) | (found.classes == -1)).all()
        share.append(float((found.radii[near] / exact[near]).mean()))
    assert share[0] < share[1] < share[2]
    sure = near & (exact > 0.1)
    assert (found.radii[sure] > 0.9 * exact[sure]).all()


def test_one_statement_in_five_is_wrong_where_alpha_is_a_fifth() -> None:
    """All images at one distance: the share of radii that are too large is at most alpha, and not far below."""
    weight = torch.zeros(2, 48)
    weight[0, 0], weight[1, 0] = -1.0, 1.0
    images = torch.full((600, 3, 4, 4), 140, dtype=torch.uint8)
    split = Split.in_memory(images, torch.ones(600).long(), ("a", "b"))
    model = Linear(weight, torch.tensor([1.0, -1.0]) * (100 / 255))
    true = 40 / 255
    found = certified(model, split, Smoothing(sigma=0.25, n=200, alpha=0.2))
    wrong = int((found.radii > true).sum())
    assert stats.binom.cdf(wrong, 600, 0.2) < 0.9999
    assert wrong > 0.1 * 600
    assert found.radii.std() > 0  # every image has noise of its own


def test_the_bound_is_the_one_of_clopper_and_pearson() -> None:
    for k, n, alpha in ((99, 100, 0.001), (60, 100, 0.05), (900, 1000, 0.01), (1, 50, 0.1)):
        p = float(lower_bound(k, n, alpha))
        assert stats.binom.sf(k - 1, n, p) == pytest.approx(alpha, rel=1e-6)
    assert lower_bound([0, 100], 100, 0.001).tolist() == pytest.approx([0.0, 0.001**0.01])
    assert largest_radius(0.25, 1000, 0.001) == pytest.approx(0.25 * stats.norm.ppf(0.001**0.001))
    made = Smoothing(sigma=0.5, n=100).certified(np.array([3, 3, 3]), np.array([100, 62, 50]))
    assert made.classes.tolist() == [3, -1, -1]  # 62 of 100 are not sure to be more than half
    assert made.radii.tolist() == [pytest.approx(largest_radius(0.5, 100, 0.001)), 0.0, 0.0]


def test_an_images_counts_are_its_own() -> None:
    model, split, _ = halves(9)
    x, _, ids = split.on("cpu")
    how, address = Smoothing(), Address(3, ESTIMATION)
    with attacking(model, torch.device("cpu"), size=4) as target:
        whole = how.counts(target, x, ids, 70, address)
        assert whole.sum(1).tolist() == [70] * 9
        assert torch.equal(how.counts(target, x[4:6], ids[4:6], 70, address), whole[4:6])
        assert not torch.equal(how.counts(target, x, ids, 70, Address(4, ESTIMATION)), whole)
        assert target.passes == (9 + 2 + 9) * 70


def test_the_noise_is_gaussian_of_this_size_and_not_clipped() -> None:
    seen = list[Tensor]()

    def keep(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return torch.zeros(len(x), 2)

    _, split, _ = halves(2)
    certified(Function(keep), split, Smoothing(sigma=0.5, n=300, n0=50))
    images = torch.cat(seen).view(-1, 48)
    pixels = split.on("cpu")[0].flatten(1)
    own = (images[:, None] - pixels).flatten(2).norm(dim=2).argmin(1)
    noise = images - pixels[own]
    assert stats.kstest(noise.flatten()[:20_000].numpy() / 0.5, "norm").pvalue > 1e-3
    assert float(images.min()) < 0
    assert len(torch.unique(noise[:, 0])) > 0.95 * 700  # choosing and counting do not share their noise


def test_no_answer_where_half_the_draws_say_otherwise_or_nothing() -> None:
    split = Split.in_memory(torch.full((3, 3, 4, 4), 128, dtype=torch.uint8), torch.zeros(3).long(), ("a", "b"))
    coin = Function(lambda x: torch.stack([x[:, 0, 0, 0] - 128 / 255, 128 / 255 - x[:, 0, 0, 0]], 1))
    for model in (coin, Function(lambda x: torch.full((len(x), 2), torch.nan))):
        found = certified(model, split, Smoothing(n=300))
        assert found.classes.tolist() == [-1] * 3
        assert found.radii.tolist() == [0.0] * 3


def test_a_killed_certificate_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split, _ = halves(6)
    how, path = Smoothing(n=8192, n0=10), tmp_path / "state.parquet"
    whole = certified(model, split, how)
    monkeypatch.setattr("robust_transfer.certification.state.EVERY", 0.0)
    real, calls = Smoothing.counts, list[int]()

    def killed(self: Smoothing, target: object, x: Tensor, *rest: object) -> Tensor:
        calls.append(len(x))
        if len(calls) == 6:  # two for each image
            raise KeyboardInterrupt
        return real(self, target, x, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module.Smoothing, "counts", killed)
        with pytest.raises(KeyboardInterrupt):
            certified(model, split, how, state=path)
    seen = list[int]()

    def counted(self: Smoothing, target: object, x: Tensor, *rest: object) -> Tensor:
        seen.append(len(x))
        return real(self, target, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Smoothing, "counts", counted)
    again = certified(model, split, how, Run(quiet=True, device="cpu", resume=True, out=tmp_path), path)
    assert sum(seen) == 2 * 4
    assert again.classes.tolist() == whole.classes.tolist()
    assert again.radii.tolist() == whole.radii.tolist()
    assert again.passes == whole.passes == 6 * 8202


def attacked(model: nn.Module, x: Tensor, classes: Tensor, radius: Tensor, sigma: float) -> Tensor:
    """Images at the certified radius where the mean probability of the class over many draws is least (Salman et al. 2019)."""
    wide, moved = 0.999 * radius.view(-1, 1, 1, 1), x.clone()
    for _ in range(12):
        moved.requires_grad_(True)
        draws = moved[:, None] + sigma * torch.randn(len(x), 48, *x.shape[1:])
        mean = F.softmax(model(draws.flatten(0, 1)), 1).view(len(x), 48, -1).mean(1)
        (gradient,) = torch.autograd.grad(mean.gather(1, classes[:, None]).log().sum(), moved)
        step = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        delta = moved.detach() - 0.5 * wide * step - x
        moved = x + delta * (wide / delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)).clamp_max(1)
    return moved


def beaten(model: nn.Module, x: Tensor, how: Smoothing) -> tuple[int, float]:
    """How many images are certified; how many of 2000 draws an attack at their radius takes from their class, on average.

    Their class has to stay the most frequent one.
    """
    split = Split.in_memory((255 * x).round().byte(), torch.zeros(len(x)).long(), tuple("0123456789"))
    x, _, _ = split.on("cpu")
    found = certified(model, split, how)
    sure = np.flatnonzero(found.classes >= 0)
    x, classes = x[sure], torch.from_numpy(found.classes[sure])
    moved = attacked(model, x, classes, torch.from_numpy(found.radii[sure]).float(), how.sigma)
    with attacking(model, torch.device("cpu"), size=x.shape[-1]) as target:
        counts, clean = (
            how.counts(target, images, torch.arange(len(x)), 2000, Address(77, "another")) for images in (moved, x)
        )
    assert counts.argmax(1).tolist() == classes.tolist()
    lost = clean.gather(1, classes[:, None]) - counts.gather(1, classes[:, None])
    return len(sure), float(lost.float().mean())


def test_no_attack_on_the_smoothed_network_beats_the_radius(network: nn.Module, batch: Batch) -> None:
    sure, lost = beaten(network, first(batch, 10)[0], Smoothing(sigma=0.25, n=1000))
    assert sure >= 6
    assert lost > 40  # the attack was one


@pytest.mark.parametrize("name", ["linear", "mlp", "convolutions"])
def test_nor_on_other_small_networks(name: str) -> None:
    total, taken = 0, list[float]()
    for seed in range(3):
        sure, lost = beaten(bodies(seed)[name], inner_images(6, seed), Smoothing(sigma=0.1, n=500))
        total, taken = total + sure, [*taken, lost]
    assert total >= 9
    assert max(taken) > 100


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sigma": 0}, "positive sigma"),
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": 0}, "alpha"),
        ({"n": 0}, "draws"),
        ({"n0": 0}, "draws"),
        ({"examples": 0}, "at least 1 example"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Smoothing(**settings)  # type: ignore[arg-type]
