"""ARD against its formula in plain PyTorch, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import batch_of, gradients_differ, make_classifier, pgd_examples

from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import ARD
from robust_transfer.strategies.ard import ARDObjective
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")
EXACT = Run(precision="float32", quiet=True, device="cpu")


@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_every_step_is_its_formula(task: Task, alpha: float) -> None:
    ours, teacher = make_classifier().train(), make_classifier(seed=3).eval()
    with torch.no_grad():
        teacher.get_parameter("head.weight").mul_(20)  # a teacher with opinions
    plain, settings = ours.copy().train(), {"steps": 2, "step": 0.25, "temperature": 5.0, "alpha": alpha}
    objective = ARDObjective(ours, teacher.copy().train(), THREAT, EXACT, **settings)  # type: ignore[arg-type]
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.05) for network in (ours, plain)]
    for step in range(3):
        batch = batch_of(task, step)
        x = pgd_examples(plain, batch, THREAT.eps, 2)
        out = objective.train()(batch)
        p, q = (teacher(batch.images).detach() / 5).softmax(1), (plain(x) / 5).softmax(1)
        loss = alpha * 25 * (p * (p.log() - q.log())).sum(1).mean()
        if alpha < 1:
            loss = loss + (1 - alpha) * F.cross_entropy(plain(batch.images), batch.labels)
        torch.testing.assert_close(out["loss"], loss, rtol=5e-3, atol=1e-4)
        for optimizer, value in zip(optimizers, (out["loss"], loss), strict=True):
            optimizer.zero_grad()
            value.backward()
        assert gradients_differ(ours, plain) < 0.03
        for optimizer in optimizers:
            optimizer.step()
    assert all(not p.requires_grad for p in objective.teacher.parameters())


@pytest.mark.parametrize(("alpha", "passes"), [(1.0, 4 + 2 * 3), (0.5, 7 + 2 * 3)])
def test_clean_images_pass_through_the_student_only_where_asked(task: Task, alpha: float, passes: int) -> None:
    student, forwards = make_classifier().train(), list[int]()
    objective = ARDObjective(
        student, make_classifier(3), THREAT, EXACT, steps=3, step=0.25, temperature=30.0, alpha=alpha
    )
    student.register_forward_hook(lambda *_: forwards.append(1))
    objective(batch_of(task, 0))
    assert len(forwards) == 3 + (1 if alpha == 1 else 2)
    assert objective.passes_per_image == passes == ARD(steps=3, alpha=alpha).passes_per_image


def test_the_papers_settings() -> None:
    made = ARD.from_settings({"preset": "paper"})
    assert (made.temperature, made.alpha, made.steps, made.step, made.init) == (30.0, 1.0, 10, 0.25, "scratch")
    assert (made.epochs, made.learning_rate, made.schedule, made.weight_decay) == (200.0, 0.1, "step", 2e-4)
    assert (ARD().temperature, ARD().alpha) == (30.0, 1.0)


def test_settings_that_make_no_sense() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"temperature": 0.0}, {"alpha": 1.5}, {"alpha": -0.5})
    for settings in wrong:
        with pytest.raises(ConfigError, match="positive temperature"):
            ARD(**settings)
