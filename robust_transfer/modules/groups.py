"""Groups of any network's state, from input to output: timm's, those of its tree, or of the networks inside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, cast

from torch import nn

from robust_transfer import networks
from robust_transfer.modules.blocks import blocks_of


def groups_of(body: nn.Module, order: Callable[[], list[str]]) -> list[list[str]]:
    """State names of a network in groups; ``order`` finds its layers in the order of their calls, where that is needed.

    In a pair of networks, groups that are as far from the end belong together.
    """
    if isinstance(body, networks.pair.Pair):
        both = [_of_part(part, place, order) for place, part in body.named_children()]
        together = zip_longest(*(reversed(groups) for groups in both), fillvalue=list[str]())
        return [[*first, *second] for first, second in together][::-1]
    if isinstance(body, networks.mirrored.Mirrored):
        return _of_part(body.body, "body", order)
    if not hasattr(body, "group_matcher"):
        return blocks_of(body, order())
    matcher = cast(Any, body).group_matcher(coarse=False)
    groups = networks.group_with_matcher(list(body.state_dict().items()), matcher, return_values=False)
    return [groups[key] for key in sorted(groups, key=float)]


def _of_part(part: nn.Module, place: str, order: Callable[[], list[str]]) -> list[list[str]]:
    prefix = f"{place}."
    own = groups_of(part, lambda: [path.removeprefix(prefix) for path in order() if path.startswith(prefix)])
    return [[prefix + name for name in names] for names in own]
