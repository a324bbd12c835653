"""Attacks of other implementations, called on a case to give adversarial images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from cases import Case, batches
from torch import Tensor, nn

STEPS = 20


def plain(case: Case) -> Tensor:
    """The textbook loop: every image, every step, weights and all."""
    images = []
    for x, labels in batches(case):
        delta = torch.empty_like(x).uniform_(-case.threat.eps, case.threat.eps)
        for _ in range(STEPS):
            delta = delta.detach().requires_grad_(True)
            loss = torch.nn.functional.cross_entropy(case.model((x + delta).clamp(0, 1)), labels)
            loss.backward()
            assert delta.grad is not None
            delta = (delta + case.threat.eps / 4 * delta.grad.sign()).clamp(-case.threat.eps, case.threat.eps)
        images.append((x + delta.detach()).clamp(0, 1))
    case.model.zero_grad()
    return torch.cat(images)


def torchattacks(case: Case) -> Tensor:
    import torchattacks

    eps = case.threat.eps
    attack = torchattacks.PGD(case.model, eps=eps, alpha=eps / 4, steps=STEPS, random_start=True)
    return torch.cat([attack(x, labels) for x, labels in batches(case)])


def foolbox(case: Case) -> Tensor:
    import foolbox

    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device=case.x.device)
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=STEPS, random_start=True)
    return torch.cat([attack(model, x, labels, epsilons=case.threat.eps)[1] for x, labels in batches(case)])


def art(case: Case) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    size = tuple(case.x.shape[1:])
    kind = "gpu" if case.x.device.type == "cuda" else "cpu"
    estimator = PyTorchClassifier(
        case.model, nn.CrossEntropyLoss(), size, case.model.num_classes, clip_values=(0.0, 1.0), device_type=kind
    )
    attack = ProjectedGradientDescentPyTorch(
        estimator,
        eps=case.threat.eps,
        eps_step=case.threat.eps / 4,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=case.batch,
        verbose=False,
    )
    found = attack.generate(case.x.cpu().numpy(), case.labels.cpu().numpy())
    return torch.from_numpy(found).to(case.x.device)


PEERS: dict[str, Callable[[Case], Tensor]] = {"torchattacks": torchattacks, "foolbox": foolbox, "art": art}
PACKAGES = {"art": "adversarial-robustness-toolbox"}
