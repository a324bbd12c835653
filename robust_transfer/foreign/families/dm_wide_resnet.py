"""Wide residual networks in the layout of DeepMind's files: Gowal, Rebuffi, Rade, Pang, Wang, Cui, Bartoldson, MeanSparse."""

from __future__ import annotations

import re

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import counts, fitted, last_layer, size
from robust_transfer.foreign.families.normalisations import on_size, preprocessings
from robust_transfer.foreign.families.trades_wide_resnet import wide
from robust_transfer.networks.padding import PADDINGS

LAYOUT = "DeepMind's wide residual networks"
UNIT = re.compile(r"layer\.\d+\.block\.\d+\.")
# What MeanSparse needs while it gathers statistics only.
GATHERING = re.compile(r"(.*\.)?meansparse_\w+\.(flag_update_statistics|batch_num)$")


@FAMILIES.register(
    "dm-wrn", summary="wide residual networks as DeepMind names them", paper="Gowal et al. 2020; Rebuffi et al. 2021"
)
class DMWideResNetFamily(Family):
    """States with ``layer.0.block.0.conv_0`` and the like; activation and padding are not in the file."""

    def recognise(self, state: State) -> Architecture | None:
        """WRN of depth 6n + 4 for n units a stage; None without ``layer.0.block.0`` or the like."""
        if not any(UNIT.match(key) for key in state):
            return None
        units = counts(state, [f"layer.{stage}.block." for stage in range(3)], LAYOUT)
        channels = size(state, "layer.0.block.0.conv_0.weight", 0, LAYOUT)
        width, depth, inferred = wide(units, channels, "layer.0", LAYOUT)
        head, classes, of_classes = last_layer(state, ("logits", "fc"), LAYOUT)
        settings = {"depth": depth, "width": width}
        sparse: tuple[str, ...] = ()
        if any(".meansparse_" in key for key in state):
            settings["mean_sparse"] = True
            sparse = ("MeanSparse after every norm and sum: there are meansparse_0 and the like",)
        found = Architecture(
            network="dm_wrn",
            settings=settings,
            num_classes=classes,
            head=head,
            inferred=(*inferred, *sparse, of_classes, on_size(classes)),
            variants={"activation": ("silu", "relu"), "padding": PADDINGS},
            unused=tuple(key for key in state if GATHERING.match(key)),
            preprocessings=preprocessings(classes, raw_first=False),
        )
        return fitted(state, found, LAYOUT)
