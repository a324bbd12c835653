"""Red flags: raised on models that were built to deserve them, and on no honest one."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from attack_helpers import L2, LINF, Batch, Function, Scaled, constant, first, trained
from scipy.stats import binom, hypergeom
from torch import Tensor, nn

from robust_transfer.attacks import APGD, FGSM, PGD, Attack, SourceFeatures, Square, ThroughStandIn
from robust_transfer.engine import Engine
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.red_flags import CHECKS, MIN_SAMPLE, _rare, outcome_flags, red_flags, untested
from robust_transfer.threat import Threat

SMALL = Threat(norm="linf", eps=0.1)


@pytest.fixture(scope="module")
def natural(digits: Batch) -> nn.Module:
    """The small network without adversarial training."""
    return trained(digits, seed=1, epochs=8)


def adversary(threat: Threat = SMALL, *attacks: Attack, engine: Engine | None = None) -> Adversary:
    return Adversary(attacks or (PGD(steps=20),), threat, engine or Engine())


def flags(model: nn.Module, batch: Batch, threat: Threat, *attacks: Attack) -> list[str]:
    found = red_flags(model, *first(batch, MIN_SAMPLE), adversary(threat, *attacks))
    assert found.passes > MIN_SAMPLE
    return found.flags


@pytest.mark.parametrize("threat", [SMALL, LINF, L2], ids=str)
def test_honest_networks_raise_none(network: nn.Module, natural: nn.Module, batch: Batch, threat: Threat) -> None:
    assert flags(network, batch, threat) == []
    assert flags(natural, batch, threat) == []


class Noisy(nn.Module):
    """Adds noise of its own to the image, each time anew."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.generator = model, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + 0.05 * torch.randn(x.shape, generator=self.generator))  # type: ignore[no-any-return]


