"""Network names: ours with any timm name beside them, spelled with dashes or underscores, in any case."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol, cast

from torch import nn

from robust_transfer.errors import NetworkError
from robust_transfer.networks import builders, from_torchvision, mirrored, open_clip, pair, pool_grid
from robust_transfer.preprocessing import CIFAR10, Normalisation
from robust_transfer.registry import nearest, unknown


@dataclass(frozen=True)
class Own:
    """Network of this package: its builder in timm's form, its summary line, and its normalisation."""

    entry: Callable[..., nn.Module]
    summary: str
    normalisation: Normalisation
    sized: bool  # whether its weights depend on the size of the images, which it takes as img_size


class Library(Protocol):
    """Networks of another library, or two networks in one: by names with a prefix; without heads."""

    PREFIX: str

    def canonical(self, name: str) -> str: ...  # noqa: D102

    def create(self, name: str, input_size: int, **settings: Any) -> nn.Module: ...  # noqa: D102


LIBRARIES: tuple[Library, ...] = (from_torchvision, open_clip, pair)
OURS: dict[str, Own] = {}
_IN_TIMM: dict[str, Own] = {}  # those of OURS that timm has been given
# What timm.create_model takes beside a network's own settings: files to load (pickles among them) and the like.
NOT_SETTINGS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
NOT_SETTINGS |= {"scriptable", "exportable", "no_jit", "num_classes", "features_only"}


def register(
    name: str,
    summary: str,
    make: Callable[..., nn.Module],
    module: str,
    normalisation: Normalisation = CIFAR10,
) -> None:
    """Register ``make(num_classes=..., in_chans=..., **settings)`` as a network of the module called ``module``.

    A network whose weights depend on the image size takes it as ``img_size``. Settings of the network are the keyword
    arguments of ``make``; others are refused when it is built.
    """

    # timm sends every network the last three
    def entry(
        pretrained: bool = False,
        num_classes: int = 10,
        in_chans: int = 3,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **settings: Any,
    ) -> nn.Module:
        if pretrained:
            raise ValueError(f"{name} has no pretrained weights in timm")
        return make(num_classes=num_classes, in_chans=in_chans, **settings)

    entry.__name__ = entry.__qualname__ = name
    entry.__module__ = module
    setattr(sys.modules[module], name, entry)  # timm adds the name to the module's __all__
    OURS[name] = Own(entry, summary, normalisation, "img_size" in inspect.signature(make).parameters)


def add_to_timm() -> Any:
    """Register our networks with timm, and return timm.

    Called automatically for a name that is not ours, or where timm is loaded before this package: importing it, and
    torchvision with it, takes seconds, which users of our networks should not wait for.
    """
    try:
        import timm
        from timm.models import register_model
    except (ImportError, RuntimeError) as error:  # how a torchvision that was built for another torch shows itself
        versions = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
        raise NetworkError(
            f"{versions} do not work together ({str(error).splitlines()[0]}): "
            "install both at once, from one place: pip install --upgrade torch torchvision"
        ) from None
    for name, own in OURS.items():
        if _IN_TIMM.get(name) is own:
            continue
        with warnings.catch_warnings():
            if name in _IN_TIMM:  # the module was reloaded; for another package's name timm's warning should appear
                warnings.filterwarnings("ignore", "Overwriting", UserWarning)
            register_model(own.entry)
        _IN_TIMM[name] = own
    return timm


def group_with_matcher(*args: Any, **how: Any) -> Any:
    """timm's grouping of a network's state by its ``group_matcher``."""
    add_to_timm()
    from timm.models._manipulate import group_with_matcher as grouped

    return grouped(*args, **how)


def available() -> dict[str, str]:
    """Networks that this package adds to timm, with a line on each."""
    return {name: own.summary for name, own in OURS.items()}


def normalisation(name: str) -> Normalisation:
    """Normalisation of pixels for training a fresh network: its own, or CIFAR-10's."""
    own = OURS.get(canonical(name))
    return own.normalisation if own is not None else CIFAR10


def canonical(name: str) -> str:
    """timm's spelling of a network's name: ``WRN-28-10`` is ``wrn_28_10``."""
    folded = name.strip().lower().replace("-", "_")
    for candidate in (name, folded):
        if candidate in OURS:
            return candidate
    for library in LIBRARIES:
        if folded.startswith(library.PREFIX):
            return library.canonical(name.strip())
    timm = add_to_timm()
    for candidate in (name, folded):
        if timm.is_model(candidate):
            return candidate
    known = [*OURS, *timm.list_models()]
    raise NetworkError(unknown("network", name, known if nearest(folded, known) else list(OURS)))


def create(name: str, *, num_classes: int, input_size: int, **settings: Any) -> nn.Module:
    """Freshly initialised network without pretrained weights.

    ``input_size`` is the image's side in pixels; networks whose shape depends on it (vision transformers) receive it.
    ``settings`` are the network's own (a depth, a rate of dropout), and two for any network without a head:
    ``pool_grid`` (:mod:`.pool_grid`) and ``mirrored`` (:mod:`.mirrored`). Settings that load a file are refused.
    """
    grid, mirrors = settings.pop(pool_grid.SETTING, 1), settings.pop(mirrored.SETTING, False)
    if num_classes and (grid != 1 or mirrors):
        raise NetworkError(f"{pool_grid.SETTING} and {mirrored.SETTING} are for networks without their heads")
    made = _created(name, num_classes=num_classes, input_size=input_size, **settings)
    if grid != 1:
        pool_grid.pool_on_grid(made, grid, input_size)
    return mirrored.Mirrored(made) if mirrors else made


def _created(name: str, *, num_classes: int, input_size: int, **settings: Any) -> nn.Module:
    if builders.HEAD in settings:
        try:
            return builders.build(name, settings)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise NetworkError(f"the builder {name!r} fails: {error}") from None
    name = canonical(name)
    if refused := sorted(NOT_SETTINGS & settings.keys()):
        raise NetworkError(f"{refused[0]!r} is no setting of the network {name!r}: weights come with a checkpoint")
    try:
        if name in OURS:
            sized = {"img_size": input_size} if OURS[name].sized else {}
            return OURS[name].entry(num_classes=num_classes, **{**sized, **settings})
        for library in LIBRARIES:
            if name.startswith(library.PREFIX):
                if num_classes:
                    raise ValueError("it is built without its head only (num_classes=0)")
                return library.create(name, input_size, **settings)
        timm = add_to_timm()
        if takes_image_size(name):
            settings = {"img_size": input_size, **settings}
        return cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=num_classes, **settings))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise NetworkError(f"cannot build the network {name!r} for {input_size}x{input_size} images: {error}") from None


def takes_image_size(name: str) -> bool:
    """True for a timm network whose weights depend on the image size, ``img_size``."""
    config = add_to_timm().get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size) or name.startswith(("vit_", "deit", "swin", "beit"))
