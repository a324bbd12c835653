"""Shared helpers for tests of families: networks with realistic statistics, and classifiers made from their states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.foreign.families import FAMILIES, Architecture, recognised
from robust_transfer.preprocessing import Normalisation, Preprocessing

RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def randomised(module: nn.Module) -> nn.Module:
    """Statistics and weights of norms, layer scales and zeros as after training, in evaluation mode."""
    generator = torch.Generator().manual_seed(2)
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() <= 1 or float(parameter.std()) == 0:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def recognised_as(state: dict[str, Tensor], family: str) -> Architecture:
    """The architecture, once the family is the expected one."""
    found = recognised(state)
    assert found is not None, "no family knows it"
    assert found[0] == family
    return found[1]


def loaded(state: dict[str, Tensor], family: str, *, size: int | None = None, **variants: Any) -> Classifier:
    """The classifier of raw pixels that a state is recognised as; its body is loaded strictly, counters aside."""
    found = recognised_as(state, family)
    rules = FAMILIES.get(family)()
    spec = NetworkSpec(
        name=found.network,
        num_classes=found.num_classes,
        preprocessing=Preprocessing(size=size or found.preprocessings[0].size, normalisation=RAW),
        settings={**found.settings, **variants},
    )
    made = Classifier.build(spec)
    kept = made.body.load_state_dict(dict(rules.body(state, found, spec.settings)), strict=False)
    assert not kept.unexpected_keys
    assert all(key.endswith(".num_batches_tracked") for key in kept.missing_keys)
    head = rules.head(state, found, spec.settings)
    assert head is not None
    made.head.load_state_dict({"weight": head[0], "bias": head[1]}, strict=True)
    return made.eval()


def same(logits: Tensor, expected: Tensor) -> None:
    """Equal up to 1e-5 of the largest, and not all the same."""
    assert float(expected.std()) > 1e-3, "nothing is compared"
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
