"""Shift of a network's activations under attack, block by block (Shafahi et al. 2020, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.modes import eval_mode


def feature_distances(classifier: Classifier, x: Tensor, attacked: Tensor) -> dict[str, Tensor]:
    """``|h(x') - h(x)| / |h(x)|`` (l2) after every block, by the block's name in order, each ``(B,)``; the logits last.

    ``x`` and ``attacked`` are images ``(B, 3, H, W)`` in [0, 1].
    """
    before, after = (outputs(classifier, images) for images in (x, attacked))
    return {
        name: (after[name] - clean).flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1).clamp_min(1e-12)
        for name, clean in before.items()
    }


def outputs(classifier: Classifier, x: Tensor) -> dict[str, Tensor]:
    """Outputs of every block for images, float32, and the logits."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _given: object, out: object) -> None:
            if isinstance(out, Tensor):
                found[name] = out.detach().float()

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in blocks_of(classifier)]  # type: ignore[arg-type]
    try:
        with eval_mode(classifier), torch.no_grad():
            logits = classifier(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {**found, "logits": logits.float()}


def blocks_of(classifier: Classifier) -> list[tuple[str, nn.Module]]:
    """Largest module of the body whose whole state belongs to a block, by its path, for every block below the head."""
    states = {
        path: {f"{path}.{name}" for name in module.state_dict()} for path, module in classifier.named_modules() if path
    }
    found = []
    for block in classifier.blocks()[:-1]:
        inside = [path for path, state in states.items() if state and state <= set(block)]
        if inside:
            path = max(inside, key=lambda path: (len(states[path]), -len(path)))
            found.append((path.removeprefix("body."), classifier.get_submodule(path)))
    return found
