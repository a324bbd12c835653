"""Threat models: what is parsed and refused, and that project, steepest and random_start do what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robust_transfer.errors import ThreatError
from robust_transfer.threat import Threat

NORMS = ("linf", "l2")
EPS = st.floats(0, 1, allow_nan=False)
SLACK = 1e-6  # float32 arithmetic on pixels


def images(seed: int, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = (5, 3, 4, 4)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [
        ("linf:8/255", "linf", 8 / 255),
        ("l2:0.5", "l2", 0.5),
        ("l2:128/255", "l2", 128 / 255),
        ("l2:3", "l2", 3.0),
        ("linf:0", "linf", 0.0),
        ("linf:1", "linf", 1.0),
        ("linf:2.5/255", "linf", 2.5 / 255),
        ("linf:1e-3", "linf", 1e-3),
        (" L_inf : 8 / 255 ", "linf", 8 / 255),
    ],
)
def test_threats_are_parsed(text: str, norm: str, eps: float) -> None:
    assert Threat.parse(text) == Threat(norm=norm, eps=eps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linf:8", "did you mean linf:8/255"),
        ("linf:-1", "cannot read the eps '-1'"),
        ("linf:nan", "cannot read the eps 'nan'"),
        ("linf:inf", "cannot read the eps 'inf'"),
        ("linf:1/0", "divides by zero"),
        ("linf:", "cannot read the eps ''"),
        ("8/255", "write norm:eps"),
        ("", "write norm:eps"),
        ("l3:1", "unknown norm 'l3'"),
        ("l2:8/255/2", "cannot read the eps"),
        ("l2:__import__('os')", "cannot read the eps"),
        ("l2:1e999999999", "cannot read the eps"),
        ("l2:1e999", "too large"),
    ],
)
def test_what_is_no_threat_is_refused(text: str, said: str) -> None:
    with pytest.raises(ThreatError, match=said.replace("(", r"\(").replace(")", r"\)")):
        Threat.parse(text)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(eps: float) -> None:
    with pytest.raises(ThreatError, match="non-negative number"):
        Threat(norm="l2", eps=eps)


def test_a_threat_is_passed_through() -> None:
    threat = Threat(norm="l2", eps=0.25)
    assert Threat.parse(threat) is threat


@pytest.mark.parametrize("text", ["linf:8/255", "linf:0.3", "l2:0.5", "l2:128/255", "linf:0", "linf:2.5/255"])
def test_the_name_of_a_threat_is_the_short_one(text: str) -> None:
    assert str(Threat.parse(text)) == text


@given(norm=st.sampled_from(NORMS), eps=EPS)
def test_the_name_of_a_threat_is_read_as_the_same_threat(norm: str, eps: float) -> None:
    threat = Threat(norm=norm, eps=eps)
    assert Threat.parse(str(threat)) == threat


def test_sizes_by_hand() -> None:
    delta = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.5, -0.25]])
    assert Threat(norm="linf", eps=1).size(delta).tolist() == [4.0, 0.5]
    assert Threat(norm="l2", eps=1).size(delta).tolist() == pytest.approx([5.0, 0.3125**0.5])


@settings(max_examples=50, deadline=None)
@given(norm=st.sampled_from(NORMS), eps=EPS, seed=st.integers(0, 10**6))
def test_projections_are_in_ball_and_box_and_projected_onto_themselves(norm: str, eps: float, seed: int) -> None:
    threat, clean, far = Threat(norm=norm, eps=eps), images(seed), images(seed + 1, -2, 3)
    inside = threat.project(far, clean)
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert (threat.size(inside - clean) <= eps + SLACK).all()
    assert torch.allclose(threat.project(inside, clean), inside, atol=SLACK)


@settings(max_examples=25, deadline=None)
@given(norm=st.sampled_from(NORMS), seed=st.integers(0, 10**6))
def test_what_is_inside_stays_where_it_is(norm: str, seed: int) -> None:
    clean, delta = images(seed, 0.3, 0.7), images(seed + 1, -0.01, 0.01)
    threat = Threat(norm=norm, eps=0.2)
    assert torch.allclose(threat.project(clean + delta, clean), clean + delta, atol=SLACK)


def test_the_linf_projection_is_the_nearest_point() -> None:
    clean, far, eps = images(0), images(1, -2, 3), 0.1
    nearest = torch.minimum(torch.maximum(far, (clean - eps).clamp_min(0)), (clean + eps).clamp_max(1))
    assert torch.allclose(Threat(norm="linf", eps=eps).project(far, clean), nearest, atol=SLACK)


def test_the_l2_projection_shortens_along_the_line() -> None:
    clean, delta = torch.full((1, 3, 4, 4), 0.5), images(2, -1, 1, (1, 3, 4, 4))
    moved = Threat(norm="l2", eps=0.2).project(clean + delta, clean) - clean
    assert torch.allclose(moved, 0.2 * delta / delta.norm(), atol=SLACK)


@settings(max_examples=50, deadline=None)
@given(norm=st.sampled_from(NORMS), seed=st.integers(0, 10**6), power=st.integers(-35, 35))
def test_the_steepest_direction_is_dual_to_the_gradient_at_any_scale(norm: str, seed: int, power: int) -> None:
    threat, gradient = Threat(norm=norm, eps=0.1), images(seed, -1, 1)
    direction = threat.steepest(gradient * 10.0**power)
    dual = gradient.flatten(1).abs().sum(1) if norm == "linf" else gradient.flatten(1).norm(dim=1)
    assert torch.allclose(threat.size(direction), torch.ones(5), atol=1e-5)
    assert torch.allclose((direction * gradient).flatten(1).sum(1), dual, rtol=1e-4)
    slope = threat.slope(gradient * 10.0**power)
    assert torch.allclose(slope.double(), dual.double() * 10.0**power, rtol=1e-4, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_gives_no_step(norm: str) -> None:
    gradient = images(0, -1, 1)
    gradient[2] = 0
    direction = Threat(norm=norm, eps=0.1).steepest(gradient)
    assert direction.isfinite().all()
    assert not direction[2].any()
    assert direction[1].any()


@settings(max_examples=30, deadline=None)
@given(norm=st.sampled_from(NORMS), eps=EPS, seed=st.integers(0, 10**6))
def test_random_starts_are_in_ball_and_box(norm: str, eps: float, seed: int) -> None:
    threat, clean = Threat(norm=norm, eps=eps), images(seed)
    start = threat.random_start(clean, torch.arange(5), seed=seed, purpose="test")
    assert start.min() >= 0
    assert start.max() <= 1
    assert (threat.size(start - clean) <= eps + SLACK).all()


def test_linf_starts_are_uniform_in_the_ball() -> None:
    clean = torch.full((300, 3, 4, 4), 0.5)
    start = Threat(norm="linf", eps=0.25).random_start(clean, torch.arange(300), seed=1, purpose="test")
    deltas = (start - clean).flatten().numpy()
    assert stats.kstest(deltas, stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3


def test_l2_starts_are_uniform_in_the_ball() -> None:
    clean, eps, dimensions = torch.full((3000, 1, 2, 2), 0.5), 0.3, 4
    start = Threat(norm="l2", eps=eps).random_start(clean, torch.arange(3000), seed=1, purpose="test")
    delta = (start - clean).flatten(1).numpy()
    radius = np.linalg.norm(delta, axis=1)
    # the share of the ball within a radius r is (r / eps)^d; a coordinate of a uniform direction in 4 dimensions has
    # the density of a semicircle
    assert stats.kstest((radius / eps) ** dimensions, stats.uniform.cdf).pvalue > 1e-3
    assert stats.kstest(delta[:, 0] / radius, stats.semicircular.cdf).pvalue > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_a_start_depends_on_the_examples_id_and_address_alone(norm: str) -> None:
    # on black images the start is the noise itself, to its last bit
    threat, clean, ids = Threat(norm=norm, eps=0.3), torch.zeros(300, 3, 5, 7), torch.arange(300) * 7
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))

    def start(rows: torch.Tensor, **address: int) -> torch.Tensor:
        return threat.random_start(clean[rows], ids[rows], purpose="test", **({"seed": 0} | address))

    everything = start(torch.arange(300))
    assert torch.equal(torch.cat([start(rows) for rows in order.split(3)]), everything[order])
    for other in ({"seed": 1}, {"restart": 1}, {"step": 1}):
        assert (start(torch.arange(300), **other) != everything).flatten(1).any(1).all()


@pytest.mark.parametrize("text", ["linf:" + "9" * 5000, "linf:8/" + "9" * 5000, "linf:0." + "9" * 5000, "x" * 5000])
def test_thousands_of_digits_are_refused_in_a_short_sentence(text: str) -> None:
    with pytest.raises(ThreatError) as told:
        Threat.parse(text)
    assert len(str(told.value)) < 300
