"""Certificates by name, and back."""

from __future__ import annotations

import pytest

from robust_transfer.certification import CERTIFIERS, FeatureShift, Smoothing, parse_certifiers
from robust_transfer.cli.completion import CERTIFICATES
from robust_transfer.errors import ConfigError, UnknownNameError


def test_names_and_settings() -> None:
    [one, other, proof] = parse_certifiers(
        "smoothing+smoothing:sigma=0.5,n=10000,alpha=1e-3 + feature-shift:examples=20"
    )
    assert one == Smoothing()
    assert other == Smoothing(sigma=0.5, n=10_000)
    assert proof == FeatureShift(examples=20)
    assert [str(each) for each in (one, other, proof)] == [
        "smoothing", "smoothing:sigma=0.5,n=10000", "feature-shift:examples=20",
    ]  # fmt: skip
    assert parse_certifiers("+".join(str(each) for each in (one, other, proof))) == [one, other, proof]
    assert parse_certifiers([one, one]) == [one] == parse_certifiers(one)


@pytest.mark.parametrize("text", ["smothing", "", "smoothing+", "feature_shift"])
def test_an_unknown_name_is_told_with_the_nearest(text: str) -> None:
    with pytest.raises(UnknownNameError, match=r"certificate .*: (did you mean|known: )"):
        parse_certifiers(text)


@pytest.mark.parametrize(
    "text",
    ["smoothing:", "smoothing:sigma", "smoothing:sigma=-1", "smoothing:sigma=1,sigma=2", "smoothing:steps=3",
     "feature-shift:sigma=1", "smoothing:n=nan", "smoothing:n=1.5", "smoothing:sigma=.inf"],
)  # fmt: skip
def test_settings_that_do_not_fit(text: str) -> None:
    with pytest.raises(ConfigError, match=r"certificate|smoothing"):
        parse_certifiers(text)
    with pytest.raises(ConfigError, match="such as 'smoothing'"):
        parse_certifiers(3)  # type: ignore[arg-type]


def test_completion_knows_them_all() -> None:
    offered = [str(each[0] if isinstance(each, tuple) else each) for each in CERTIFICATES("")]
    assert set(CERTIFIERS) <= set(offered)
    for each in offered:
        parse_certifiers(each)
