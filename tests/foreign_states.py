"""A foreign file of weights: a small residual network whose batch-norm statistics are those of training."""

from __future__ import annotations

from pathlib import Path

import published_parts
import published_resnets
import published_wide
import pytest
import torch
import torch.nn.functional as F
from published import CASES, State
from torch import Tensor


def photos(n: int, seed: int) -> Tensor:
    """Smooth random colours, (n, 3, 32, 32) in whole 255ths."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=g) + torch.randn(n, 1, 1, 1, generator=g)
    smooth = F.interpolate(coarse, size=(32, 32), mode="bicubic") / 1.4
    x = (torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1) + 0.25 * smooth).clamp(0, 1)
    return (x * 255).round() / 255


def calibrate(case: str, state: State, x: Tensor, monkeypatch: pytest.MonkeyPatch, **chosen: object) -> None:
    """Make the state's batch-norm statistics those of inputs ``x`` in float64 under this reading."""
    plain = published_parts.norm

    def noting(s: State, name: str, x: Tensor) -> Tensor:
        s[f"{name}.running_mean"], s[f"{name}.running_var"] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        return plain(s, name, x)

    with monkeypatch.context() as patch, torch.no_grad():
        for module in (published_parts, published_resnets, published_wide):
            patch.setattr(module, "norm", noting)
        CASES[case][2](state, x, **chosen)


def written(path: Path, state: State, **beside: object) -> Path:
    """Saved as DataParallel in ``state_dict``."""
    torch.save({"state_dict": {f"module.{key}": value.float() for key, value in state.items()}, **beside}, path)
    return path


def kuangliu_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ResNet-18 that reads raw pixels."""
    state = CASES["kuangliu"][1]()
    calibrate("kuangliu", state, photos(200, 1).double(), monkeypatch)
    return written(path, state, epoch=76)
