"""Classification networks of torchvision, with its published weights, preprocessing and class names."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.registry import unknown
from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import Got
from robust_transfer.sources.library import LibraryKind, Reading

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robust_transfer.foreign.contents import Contents

PREFIX = "torchvision:"
# Set by torchvision wherever it loads its weights, which were converted from TensorFlow's.
LOADED_WITH: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True},
    "inception_v3": {"transform_input": True},
}
# Names of 2017 and before, when parts of names could still have dots.
OLD_DENSENET = re.compile(r"(\.(?:norm|conv))\.([12]\.)")


@SOURCES.register(
    "torchvision:NAME", summary="an ImageNet network as torchvision publishes it; @WEIGHTS where several", paper=""
)
class FromTorchvision(LibraryKind):
    """``torchvision:resnet50`` (its default weights) and ``torchvision:resnet50@IMAGENET1K_V1``."""

    @override
    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    @override
    def listed(self) -> dict[str, str]:
        return {
            f"{PREFIX}NAME[@WEIGHTS]": "an ImageNet network as torchvision publishes it, such as torchvision:resnet50"
        }

    @override
    def canonical(self, name: str) -> str:
        plain, weights = _weights(name)
        return f"{PREFIX}{plain}@{weights.name}"

    @override
    def get(self, name: str) -> Got:
        from robust_transfer.download import fetch

        got = fetch(_weights(name)[1].url)
        return Got(got.path, got.address, got.sha256)

    @override
    def read(self, name: str, contents: Contents, state: Mapping[str, Tensor], at: str) -> Reading:
        from robust_transfer.foreign.families.torchvision_named import architecture_of
        from robust_transfer.foreign.published import NATURAL, Published
        from robust_transfer.preprocessing import Preprocessing

        plain, weights = _weights(name)
        settings, by = LOADED_WITH.get(plain, {}), f"torchvision {version('torchvision')}"
        reference, how = _loaded(plain, state, settings, name), Preprocessing.from_torchvision(weights.transforms())
        published = Published(
            by=by,
            at=at,
            threat=NATURAL.format(by=by),
            reference=reference,
            accuracy={
                f"{data} {what}": float(value)
                for data, figures in weights.meta.get("_metrics", {}).items()
                for what, value in figures.items()
            },
        )
        own = reference.state_dict()
        architecture = architecture_of(
            plain, own, reference, how, settings, f"{plain}: as {by} publishes it, weights {weights.name}"
        )
        return Reading("torchvision", architecture, published, own, tuple(weights.meta["categories"]))


def _weights(name: str) -> tuple[str, Any]:
    """Network's name in torchvision's spelling, and the entry of its weights."""
    from robust_transfer import networks

    networks.add_to_timm()  # says so where torchvision and torch do not fit each other
    import torchvision

    text, at, tag = name.removeprefix(PREFIX).partition("@")
    plain, known = text.strip().lower().replace("-", "_"), torchvision.models.list_models(module=torchvision.models)
    if plain not in known:
        if plain in torchvision.models.list_models():
            where = torchvision.models.get_model_builder(plain).__module__.split(".")[2]
            raise ConfigError(
                f"{PREFIX}{plain} is a network of torchvision's for {where}: only those for classification are read"
            )
        raise UnknownNameError(unknown("network of torchvision", plain, known))
    entries = torchvision.models.get_model_weights(plain)
    names = [entry.name for entry in entries]
    if not names:
        raise ConfigError(f"torchvision publishes no weights of {plain!r}")
    if at and tag.upper() not in [*names, "DEFAULT"]:
        raise UnknownNameError(f"torchvision has no weights {tag!r} of {plain!r}: it has {', '.join(names)}")
    entry = entries[tag.upper() if at else "DEFAULT"]
    if not entry.meta.get("categories"):
        raise ConfigError(
            f"{PREFIX}{plain}@{entry.name} has no classes, and lacks the layers after the convolutions: "
            f"it cannot be a source; there are {', '.join(other for other in names if other != entry.name)}"
        )
    return plain, entry


def _loaded(plain: str, state: Mapping[str, Tensor], settings: Mapping[str, Any], name: str) -> nn.Module:
    """torchvision's own network with these weights, auxiliary classifiers included if the file has them."""
    import torchvision

    from robust_transfer.undrawn import undrawn

    given = OrderedDict(
        (OLD_DENSENET.sub(r"\1\2", key) if plain.startswith("densenet") else key, value) for key, value in state.items()
    )
    given._metadata = {"": {"version": 2}} if plain.startswith("mnasnet") else {}  # type: ignore[attr-defined]
    auxiliary = {"init_weights": False} if plain in LOADED_WITH else {}
    with warnings.catch_warnings(), undrawn():
        warnings.simplefilter("ignore")  # on ways of initialising
        made: nn.Module = torchvision.models.get_model(plain, weights=None, **settings, **auxiliary)
    try:
        made.load_state_dict(given, strict=True)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the file of {name} does not fit torchvision's network: {first}") from None
    return made.eval()
