"""ResNets for small images in the layout of kuangliu's files: MadryLab's CIFAR networks, Addepalli, Sehwag, Modas, Augustin."""

from __future__ import annotations

import re

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import broken, counts, fitted, last_layer, size
from robust_transfer.foreign.families.normalisations import on_size, preprocessings
from robust_transfer.networks.kuangliu_resnet import DEPTHS

LAYOUT = "kuangliu's ResNets"
BLOCK = re.compile(r"layer\d+\.\d+\.(bn|conv)\d\.")


@FAMILIES.register(
    "kuangliu-resnet",
    summary="ResNets for 32x32 images as kuangliu and MadryLab name them",
    paper="He et al. 2016; Engstrom et al. 2019",
)
class KuangliuResNetFamily(Family):
    """States with ``layer1.0.bn1`` and ``shortcut`` (torchvision's have ``downsample``), and a norm after the stem."""

    def recognise(self, state: State) -> Architecture | None:
        """ResNet of the depth that has as many blocks; None for torchvision's names and pre-activation."""
        if not has_shortcuts(state) or not normalises_after(state):
            return None
        depth, width, inferred = residual(state, LAYOUT)
        head, classes, of_classes = last_layer(state, ("linear", "fc"), LAYOUT)
        found = Architecture(
            network="kuangliu_resnet",
            settings={"depth": depth, "width": width},
            num_classes=classes,
            head=head,
            inferred=(*inferred, of_classes, on_size(classes)),
            variants={"activation": ("relu", "silu")},
            preprocessings=preprocessings(classes, raw_first=True),
        )
        return fitted(state, found, LAYOUT)


def has_shortcuts(state: State) -> bool:
    """True for a state of four stages ``layer1`` ... of blocks with ``shortcut``, and at most a linear layer beside."""
    if not any(BLOCK.match(key) for key in state) or any(".downsample." in key for key in state):
        return False
    linear = all(state[key].dim() == 2 for key in ("linear.weight", "fc.weight") if key in state)
    return linear and ("linear.weight" in state or any(".shortcut." in key for key in state))


def normalises_after(state: State) -> bool:
    """True if norms follow convolutions, as in the original ResNet: then the stem and the shortcuts have some."""
    return any(key.startswith("bn1.") or ".shortcut.1." in key for key in state)


def residual(state: State, layout: str) -> tuple[int, int, tuple[str, str]]:
    """Depth and width of a ResNet with four stages ``layer1`` ... ``layer4``, and a sentence on each."""
    return four_stages(state, [f"layer{stage}." for stage in (1, 2, 3, 4)], "conv1", layout)


def four_stages(state: State, stages: list[str], stem: str, layout: str) -> tuple[int, int, tuple[str, str]]:
    """Depth and width of a ResNet with blocks after the prefixes ``stages``, and a sentence on each."""
    blocks = counts(state, stages, layout)
    bottleneck = f"{stages[0]}0.conv3.weight" in state
    kind = "bottlenecks" if bottleneck else "blocks of two convolutions"
    depths = [depth for depth, known in DEPTHS.items() if known == (bottleneck, blocks)]
    if not depths:
        raise broken(layout, f"no ResNet has {', '.join(map(str, blocks))} {kind} in its four stages")
    width = size(state, f"{stem}.weight", 0, layout)
    return (
        depths[0],
        width,
        (
            f"depth {depths[0]}: {', '.join(map(str, blocks))} {kind}",
            f"{width} channels in the stem: {stem}.weight has as many",
        ),
    )
