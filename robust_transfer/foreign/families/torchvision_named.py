"""Networks as torchvision names them: MadryLab, Salman, Engstrom, Wong, and half of ARES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from robust_transfer.foreign.families.base import FAMILIES, Architecture, Family, State
from robust_transfer.foreign.families.matching import (
    classes_of,
    fits,
    head_in,
    imagenet,
    matches,
    on_others,
    otherwise,
    sizes,
)
from robust_transfer.foreign.families.signatures import index
from robust_transfer.networks.from_torchvision import PREFIX, head_of
from robust_transfer.preprocessing import Preprocessing

# timm's networks of the same name have the same weights and compute the same (a test says so).
IN_TIMM = ("resnet", "wide_resnet", "resnext", "densenet")
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
USUAL = {"inception_v3": 299}
# By the shape of the first convolution.
SQUEEZENETS: dict[tuple[int, ...], str] = {(96, 3, 7, 7): "squeezenet1_0", (64, 3, 3, 3): "squeezenet1_1"}
# Names of vision transformers before torchvision 0.14, as its own files still have them.
OLD_MLP = re.compile(r"(encoder_layer_\d+\.mlp\.)linear_([12])\.")
# Smooth adversarial training (Xie et al. 2020) and ARES's (Liu et al. 2023) put another activation in place of ReLU.
ACTIVATIONS = ("relu", "gelu", "silu")


@FAMILIES.register(
    "torchvision",
    summary="ResNets and other ImageNet networks as torchvision names them",
    paper="Salman et al. 2020; Engstrom et al. 2019; Wong et al. 2020",
)
class TorchvisionFamily(Family):
    """States with the names and shapes of one of torchvision's classification networks, whatever the classes."""

    def recognise(self, state: State) -> Architecture | None:
        """Network by its signature; None where no network of torchvision has it."""
        state = _today(state)
        if "features.3.squeeze.weight" in state and "features.0.weight" in state:
            return _squeezenet(state, SQUEEZENETS.get(tuple(state["features.0.weight"].shape)))
        unused = tuple(key for key in state if key.startswith(AUXILIARY))
        kept = {key: value for key, value in state.items() if key not in unused}
        for entry in matches(kept, (entry for entry in index() if entry.name.startswith(PREFIX))):
            plain = entry.name.removeprefix(PREFIX)
            network = plain if plain.startswith(IN_TIMM) else entry.name
            head = head_in(kept, entry.head)
            for size in sizes(kept, USUAL.get(plain, 224)):
                if fits(kept, network, head, size, {}):
                    same = [one for one in matches(kept, index()) if not one.name.startswith(PREFIX)]
                    others = otherwise(same, network)
                    return _architecture(kept, network, head, size, unused, others)
        return None

    def body(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> State:
        """State of the body, under torchvision's names of today."""
        return super().body(_today(state), found, settings)

    def head(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Last layer; for SqueezeNets, whose scores are features, the identity."""
        if "num_outputs" in found.settings:
            weight = next(iter(state.values())).new_zeros(found.num_classes, found.num_classes)
            return weight.fill_diagonal_(1), weight.new_zeros(found.num_classes)
        return super().head(state, found, settings)


def _today(state: State) -> State:
    """State under the current names of torchvision's vision transformers."""
    if not any(OLD_MLP.search(key) for key in state):
        return state
    return {
        OLD_MLP.sub(lambda found: f"{found[1]}{3 * (int(found[2]) - 1)}.", key): each for key, each in state.items()
    }


def architecture_of(
    plain: str, state: State, module: nn.Module, how: Preprocessing, settings: Mapping[str, Any], said: str
) -> Architecture:
    """Architecture of torchvision's own ``module`` called ``plain``, with known weights and preprocessing."""
    network = plain if plain.startswith(IN_TIMM) else f"{PREFIX}{plain}"
    squeezed = plain.startswith("squeezenet")
    head = "" if squeezed else head_of(module)
    classes = int(state["classifier.1.weight" if squeezed else f"{head}.weight"].shape[0])
    return Architecture(
        network=network,
        num_classes=classes,
        head=head,
        settings={**settings, **({"num_outputs": classes} if squeezed else {})},
        inferred=(said,),
        unused=tuple(key for key in state if key.startswith(AUXILIARY)),
        preprocessings=(how,),
    )


def _architecture(
    state: State, network: str, head: str, size: int, unused: tuple[str, ...], others: tuple[str, ...]
) -> Architecture:
    classes, of_classes = classes_of(state, head)
    variants: dict[str, tuple[Any, ...]] = {}
    if network.startswith(("resnet", "wide_resnet", "resnext")):
        variants["act_layer"] = ACTIVATIONS
    if network.removeprefix(PREFIX) in ("googlenet", "inception_v3"):
        variants["transform_input"] = (False, True)
    kind = network.removeprefix(PREFIX)
    return Architecture(
        network=network,
        num_classes=classes,
        head=head,
        inferred=(
            f"{kind}: torchvision's has all these names and shapes",
            of_classes,
            _on_size(state, size),
            *on_others(others),
        ),
        variants=variants,
        unused=unused,
        preprocessings=imagenet(size, interpolation="bilinear"),
        alternatives=others,
    )


def _on_size(state: State, size: int) -> str:
    positioned = any("pos_embed" in key for key in state)
    return f"images of {size} pixels: {'from the number of positions' if positioned else 'usual for it, no file tells'}"


def _squeezenet(state: State, plain: str | None) -> Architecture | None:
    if plain is None or "classifier.1.weight" not in state:
        return None
    outputs = int(state["classifier.1.weight"].shape[0])
    settings = {"num_outputs": outputs}
    if not fits(state, f"{PREFIX}{plain}", "", 224, settings):
        return None
    return Architecture(
        network=f"{PREFIX}{plain}",
        num_classes=outputs,
        head="",
        settings=settings,
        inferred=(
            f"{plain}: torchvision's has all these names and shapes",
            f"{outputs} classes: classifier.1.weight has as many rows; as ReLU follows it, the scores are the features, "
            "and the head is the identity",
            _on_size(state, 224),
        ),
        preprocessings=imagenet(224, interpolation="bilinear"),
    )
