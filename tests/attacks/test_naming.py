"""Attacks by name."""

from __future__ import annotations

import pytest

from robust_transfer.attacks import (
    FGSM,
    PGD,
    SUITES,
    Attack,
    SourceFeatures,
    ThroughParts,
    attack_name,
    parse_attack,
)
from robust_transfer.attacks.naming import left_out, spoken, with_parts, without_source
from robust_transfer.errors import ConfigError, UnknownNameError

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
        (
            "nothing",
            UnknownNameError,
            "known: apgd, apgd-t, autoattack, feature-loss, fgsm, pgd, pyautoattack, quick, ",
        ),
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


def test_attacks_by_the_source_are_left_out_of_suites_alone() -> None:
    needing = [attack for attack in parse_attack("strong") if attack.needs_source]
    assert needing
    assert left_out("strong", parse_attack("strong")) == needing
    assert left_out("pgd-3+strong", parse_attack("pgd-3+strong")) == needing
    assert left_out("pgd-3", parse_attack("pgd-3")) == []
    for asked in ("strong+source-features", "feature-loss", [SourceFeatures()]):
        with pytest.raises(ConfigError, match="give --source"):
            left_out(asked, parse_attack(asked))


def test_no_attack_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no attack is given"):
        parse_attack([])


@pytest.mark.parametrize("suite", ["quick", "strong", "autoattack"])
def test_a_suite_is_called_by_its_name(suite: str) -> None:
    assert spoken(attack_name(parse_attack(suite))) == suite
    assert spoken(attack_name(without_source(suite))) == suite
    first, *others = parse_attack(suite)
    assert spoken(attack_name(others)) != suite
    assert spoken(attack_name([first, *others, *parse_attack("fgsm")])) != suite


@pytest.mark.parametrize("suite", ["quick", "strong"])
def test_of_a_mixture_a_suite_ends_with_the_attack_through_its_parts(suite: str) -> None:
    attacks = parse_attack(suite)
    found = with_parts(suite, attacks)
    assert found == [*attacks, ThroughParts()]
    assert with_parts(f"{suite}+through-parts", found) == found  # once
    assert with_parts("pgd-20", parse_attack("pgd-20")) == [PGD(steps=20)]  # who names attacks gets those
    assert with_parts([PGD(steps=20)], [PGD(steps=20)]) == [PGD(steps=20)]
    assert spoken(attack_name(found)) == f"{suite}+through-parts-20"


def test_what_is_no_suite_is_called_as_it_is() -> None:
    assert spoken("pgd-20") == "pgd-20"
    assert spoken("pgd-20:step=1e+3+fgsm") == "pgd-20:step=1e+3+fgsm"
