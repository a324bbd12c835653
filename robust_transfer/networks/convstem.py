"""ConvNeXt and vision transformers with a convolutional stem instead of patches (Singh et al. 2023, arXiv:2303.01870).

Names of weights are those of the authors' files. Blocks are timm's; the stems are stacks of 3x3 convolutions, layer norm
over channels and GELU (section 3.2 there), which make robustness at 224 pixels cheaper to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from robust_transfer.networks.names import register
from robust_transfer.preprocessing import Normalisation

RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
# Strides of the stem's convolutions by their number: ConvNeXt-T and -S, ConvNeXt-B and -L, vision transformers.
STRIDES = {2: (2, 2), 3: (2, 2, 1), 4: (2, 2, 2, 2)}


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps whose channels have mean 0 and variance 1 at each pixel, scaled and shifted per channel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Stem from ``(B, in_chans, H, W)`` to ``(B, C, H / p, W / p)``: a 3x3 convolution, norm and GELU for each of ``widths``.

    2 or 3 convolutions divide the image's side by ``p = 4``, 4 by 16. With ``out``, a 1x1 convolution to so many channels
    ends it.
    """

    def __init__(self, widths: Sequence[int], out: int | None = None, in_chans: int = 3) -> None:
        super().__init__()
        layers = list[nn.Module]()
        for width, stride in zip(widths, STRIDES[len(widths)], strict=True):
            layers += [nn.Conv2d(in_chans, width, 3, stride, 1), ChannelNorm(width, eps=1e-6), nn.GELU()]
            in_chans = width
        if out is not None:
            layers.append(nn.Conv2d(in_chans, out, 1))
        self.stem = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps, contiguous as a transformer's flattening expects."""
        out: Tensor = self.stem(x)
        return out


def convnext(
    num_classes: int,
    in_chans: int,
    depths: Sequence[int] = (3, 3, 9, 3),
    dims: Sequence[int] = (96, 192, 384, 768),
    stem: Sequence[int] = (48, 96),
    **settings: Any,
) -> nn.Module:
    """ConvNeXt whose stem has convolutions to the channels ``stem``; other ``settings`` are those of timm's ConvNeXt."""
    from timm.models.convnext import ConvNeXt

    if len(stem) not in (2, 3) or stem[-1] != dims[0]:
        raise ValueError(f"the stem {tuple(stem)} must be of 2 or 3 convolutions, the last one to {dims[0]} channels")
    made: nn.Module = ConvNeXt(
        in_chans=in_chans, num_classes=num_classes, depths=tuple(depths), dims=tuple(dims), **settings
    )
    made.stem = ConvStem(stem, in_chans=in_chans)
    return made


def vit(
    num_classes: int,
    in_chans: int,
    embed_dim: int = 384,
    depth: int = 12,
    num_heads: int = 6,
    stem: Sequence[int] = (48, 96, 192, 384),
    img_size: int = 224,
    **settings: Any,
) -> nn.Module:
    """Vision transformer with a class token, whose tokens of 16x16 pixels come from a stem of four convolutions.

    Other ``settings`` are those of timm's VisionTransformer.
    """
    from timm.models.vision_transformer import VisionTransformer

    if len(stem) != 4:
        raise ValueError(f"the stem {tuple(stem)} must be of 4 convolutions")
    made: nn.Module = VisionTransformer(
        img_size=img_size,
        patch_size=16,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        **settings,
    )
    patches: Any = made.patch_embed
    patches.proj = ConvStem(stem, embed_dim, in_chans)
    return made


__all__ = ["ChannelNorm", "ConvStem"]
NETWORKS = {
    "convstem_convnext": "ConvNeXt with a convolutional stem, as Singh et al. 2023 name it",
    "convstem_vit": "vision transformer with a convolutional stem, as Singh et al. 2023 name it",
}
register("convstem_convnext", NETWORKS["convstem_convnext"], convnext, __name__, RAW)
register("convstem_vit", NETWORKS["convstem_vit"], vit, __name__, RAW)
