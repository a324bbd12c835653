"""Pre-activation ResNets in the layout of Rice et al. 2020, Wong et al. 2020 and Andriushchenko & Flammarion 2020."""

from __future__ import annotations

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.fitting import fitted, last_layer
from robust_transfer.foreign.families.kuangliu_resnet import has_shortcuts, normalises_after, residual
from robust_transfer.foreign.families.normalisations import on_size, preprocessings
from robust_transfer.networks.rice_preact_resnet import SHORTCUTS

LAYOUT = "Rice's pre-activation ResNets"


@FAMILIES.register(
    "rice-preact-resnet",
    summary="pre-activation ResNets as Rice, Wong and Andriushchenko name them",
    paper="Rice et al. 2020; Wong et al. 2020; Andriushchenko & Flammarion 2020",
)
class RicePreActResNetFamily(Family):
    """States with ``layer1.0.bn1`` and ``shortcut.0``, without a norm after the stem.

    What the 1x1 shortcuts read is not in the file: in the files known, with a last norm (Rice, Kireev, Addepalli) the
    activated input, without (Wong, Andriushchenko) the bare one.
    """

    def recognise(self, state: State) -> Architecture | None:
        """ResNet of the depth that has as many blocks; None where a norm follows the stem."""
        if not has_shortcuts(state) or normalises_after(state):
            return None
        depth, width, inferred = residual(state, LAYOUT)
        head, classes, of_classes = last_layer(state, ("linear", "fc"), LAYOUT)
        last_norm = any(key.startswith("bn.") for key in state)
        of_norm = "a last norm: there is bn" if last_norm else "no last norm: there is no bn"
        found = Architecture(
            network="rice_preact_resnet",
            settings={"depth": depth, "width": width, "last_norm": last_norm},
            num_classes=classes,
            head=head,
            inferred=(*inferred, of_norm, of_classes, on_size(classes)),
            variants={
                "shortcut": SHORTCUTS if last_norm else SHORTCUTS[::-1],
                "activation": ("relu", "silu"),
            },
            preprocessings=preprocessings(classes, raw_first=False),
        )
        return fitted(state, found, LAYOUT)
