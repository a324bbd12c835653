"""Adversarial images stored as compact deltas: a reviewer checks a claim without running an attack.

A delta is stored as int8 in units of a scale of its own if the restored image has the same verdict; otherwise as
float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_transfer.attacks.base import AttackResult
from robust_transfer.attacks.victim import attacking, is_broken
from robust_transfer.errors import DataError
from robust_transfer.files import read_table
from robust_transfer.threat import Threat

DELTAS = "deltas.parquet"
QUANTISATION_STEPS = 127
DELTA_COLUMNS = ["index", "scale", "delta"]  # a scale of 0: the delta is float32


def pack(
    model: nn.Module, x: Tensor, labels: Tensor, ids: Tensor, result: AttackResult, threat: Threat
) -> pd.DataFrame:
    """One row per example of a batch that is correct when clean: ``index``, ``scale`` and ``delta``."""
    rows = (result.clean_prediction == labels).nonzero().squeeze(1)
    x, labels, broken = x[rows], labels[rows], result.broken[rows]
    delta = result.adversarial[rows] - x
    scale = delta.flatten(1).abs().amax(1) / QUANTISATION_STEPS if len(rows) else torch.zeros(0, device=x.device)
    steps = (delta / scale.clamp_min(1e-12).view(-1, 1, 1, 1)).round().clamp(-QUANTISATION_STEPS, QUANTISATION_STEPS)
    # rounding may have made it longer than the ball is wide
    longer = threat.size(steps * scale.view(-1, 1, 1, 1)) if len(rows) else scale
    scale = scale * (threat.eps / longer.clamp_min(1e-12)).clamp(max=1.0)
    with attacking(model, x.device, size=x.shape[-1]) as target:
        rounded = _applied(x, steps * scale.view(-1, 1, 1, 1), threat)
        same = is_broken(target.logits(rounded), labels) == broken if len(rows) else broken
    small, exact = steps.to(torch.int8).cpu().numpy(), delta.cpu().numpy()
    found = [(small[row] if keeps else exact[row]).tobytes() for row, keeps in enumerate(same.tolist())]
    scales = torch.where(same, scale.clamp_min(1e-12), 0.0).cpu().numpy()
    return pd.DataFrame(
        {"index": ids[rows.cpu()].cpu().numpy(), "scale": scales, "delta": found}, columns=DELTA_COLUMNS
    )


def unpack(rows: pd.DataFrame, x: Tensor, threat: Threat) -> Tensor:
    """Adversarial images of ``rows``, one for each clean image in ``x`` ``(n, C, H, W)``.

    Raises :class:`DataError` for a delta of another size, or one that leaves the ball.
    """
    shape, deltas = tuple(x.shape[1:]), []
    for index, scale, data in zip(rows["index"], rows["scale"], rows["delta"], strict=True):
        values = np.frombuffer(data, dtype=np.int8 if scale > 0 else np.float32)
        if values.size != np.prod(shape):
            raise DataError(f"the delta of image {index} has {values.size} values, the image has {np.prod(shape)}")
        deltas.append(values.reshape(shape).astype(np.float32) * (np.float32(scale) if scale > 0 else np.float32(1)))
    delta = torch.from_numpy(np.stack(deltas)).to(x.device) if deltas else torch.zeros_like(x)
    inside = threat.size(delta) <= threat.eps * (1 + 1e-4) + 1e-6  # false for NaN
    if not bool(inside.all()):
        worst = rows["index"].iloc[int((~inside).nonzero()[0])]
        raise DataError(f"the delta of image {worst} is larger than {threat}, or is no number")
    return _applied(x, delta, threat)


def join(parts: Path) -> bytes:
    """Concatenated content of a run's part files, in the order of their names."""
    tables = [read_table(part) for part in sorted(parts.glob("deltas-*.parquet"))]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=DELTA_COLUMNS)
    joined: bytes = table.drop_duplicates("index", keep="last").to_parquet(index=False, compression="zstd")
    return joined


def _applied(x: Tensor, delta: Tensor, threat: Threat) -> Tensor:
    return threat.project(x + delta, x)
