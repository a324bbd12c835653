"""Random models: they are recognised, and the mean of many answers decides, not one."""

from __future__ import annotations

import pytest
import torch
from attack_helpers import LINF, Batch, Function, first
from evaluation_helpers import labelled_greys, noise
from helpers import QUIET, make_classifier
from torch import Tensor, nn

import robust_transfer as rt
from robust_transfer.attacks import FGSM, PGD
from robust_transfer.evaluation.random_models import ANSWERS, NOTE, answers_of, differ


class Wavering(nn.Module):
    """Right in three answers of four, by turns, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        own = 1.0 if self.asked % 4 else -1.0
        return torch.tensor([[own, 0.0]]).expand(len(x), -1) + 0 * x.flatten(1)[:, :1]


def test_they_are_recognised() -> None:
    assert answers_of(Wavering(), labelled_greys(), QUIET) in (1, ANSWERS)
    assert answers_of(Function(lambda x: torch.rand(len(x), 10)), noise(4), QUIET) == ANSWERS
    assert answers_of(make_classifier(), noise(4), QUIET) == 1


def test_float32_noise_is_no_randomness() -> None:
    logits = torch.randn(4, 10)
    assert not differ(logits, logits + 1e-6)
    assert differ(logits, logits + 0.01 * torch.randn(4, 10))
    assert differ(logits, torch.full_like(logits, torch.nan))


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=5)], ids=str)
def test_the_mean_decides_and_no_single_answer(attack: rt.Attack) -> None:
    x, y, ids = torch.rand(6, 3, 4, 4), torch.zeros(6).long(), torch.arange(6)
    assert not attack(Wavering(), x, y, ids, LINF, answers=ANSWERS).broken.any()


def test_gradients_are_means_as_well(network: nn.Module, batch: Batch) -> None:
    """Each gradient is the mean of ten, and the noise hides a fragile network no longer."""

    def noisy(x: Tensor) -> Tensor:
        return network(x + 0.3 * torch.randn(x.shape))  # type: ignore[no-any-return]

    some = first(batch, 30)
    torch.manual_seed(0)
    found = PGD(steps=5)(Function(noisy), *some, LINF, answers=ANSWERS)
    assert found.broken.float().mean() > 0.3
    assert found.passes > 5 * PGD(steps=5)(network, *some, LINF).passes


def test_an_evaluation_says_so_and_gives_what_single_answers_are_worth(network: nn.Module) -> None:
    split = noise(30)

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network(x + 0.02 * torch.randn(x.shape))  # type: ignore[no-any-return]

    with torch.no_grad():
        labels = network(split.images().float() / 255).argmax(1)
    split = rt.Split.in_memory(split.images(), labels, split.class_names)
    found = rt.evaluate(Noisy(), split, threat="linf:0.01", attack="pgd-2", red_flag_examples=12, run=QUIET)
    assert NOTE in found.notes
    [flag] = [flag for flag in found.flags if "random" in flag]
    assert "single answers are right" in flag
    plain = rt.evaluate(network, split, threat="linf:0.01", attack="pgd-2", red_flag_examples=0, run=QUIET)
    assert NOTE not in plain.notes
