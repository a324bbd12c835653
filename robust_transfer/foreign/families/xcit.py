"""XCiT of Debenedetti et al. and ARES: the patch size is not in the file, as the first strides may be 1."""

from __future__ import annotations

import re

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.matching import classes_of, fits, head_in, imagenet
from robust_transfer.foreign.families.normalisations import preprocessings

BLOCK = re.compile(r"blocks\.(\d+)\.attn\.temperature$")


@FAMILIES.register(
    "xcit",
    summary="XCiT, for photos and for images of 32 pixels",
    paper="Debenedetti et al. 2023; El-Nouby et al. 2021",
)
class XCiTFamily(Family):
    """States with ``blocks.0.attn.temperature`` and ``cls_attn_blocks``.

    Networks for few classes are taken for those of 32 pixels with patches of 4, those for many for photos with the
    stem's own.
    """

    def recognise(self, state: State) -> Architecture | None:
        """XCiT of the depth, width, heads and stem that the shapes tell; None for another layout."""
        depth = len([key for key in state if BLOCK.match(key)])
        if not depth or "cls_attn_blocks.0.norm1.weight" not in state or "cls_token" not in state:
            return None
        width = int(state["cls_token"].shape[-1])
        heads = int(state["blocks.0.attn.temperature"].shape[0])
        stem = 16 if "patch_embed.proj.6.0.weight" in state else 8
        head = head_in(state, "head")
        classes, of_classes = classes_of(state, head)
        settings = {"embed_dim": width, "depth": depth, "num_heads": heads, "stem": stem}
        if not fits(state, "xcit", head, 224, settings):
            raise CheckpointError(
                f"these are weights in the layout of XCiT, but not all of an XCiT with {depth} blocks of width {width} "
                f"and {heads} heads: get the file again"
            )
        small = 0 < classes <= 200
        smaller = tuple(patch for patch in (4, 8, 2) if patch < stem)
        return Architecture(
            network="xcit",
            num_classes=classes,
            head=head,
            settings=settings,
            inferred=(
                f"depth {depth}: so many blocks have a temperature",
                f"width {width}: cls_token has as many channels",
                f"{heads} heads: blocks.0.attn.temperature has as many",
                f"stem for patches of {stem} pixels: it has {4 if stem == 16 else 3} convolutions",
                of_classes,
                "few classes: images of 32 pixels and small patches come first" if small else "images of 224 pixels",
            ),
            variants={"patch": (*smaller, stem) if small else (stem, *smaller)},
            preprocessings=(
                *(preprocessings(classes, raw_first=False) if small else ()),
                *imagenet(224),
            ),
        )
