"""timm's published files, by timm's own rules for older names, from tensors read by this package."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.foreign.contents import Contents
from robust_transfer.foreign.families.base import Architecture
from robust_transfer.foreign.families.weightless import weightless
from robust_transfer.foreign.published import NATURAL, Loading, Published
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.undrawn import undrawn

# Sets of classes, as timm's tags name them: in1k, in22k_ft_in1k, in12k. Other last layers project to where texts lie.
CLASSES = re.compile(r"(^|_)in(w?\d+k)(_|$)")
# Trained on adversarial examples, but for clean accuracy or against attacks of one step, and for no stated threat.
ADVERSARIAL = {
    "ap_in1k": "AdvProp (Xie et al. 2020), adversarial examples for clean accuracy",
    "tf_adv_in1k": "adversarial training with attacks of one step (Kurakin et al. 2017)",
    "tf_ens_adv_in1k": "ensemble adversarial training with attacks of one step (Tramer et al. 2018)",
}


def check(full: str, config: Any) -> None:
    """Refuse unsuitable sources before any download: several heads, inputs that are not RGB squares."""
    if config.num_classes and not isinstance(config.classifier, str):
        heads = ", ".join(config.classifier or ())
        raise ConfigError(f"timm:{full} has several heads ({heads}): only networks with one are read")
    try:
        Preprocessing.from_timm(config)
    except ConfigError as error:
        raise ConfigError(f"timm:{full} cannot be a source: {error}") from None


def reading(
    full: str, config: Any, contents: Contents, state: Mapping[str, Tensor], at: str
) -> tuple[Architecture, Published, Mapping[str, Tensor], tuple[str, ...] | None]:
    """Network, its published facts, state under current names, and class names (None: ImageNet's, or numbers).

    ``full``: name with its tag. A network without a list of classes, or whose head is more than one linear layer, is
    a feature extractor. Raises :class:`CheckpointError` where timm itself cannot load the file.
    """
    plain, _, tag = full.partition(".")
    by = f"timm {version('timm')}"
    how = Preprocessing.from_timm(config)
    # Of files that hold more than one set of weights, timm's own rules choose.
    given = contents.tree if isinstance(contents.tree, dict) else state
    why = _no_classes(config, tag)
    reference = None if why else _loaded(full, given, {})
    if reference is not None and not _one_layer(reference, plain, config, how):
        why, reference = f"its head {config.classifier!r} has more layers than the last one", None
    if reference is None:
        reference = _loaded(full, given, {"num_classes": 0})
    inferred = [f"{plain}: as {by} publishes it, with the preprocessing of its training"]
    inferred += [f"features only: {why}"] if why else []
    architecture = Architecture(
        network=plain,
        num_classes=0 if why else config.num_classes,
        head="" if why else config.classifier,
        inferred=tuple(inferred),
        preprocessings=(how,),
    )
    threat = f"none: {ADVERSARIAL[tag]}; no threat is stated" if tag in ADVERSARIAL else NATURAL.format(by=by)
    published = Published(by=by, at=at, threat=threat, reference=reference)
    return architecture, published, reference.state_dict(), None if why else _class_names(config.num_classes)


def _no_classes(config: Any, tag: str) -> str:
    """Reason why the last layer does not output classes; "" where it does."""
    if not config.num_classes:
        return "it is published without classes"
    if not CLASSES.search(tag):
        return f"its {config.num_classes} outputs are no classes that timm names"
    return ""


def _loaded(full: str, given: Mapping[str, Any], settings: dict[str, Any]) -> nn.Module:
    """timm's own network with these weights, loaded by timm's rules; timm itself reads no file."""
    timm, logger = networks.add_to_timm(), logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)  # we report unused layers of a head ourselves
    try:
        with warnings.catch_warnings(), undrawn(), Loading() as loading:
            warnings.simplefilter("ignore")
            made: nn.Module = timm.create_model(
                full, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(given)}, **settings
            )
    except (RuntimeError, KeyError, ValueError, AttributeError, TypeError, AssertionError) as error:
        first = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the file of timm:{full} does not fit timm's network: {first}") from None
    finally:
        logger.setLevel(level)
    if missing := loading.left_out(made):
        raise CheckpointError(f"the file of timm:{full} lacks {missing[0]!r}: it is another network's, or damaged")
    getattr(made, "pretrained_cfg", {}).pop("state_dict", None)  # a copy of all weights
    return made.eval()


def _one_layer(reference: nn.Module, plain: str, config: Any, how: Preprocessing) -> bool:
    """True if a network without classes equals this one without its last layer."""
    make = partial(networks.create, plain, num_classes=0, input_size=how.size)
    head = f"{config.classifier}."
    own = {key: value.shape for key, value in reference.state_dict().items() if not key.startswith(head)}
    return own == {key: value.shape for key, value in weightless(make).state_dict().items()}


def _class_names(count: int) -> tuple[str, ...] | None:
    """WordNet ids of the classes of ImageNet's larger sets, in timm's order; None if timm has no list."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    return None if subset is None or count == 1000 else tuple(ImageNetInfo(subset).label_names())
