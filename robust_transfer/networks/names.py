"""Network names: ours with any timm name beside them, spelled with dashes or underscores, in any case."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, cast

from torch import nn

from robust_transfer.errors import NetworkError
from robust_transfer.registry import nearest, unknown

try:
    import timm
    from timm.models import register_model
    from timm.models._manipulate import group_with_matcher as group_with_matcher
except (ImportError, RuntimeError) as error:  # how a torchvision that was built for another torch shows itself
    versions = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    raise NetworkError(
        f"{versions} do not work together ({str(error).splitlines()[0]}): "
        "install both at once, from one place: pip install --upgrade torch torchvision"
    ) from None

OURS: dict[str, str] = {}  # name -> one-line summary
# What timm.create_model takes beside a network's own settings: files to load (pickles among them) and the like.
NOT_SETTINGS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
NOT_SETTINGS |= {"scriptable", "exportable", "no_jit", "num_classes", "features_only"}


def register(name: str, summary: str, make: Callable[..., nn.Module], module: str) -> None:
    """Register ``make(num_classes=..., in_chans=...)`` with timm as a network of the module called ``module``."""

    # timm sends every network the last three; they are named here so that a setting that does not exist is refused.
    def entry(
        pretrained: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
    ) -> nn.Module:
        if pretrained:
            raise ValueError(f"{name} has no pretrained weights in timm")
        return make(num_classes=num_classes, in_chans=in_chans)

    entry.__name__ = entry.__qualname__ = name
    entry.__module__ = module
    setattr(sys.modules[module], name, entry)  # timm adds the name to the module's __all__
    with warnings.catch_warnings():
        if name in OURS:  # the module is being reloaded; a name of somebody else's would be worth timm's warning
            warnings.filterwarnings("ignore", "Overwriting", UserWarning)
        register_model(entry)
    OURS[name] = summary


def available() -> dict[str, str]:
    """Networks that this package adds to timm, with a line on each."""
    return dict(OURS)


def canonical(name: str) -> str:
    """timm's spelling of a network's name: ``WRN-28-10`` is ``wrn_28_10``."""
    folded = name.strip().lower().replace("-", "_")
    for candidate in (name, folded):
        if timm.is_model(candidate):
            return candidate
    known = [*OURS, *timm.list_models()]
    raise NetworkError(unknown("network", name, known if nearest(folded, known) else list(OURS)))


def create(name: str, *, num_classes: int, input_size: int, **settings: Any) -> nn.Module:
    """Freshly initialised network without pretrained weights.

    ``input_size`` is the image's side in pixels; networks whose shape depends on it (vision transformers) are told.
    ``settings`` are the network's own (a depth, a rate of dropout); nothing that loads a file is among them.
    """
    name = canonical(name)
    if refused := sorted(NOT_SETTINGS & settings.keys()):
        raise NetworkError(f"{refused[0]!r} is no setting of the network {name!r}: weights come with a checkpoint")
    if name not in OURS and _takes_image_size(name):
        settings = {"img_size": input_size, **settings}
    try:
        return cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=num_classes, **settings))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise NetworkError(f"cannot build the network {name!r} for {input_size}x{input_size} images: {error}") from None


def _takes_image_size(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size) or name.startswith(("vit_", "deit", "swin", "beit"))