class Shattered(nn.Module):
    """A fast wave in every pixel: next to nothing in the logits, nearly all of the gradient (Athalye et al. 2018)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + 3e-4 * torch.sin(1e5 * x))  # type: ignore[no-any-return]


def rounded(model: nn.Module) -> nn.Module:
    return Function(lambda x: model((x * 8).round() / 8))


def cases(network: nn.Module) -> dict[str, tuple[nn.Module, list[str]]]:
    return {
        "softmax": (Function(lambda x: network(x).softmax(1)), ["probabilities"]),
        "noise": (Noisy(network), ["random"]),
        "batch": (Function(lambda x: network(x - 0.3 * (x.mean(0) - 0.3))), ["depend on the batch"]),
        "sure": (Scaled(network, 1e4), ["softmax is exactly 1"]),
        "cold": (Function(lambda x: network(x) / 1e-4), ["softmax is exactly 1"]),
        "rounded": (rounded(network), ["the gradient is zero", "without gradients", "still stand"]),
        "shattered": (Shattered(network), ["the gradient misleads", "without gradients"]),
        "detached": (Function(lambda x: network(x).detach()), ["the gradient is zero", "without gradients", "still stand"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["softmax", "noise", "batch", "sure", "cold", "rounded", "shattered", "detached"])
def test_a_model_that_deserves_it_is_flagged(name: str, network: nn.Module, batch: Batch) -> None:
    model, expected = cases(network)[name]
    raised = flags(model, batch, LINF, PGD(steps=2))  # of which ten times as many are soon made
    for words in expected:
        assert any(words in flag for flag in raised), (words, raised)


def test_effort_that_pays_is_flagged() -> None:
    """Many hills, of which few are high enough: whoever visits more of them finds more."""

    def hills(x: Tensor) -> Tensor:
        u, v = x[:, 0, 0, 0], x[:, 1, 3, 3]
        value = torch.sin(150 * u) + torch.sin(171 * v) - 1.93
        return torch.stack([-value, value], 1)

    x = torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 10 + 0.45
    model = Function(hills)
    for n in (MIN_SAMPLE, 80):
        found = red_flags(model, x[:n], model(x[:n]).argmax(1), torch.arange(n), adversary()).flags
        assert any("ten times the effort" in flag for flag in found), found


def test_steps_in_another_precision_that_say_something_else_are_flagged(network: nn.Module, batch: Batch) -> None:
    def forward(x: Tensor) -> Tensor:
        return network(x) * (-1 if torch.is_autocast_enabled("cpu") else 1)  # type: ignore[no-any-return]

    # a ball so small that more steps, which are slow in bfloat16 without hardware for it, find nothing in it either
    low = adversary(Threat(norm="linf", eps=0.02), PGD(steps=2), engine=Engine(torch.bfloat16))
    found = red_flags(Function(forward), *first(batch, 6), low).flags
    assert any("predictions change" in flag for flag in found)
    assert red_flags(network, *first(batch, MIN_SAMPLE), low).flags == []


def test_a_fast_copy_that_says_something_else_is_flagged(network: nn.Module, batch: Batch) -> None:
    class Wrong(Engine):
        def of(self, module: nn.Module) -> nn.Module:
            return Function(lambda x: -module(x))

    found = red_flags(network, *first(batch, MIN_SAMPLE), adversary(engine=Wrong())).flags
    assert any("fast copy" in flag for flag in found)


def band(x: Tensor) -> Tensor:
    """Wrong in a narrow band only, 0.3 eps away: who steps too far, or not far enough, passes it by."""
    away = (x[:, 0, 0, 0] - 0.5) / LINF.eps
    value = 0.15**2 - (away - 0.3) ** 2
    return torch.stack([-value, value], 1)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=1, step=0.2), APGD(steps=2)], ids=str)
def test_an_attack_that_has_not_converged_is_flagged(attack: Attack) -> None:
    """In one dimension, where it can be worked out that the band is met by chance only, on any hardware."""
    some = constant(MIN_SAMPLE)
    for broken in (None, attack(Function(band), *some, LINF).broken):
        found = red_flags(Function(band), *some, adversary(LINF, attack), broken=broken)
        assert any("ten times the effort" in flag for flag in found.flags)
    converged = red_flags(Function(band), *some, adversary(LINF, PGD(steps=40)))
    assert not any("the effort" in flag for flag in converged.flags)


@pytest.mark.parametrize("n", [30, 64, 200])
def test_chance_hardly_flags_an_attack_that_has_converged(n: int) -> None:
    """On one honest network ten times the effort broke 10 of 251 images more (digits, linf:0.2)."""
    least = max(_rare(n), round(n / 10))
    assert binom.sf(least - 1, n, 0.05) <= 0.05 < binom.sf(_rare(n) - 2, n, 0.05)
    assert hypergeom.sf(least - 1, 251, 10, n) < 0.01
    assert binom.sf(least - 1, n, 0.25) > 0.9, "and an attack that misses a quarter is flagged"


def test_effort_that_cannot_be_multiplied_by_ten_is_said(network: nn.Module, batch: Batch) -> None:
    assert untested(adversary(SMALL, PGD(steps=20))) == untested(adversary(SMALL, FGSM())) == []
    [said] = untested(adversary(SMALL, PGD(steps=80)))
    assert said == "red flags: ten times the steps of pgd-80 (only 5 times, 400 at most)"
    [said] = red_flags(network, *first(batch, 20), adversary(SMALL, Square(queries=5))).untested
    assert "no attack climbs a gradient" in said


def test_what_is_decided_takes_no_more_passes(network: nn.Module, batch: Batch) -> None:
    """Where everything is broken, by gradients, neither random search nor more effort has anything left to do."""
    x, _, ids = first(batch, MIN_SAMPLE)
    labels, everything = network(x).argmax(1), torch.ones(MIN_SAMPLE, dtype=torch.bool)
    known = red_flags(network, x, labels, ids, adversary(), broken=everything, by_gradients=everything)
    anew = red_flags(network, x, labels, ids, adversary(), broken=~everything)
    assert known.flags == []
    assert known.passes < 100 * MIN_SAMPLE < anew.passes


def test_of_a_random_model_the_rest_is_untested(network: nn.Module, batch: Batch) -> None:
    found = red_flags(Noisy(network), *first(batch, MIN_SAMPLE), adversary())
    assert len(found.flags) == len(found.untested) == 1
    assert "random" in found.untested[0]


def outcomes(labels: list[int], predicted: list[int], broken_by: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"label": labels, "clean_prediction": predicted, "broken_by": broken_by, "adversarial_prediction": labels}
    )


def test_collapse_to_few_classes_is_flagged() -> None:
    labels, stands = list(range(10)) * 12, [""] * 120
    assert outcome_flags(outcomes(labels, labels, stands), [APGD(steps=50)]) == []
    two = [label % 2 for label in labels]
    assert outcome_flags(outcomes(labels, two, stands), [APGD(steps=50)]) == ["only 2 of 10 classes are ever predicted"]
    assert outcome_flags(outcomes(labels, [0] * 120, stands), [APGD(steps=50)]) == ["all predictions are one class"]
    assert outcome_flags(outcomes(labels[:10], two[:10], stands[:10]), [APGD(steps=50)]) == []  # too few images to say


def test_random_search_that_finds_what_gradients_left_is_flagged() -> None:
    labels, attacks = list(range(10)) * 10, [APGD(steps=50), Square(queries=300)]
    for found, flagged in ((3, False), (8, True)):
        fate = ["apgd-50"] * 20 + ["square-300"] * found + [""] * (80 - found)
        assert bool(outcome_flags(outcomes(labels, labels, fate), attacks)) == flagged
    assert (
        outcome_flags(outcomes(labels, labels, ["square-300"] * 20 + [""] * 80), attacks[1:]) == []
    )  # nothing else was tried


def test_what_another_gradient_finds_is_flagged() -> None:
    labels = list(range(10)) * 10
    for attacks in ([APGD(steps=50), SourceFeatures()], [APGD(steps=50), ThroughStandIn(steps=5)]):
        for found, flagged in ((2, False), (8, True)):
            fate = ["apgd-50"] * 20 + [str(attacks[1])] * found + [""] * (80 - found)
            flags = outcome_flags(outcomes(labels, labels, fate), attacks)
            assert [f"broke {found} of the 80 images" in flag for flag in flags] == [True] * flagged


def rejections(n: int, clean: int, answers: list[int]) -> list[str]:
    """Flags where ``answers`` are given to the broken images, and class 10, which no image has, to ``clean`` clean ones."""
    labels, rest = [number % 10 for number in range(n)], n - clean - len(answers)
    fate = ["clean"] * clean + ["apgd-50"] * len(answers) + [""] * rest
    table = outcomes(labels, [10] * clean + labels[clean:], fate)
    table["adversarial_prediction"] = [10] * clean + answers + labels[n - rest :]
    return outcome_flags(table, [APGD(steps=50)])


def test_a_detector_that_rejects_is_flagged() -> None:
    [flag] = rejections(60, 2, [10] * 12 + [3, 4])
    assert "12 of 14 broken images are given class 10" in flag
    assert rejections(60, 2, [10] * 3 + [3, 4, 5, 6]) == []  # most are other classes
    assert rejections(60, 20, [10] * 12) == []  # a class that clean images are given, too
    assert rejections(60, 2, [9] * 12) == []  # a class that images have


def test_logits_that_are_close_together_are_flagged(network: nn.Module, batch: Batch) -> None:
    (x, _, ids), everything = first(batch, 12), torch.ones(12, dtype=torch.bool)
    model = Scaled(network, 1e-8)
    labels = network(x).argmax(1)
    [flag] = red_flags(model, x, labels, ids, adversary(LINF), broken=everything, by_gradients=everything).flags
    assert "softmax is all but even on 12 of 12" in flag


def test_a_model_that_is_never_right_is_nothing_to_check(network: nn.Module, batch: Batch) -> None:
    x, labels, ids = first(batch, 20)
    assert red_flags(network, x, (network(x).argmax(1) + 1) % 10, ids, adversary(LINF)).flags == []
    assert labels.shape == (20,)


def test_every_check_says_what_it_looks_for() -> None:
    assert all((check.__doc__ or "").strip() for check in CHECKS)
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
