"""Pre-activation ResNets in the layout of DeepMind's files: Rebuffi, Rade and Gowal, the ResNet-18s."""

from __future__ import annotations

import re

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import fitted, last_layer
from robust_transfer.foreign.families.kuangliu_resnet import four_stages
from robust_transfer.foreign.families.normalisations import on_size, preprocessings
from robust_transfer.networks.padding import PADDINGS

LAYOUT = "DeepMind's pre-activation ResNets"
BLOCK = re.compile(r"layer_\d+\.\d+\.(batchnorm_|conv_2d_)")


@FAMILIES.register(
    "dm-preact-resnet",
    summary="pre-activation ResNets as DeepMind names them",
    paper="Rebuffi et al. 2021; Rade & Moosavi-Dezfooli 2021",
)
class DMPreActResNetFamily(Family):
    """States with ``layer_0.0.conv_2d_1`` and the like; activation and padding are not in the file."""

    def recognise(self, state: State) -> Architecture | None:
        """ResNet of the depth that has as many blocks; None without ``layer_0.0.conv_2d_1`` or the like."""
        if not any(BLOCK.match(key) for key in state):
            return None
        depth, width, inferred = four_stages(state, [f"layer_{stage}." for stage in range(4)], "conv_2d", LAYOUT)
        head, classes, of_classes = last_layer(state, ("logits", "fc"), LAYOUT)
        found = Architecture(
            network="dm_preact_resnet",
            settings={"depth": depth, "width": width},
            num_classes=classes,
            head=head,
            inferred=(*inferred, of_classes, on_size(classes)),
            variants={"activation": ("silu", "relu"), "padding": PADDINGS},
            preprocessings=preprocessings(classes, raw_first=False),
        )
        return fitted(state, found, LAYOUT)
