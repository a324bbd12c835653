"""Pooled activations of a network's inner blocks, beside its penultimate features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from robust_transfer.activations import block_modules, by_channel, captured
from robust_transfer.cache import load_or_compute
from robust_transfer.classifier import Classifier
from robust_transfer.config import digest
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies.features import features_key, rows_of


def inner_blocks(classifier: Classifier, depths: int) -> tuple[str, ...]:
    """Names of the ``depths - 1`` blocks before the last one, whose output the features are pooled from (0: all).

    Raises :class:`ConfigError` where there are fewer.
    """
    names = tuple(block_modules(classifier))[:-1]
    if depths == 0:
        return names
    if depths > len(names) + 1:
        raise ConfigError(f"the network has {len(names) + 1} depths to hold, the features among them: depths={depths}")
    return names[len(names) - depths + 1 :]


def with_pooled(classifier: Classifier, x: Tensor, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Features ``(B, d)`` of images, and of each named block the means of its channels over positions, ``(B, C)``.

    All in float32.
    """
    with captured({name: classifier.body.get_submodule(name) for name in names}) as maps:
        z = classifier.features(x)
    return z, {name: by_channel(maps[name].float()).mean(2) for name in names}


def pooled_of(classifier: Classifier, split: Split, run: Run, names: Sequence[str]) -> dict[str, Tensor]:
    """Channels' means of the named blocks for every image of ``split``, in order, ``(n, C)`` each, on the CPU.

    One pass over the images; with ``run.cache`` computed once for all runs.
    """
    key = digest(features_key(classifier, split, run), names) if run.cache is not None else ""
    return load_or_compute(
        run.cache, "pooled", key, lambda: rows_of(classifier, split, run, lambda m, x: with_pooled(m, x, names)[1])
    )
