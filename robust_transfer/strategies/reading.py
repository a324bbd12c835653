"""Readings of a source's features: pooled on a grid, averaged over mirror images. Its weights stay as they are.

A robust source's last maps are as robust as their mean. A head that reads the means of several cells tells classes
apart that the mean of the whole map does not, and the mean over mirror images takes noise away that attacks use.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import nn

from robust_transfer.checkpoint import HEAD, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.errors import ConfigError
from robust_transfer.heads import Head, HeadSpec
from robust_transfer.networks import mirrored, pool_grid


def read(source: Checkpoint, grid: int, mirror: bool) -> Checkpoint:
    """Copy of ``source`` whose features are pooled on ``grid`` x ``grid`` cells, and averaged over mirror images.

    The source itself where neither is asked for. A linear head is spread over the cells, ``weight / grid**2`` on each: with a
    grid that divides the maps the logits stay what they are. With another grid, the copy has no head to keep. Raises
    :class:`ConfigError` for a source that has been read so before, and :class:`NetworkError` where the features are
    no means over maps.
    """
    spec = source.classifier.spec
    settings = {pool_grid.SETTING: grid} if grid != 1 else {}
    settings |= {mirrored.SETTING: True} if mirror else {}
    if not settings:
        return source
    if spec.settings.keys() & {pool_grid.SETTING, mirrored.SETTING}:
        raise ConfigError("the source's features are pooled on a grid or mirrored already: leave grid and mirror alone")
    body, head, keeps = copy.deepcopy(source.classifier.body).cpu(), copy.deepcopy(source.classifier.head).cpu(), True
    how = spec.head
    if grid != 1:
        head, keeps = _spread(body, head, grid, spec.input_size)
        how = HeadSpec()
    spec = dataclasses.replace(spec, settings={**spec.settings, **settings}, head=how)
    made = Classifier(mirrored.Mirrored(body) if mirror else body, head, spec)
    origin = source.card.origin if keeps else {**source.card.origin, HEAD: "none"}
    return dataclasses.replace(
        source,
        classifier=made.to(source.classifier.device).train(source.classifier.training),
        card=dataclasses.replace(source.card, network=spec, origin=origin),
    )


def _spread(body: nn.Module, head: Head, grid: int, input_size: int) -> tuple[Head, bool]:
    """Pool ``body`` on the grid, in place; the head for it, and whether that gives the logits of the old one."""
    channels, height, width = pool_grid.pool_on_grid(body, grid, input_size)
    cells = grid * grid
    spread = nn.Linear(channels * cells, head.out_features)
    keeps = isinstance(head, nn.Linear) and height % grid == 0 == width % grid
    with torch.no_grad():
        if keeps and isinstance(head, nn.Linear):
            spread.weight.copy_(head.weight.repeat_interleave(cells, 1) / cells)
            spread.bias.copy_(head.bias)
        else:
            spread.weight.zero_()
            spread.bias.zero_()
    return spread, keeps
