"""Noise has an address: the same for ever, independent of its neighbours, and of the distribution it claims."""

from __future__ import annotations

import hashlib

import pytest
import torch
from scipy import stats

from robust_transfer import randomness
from robust_transfer.randomness import Address, integers, normal, normal_with_tails, permutation, uniform

ADDRESS = Address(seed=1, purpose="pgd", restart=2, step=3)
IDS = torch.tensor([0, 7, 2**40])
MANY = torch.arange(20_000)


def test_known_answers() -> None:
    """These must never change: they name the noise of every published number."""
    assert ADDRESS.key() == 3539212805986871660
    assert (uniform(ADDRESS, IDS, (2,)) * 2**24).tolist() == [
        [6406890, 3865505],
        [15690309, 11255251],
        [16421501, 3364397],
    ]
    known = [[0.60156381, 0.25513273], [-0.96719193, -1.29624498], [-1.31161916, 0.66404593]]
    torch.testing.assert_close(normal(ADDRESS, IDS, (2,)), torch.tensor(known), rtol=1e-5, atol=1e-6)
    assert integers(ADDRESS, IDS, 1000, 2).tolist() == [[381, 230], [935, 670], [978, 200]]
    assert permutation(Address(seed=0, purpose="order"), 10).tolist() == [2, 7, 1, 8, 9, 0, 5, 3, 4, 6]
    assert permutation(Address(seed=3, purpose="order", step=2), 1000)[:5].tolist() == [388, 441, 276, 354, 567]


def test_the_generator_is_splitmix64_in_any_arithmetic() -> None:
    """The same numbers from Python's own integers."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    key = int.from_bytes(hashlib.blake2b(b"1|pgd|2|3", digest_size=8).digest(), "little")
    drawn = (uniform(ADDRESS, IDS, (3,)) * 2**24).long()
    for row, index in enumerate(IDS.tolist()):
        start = mix(mix(index * golden + key & mask) ^ key)
        assert drawn[row].tolist() == [mix(start + column * golden & mask) >> 40 for column in (1, 2, 3)]


@pytest.mark.parametrize("draw", [uniform, normal, normal_with_tails])
def test_an_examples_noise_does_not_depend_on_its_batch(draw) -> None:  # type: ignore[no-untyped-def]
    whole = draw(ADDRESS, MANY[:100], (3, 4, 4))
    assert torch.equal(draw(ADDRESS, MANY[37:38], (3, 4, 4)), whole[37:38])
    shuffled = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(ADDRESS, MANY[shuffled], (3, 4, 4)), whole[shuffled])
    assert draw(ADDRESS, MANY[:0], (3, 4, 4)).shape == (0, 3, 4, 4)


def test_every_part_of_an_address_matters() -> None:
    others = [
        Address(seed=2, purpose="pgd", restart=2, step=3),
        Address(seed=1, purpose="fgsm", restart=2, step=3),
        Address(seed=1, purpose="pgd", restart=1, step=3),
        Address(seed=1, purpose="pgd", restart=2, step=4),
        ADDRESS.child("angle"),
    ]
    mine = uniform(ADDRESS, MANY, (1,)).flatten()
    for other in others:
        theirs = uniform(other, MANY, (1,)).flatten()
        correlation = torch.corrcoef(torch.stack([mine, theirs]))[0, 1]
        assert abs(float(correlation)) < 0.03
    neighbours = torch.corrcoef(torch.stack([mine[:-1], mine[1:]]))[0, 1]
    assert abs(float(neighbours)) < 0.03
    columns = torch.corrcoef(uniform(ADDRESS, MANY, (2,)).T)[0, 1]
    assert abs(float(columns)) < 0.03


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_uniform_is_uniform_over_examples_and_over_pixels(seed: int) -> None:
    address = Address(seed=seed, purpose="test")
    for drawn in (uniform(address, MANY, (1,)), uniform(address, MANY[:1], (len(MANY),))):
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < 1
        assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_normal_is_normal(seed: int) -> None:
    drawn = normal(Address(seed=seed, purpose="test"), MANY, (2,)).flatten().double()
    assert bool(drawn.isfinite().all())
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.var()) - 1) < 0.03
    assert abs(float((drawn**3).mean())) < 0.06
    assert abs(float((drawn**4).mean()) - 3) < 0.15
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 1e-3


def test_integers_hit_every_value_equally_often() -> None:
    drawn = integers(ADDRESS, MANY, 7, 2).flatten()
    counts = torch.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert integers(ADDRESS, IDS, 1).tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("high", [0, -1, 2**24 + 1])
def test_integers_have_a_range(high: int) -> None:
    with pytest.raises(ValueError, match="high must be between 1 and 2"):
        integers(ADDRESS, IDS, high)


def test_a_permutation_is_one() -> None:
    drawn = permutation(ADDRESS, 1000)
    assert sorted(drawn.tolist()) == list(range(1000))
    assert drawn.tolist() != list(range(1000))
    assert not torch.equal(drawn, permutation(Address(seed=1, purpose="pgd", restart=2, step=4), 1000))
    assert permutation(ADDRESS, 0).tolist() == []


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    normal(ADDRESS, IDS, (4,))
    permutation(ADDRESS, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_tails_go_on_where_24_bits_end(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = normal_with_tails(ADDRESS, MANY, (2,)).flatten().double().numpy()
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    monkeypatch.setattr(randomness, "uniform", lambda address, ids, shape: torch.zeros(len(ids), *shape))
    for bits, length in ((0, 8.24), (1 << 40, 5.77), (-1, 0.0)):  # the least of 48 bits, of 24, and the most
        monkeypatch.setattr(randomness, "_bits", lambda *_, bits=bits: torch.tensor([[bits]]))
        assert float(normal_with_tails(ADDRESS, IDS[:1], (1,))) == pytest.approx(length, abs=0.01)
