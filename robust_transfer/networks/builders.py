"""Builders: third-party functions that make a network, registered by name so that results can be loaded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ParamSpec, TypeVar

from torch import nn

from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.messages import logger

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)
GROUP = "robust_transfer.networks"
HEAD = "head_layer"  # beside a builder's own settings: the dotted name of the layer that the Classifier's head replaces
MARK = "_robust_transfer_built"  # on a module: the name of its builder, and the arguments it was called with
BUILDERS: dict[str, Callable[..., nn.Module]] = {}
_loaded = False
log = logger(__name__)


def register_builder(name: str) -> Callable[[Callable[P, M]], Callable[P, M]]:
    """Decorator for a function (or class) that returns a network with its last linear layer.

    Returned modules carry their ``name`` and arguments, so that results made from them (``Classifier.from_module``)
    can be saved, and loaded wherever the function is registered: by importing its module, or by an entry point of the
    group ``robust_transfer.networks``. Arguments must be plain values, as in JSON, and are kept with the weights.
    Raises :class:`ConfigError` for a name that is taken.
    """

    def add(make: Callable[P, M]) -> Callable[P, M]:
        known = BUILDERS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (make.__module__, make.__qualname__):
            raise ConfigError(f"the builder {name!r} is registered twice, by {known.__module__} and {make.__module__}")
        signature = inspect.signature(make)

        @functools.wraps(make)
        def built(*args: P.args, **settings: P.kwargs) -> M:
            module = make(*args, **settings)
            object.__setattr__(module, MARK, (name, _by_name(name, signature, args, settings)))
            return module

        BUILDERS[name] = built
        return built

    return add


def _by_name(name: str, signature: inspect.Signature, args: Any, settings: Any) -> dict[str, Any]:
    """Arguments by name, as JSON types, default values included."""
    bound = signature.bind(*args, **settings)
    bound.apply_defaults()
    plain = dict[str, Any]()
    for key, value in bound.arguments.items():
        kind = signature.parameters[key].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            plain |= {inner: _plain(name, inner, given) for inner, given in value.items()}
        elif kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise ConfigError(f"the builder {name!r} takes {key!r} by position: its arguments must have names")
        else:
            plain[key] = _plain(name, key, value)
    return plain


def _plain(name: str, key: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(name, key, each) for each in value]
    if isinstance(value, dict) and all(isinstance(inner, str) for inner in value):
        return {inner: _plain(name, key, each) for inner, each in value.items()}
    raise ConfigError(
        f"the builder {name!r} was given {key}={type(value).__name__}, which cannot be stored with the weights: "
        "take numbers, text, lists and dictionaries, and look up the rest inside"
    )


def mark_of(module: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of the registered builder of a module; None for any other module."""
    mark: tuple[str, dict[str, Any]] | None = getattr(module, MARK, None)
    return mark


def builder(name: str) -> Callable[..., nn.Module] | None:
    """Builder called ``name``, including other packages' entry points; None where there is none."""
    global _loaded
    if name not in BUILDERS and not _loaded:
        _loaded = True
        for point in entry_points(group=GROUP):
            try:
                point.load()
            except Exception as error:  # third-party code may raise anything
                log.warning("the networks of %s cannot be loaded: %s", point.value, error)
    return BUILDERS.get(name)


def build(name: str, settings: dict[str, Any]) -> nn.Module:
    """Network of the builder ``name``, without its layer ``settings[HEAD]``. Raises :class:`NetworkError`."""
    make = builder(name)
    if make is None:
        raise NetworkError(
            f"the network {name!r} is built by code that is not here: import the module that registers it "
            f"(@register_builder({name!r})), or install its package with an entry point of the group {GROUP!r}"
        )
    own = {key: value for key, value in settings.items() if key != HEAD}
    module = make(**own)
    take_off(module, settings[HEAD])
    return module


def take_off(module: nn.Module, name: str) -> nn.Module:
    """Layer of a module by its dotted name, replaced by an identity in the module. Raises :class:`NetworkError`."""
    try:
        layer = module.get_submodule(name)
    except AttributeError:
        layer = None
    if layer is None or not name:
        raise NetworkError(f"the network has no layer {name!r}")
    module.set_submodule(name, nn.Identity())
    return layer
