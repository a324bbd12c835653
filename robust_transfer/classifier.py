"""Classifier = normalise -> features -> head: the one form in which every network is trained, attacked and saved."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer import networks
from robust_transfer.config import config
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.heads import Head, HeadSpec, initial_head_rng, new_head, new_mlp, replacement_head_rng
from robust_transfer.modes import eval_mode

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@config
class Normalisation:
    """Normalisation of pixels in [0, 1] to a network's input. It belongs to the network, not to the target data.

    ``per_image`` standardises each image by its own mean and deviation (at least ``1 / sqrt(C * H * W)``), as the
    transfer paper's network does; otherwise ``mean`` and ``std`` are per channel.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    per_image: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ConfigError("normalisation needs one mean and one positive std per channel")


class Normalise(nn.Module):
    """Applies a :class:`Normalisation`; it has no parameters and nothing in it is learned."""

    mean: Tensor
    std: Tensor

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor(how.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels ``(B, C, H, W)`` in [0, 1] to network inputs of the same shape."""
        if self.how.per_image:
            flat = x.flatten(1)
            floor = flat.shape[1] ** -0.5 / 255  # it is 1 / sqrt(n) for pixels from 0 to 255
            mean, std = flat.mean(1), flat.std(1, correction=0).clamp_min(floor)
            return (x - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
        return (x - self.mean) / self.std


@config
class NetworkSpec:
    """Everything needed to build a Classifier again, but for its weights."""

    name: str
    num_classes: int
    input_size: int
    normalisation: Normalisation = Normalisation(mean=CIFAR_MEAN, std=CIFAR_STD)
    settings: dict[str, Any] = field(default_factory=dict)
    head: HeadSpec = HeadSpec()

    def __post_init__(self) -> None:
        if len(self.normalisation.mean) not in (1, 3):  # images are RGB
            raise ConfigError(f"normalisation needs 3 channels (or 1 for all), not {len(self.normalisation.mean)}")
        if self.num_classes < 2:
            raise ConfigError(f"a classifier needs at least 2 classes, not {self.num_classes}")
        if not 4 <= self.input_size <= 4096:
            raise ConfigError(f"input_size must be between 4 and 4096 pixels, not {self.input_size}")


class Classifier(nn.Module):
    """Network on images ``(B, 3, H, W)`` in [0, 1] with logits ``(B, K)`` in float32.

    ``features(x)`` are the penultimate features ``z(x)``, ``(B, d)`` (after the last activation and pooling);
    ``head`` is the last linear layer, or an MLP. The head, like every loss, computes in float32 under mixed precision.
    """

    keeps_input = True  # nothing in it works in place on the images: no copy of them is needed

    def __init__(self, body: nn.Module, head: Head, spec: NetworkSpec) -> None:
        super().__init__()
        self.normalise = Normalise(spec.normalisation)
        self.body: nn.Module = cast(Any, body).to(memory_format=torch.channels_last)  # not in every torch's types
        self.head: Head = head
        self.spec = spec
        self.hold_batch_norm = False
        self._frozen: frozenset[str] = frozenset()
        self._held: tuple[str, ...] = ()  # paths of the modules that freezing keeps in evaluation mode

    @classmethod
    def build(cls, spec: NetworkSpec) -> Classifier:
        """Freshly initialised classifier. Networks with several heads or tuple outputs are refused."""
        body = networks.create(spec.name, num_classes=0, input_size=spec.input_size, **spec.settings)
        features = probe_features(body, spec)
        if spec.head.hidden:
            return cls(body, new_mlp(features, spec.num_classes, spec.head, initial_head_rng()), spec)
        return cls(body, new_head(features, spec.num_classes, initial_head_rng()), spec)

    # ---------------------------------------------------------------- forward

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features ``(B, d)`` in float32.

        One memory format for weights and images: the bits of a convolution depend on it, and features must not.
        """
        return cast(Tensor, self.body(self.normalise(x.contiguous(memory_format=torch.channels_last)))).float()

    def classify(self, features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of penultimate features, in float32 whatever the surrounding precision."""
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, self.head(features.float()))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` in float32."""
        return self.classify(self.features(x))

    # ---------------------------------------------------------------- structure

    @property
    def num_classes(self) -> int:
        """Number of classes of the head."""
        return self.head.out_features

    @property
    def num_features(self) -> int:
        """Size ``d`` of the penultimate features."""
        return self.head.in_features

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.head.parameters()).device

    def blocks(self) -> list[tuple[str, ...]]:
        """State names (parameters *and* buffers) in order from input to output, grouped in blocks; the head is last.

        The groups are timm's; a group that holds nothing but a norm belongs to the block before it.
        """
        named = [
            (name.removeprefix("body."), value) for name, value in self.state_dict().items() if name.startswith("body.")
        ]
        if not hasattr(self.body, "group_matcher"):
            raise NetworkError(
                f"the network {self.spec.name!r} does not say what its blocks are (timm's group_matcher)"
            )
        matcher = cast(Any, self.body).group_matcher(coarse=False)
        groups = networks.group_with_matcher(named, matcher, return_values=False)
        sizes = dict(named)
        blocks: list[tuple[str, ...]] = []
        for key in sorted(groups, key=float):
            names = tuple(f"body.{name}" for name in groups[key])
            only_norm = all(sizes[name].dim() <= 1 for name in groups[key])
            if only_norm and blocks:
                blocks[-1] += names
            else:
                blocks.append(names)
        return [*blocks, tuple(f"head.{name}" for name in self.head.state_dict())]

    def with_head(self, num_classes: int, *, seed: int = 0) -> Classifier:
        """Copy with a new linear head, drawn from ``seed``. Nothing is frozen in the copy."""
        return self.with_layers(new_head(self.num_features, num_classes, replacement_head_rng(seed)))

    def with_layers(self, head: Head, how: HeadSpec = HeadSpec()) -> Classifier:  # noqa: B008 (a frozen value)
        """Copy with ``head``, built as ``how`` says (by default linear). Nothing is frozen in the copy."""
        spec = dataclasses.replace(self.spec, num_classes=head.out_features, head=how)
        return self._with(head.to(self.device), spec)

    def copy(self) -> Classifier:
        """Independent copy, weights included; nothing is frozen in it."""
        return self._with(copy.deepcopy(self.head), self.spec)

    def _with(self, head: Head, spec: NetworkSpec) -> Classifier:
        other = Classifier(copy.deepcopy(self.body), head, spec).to(self.device)  # normalisation has buffers too
        return other.requires_grad_(True).train(self.training)

    # ---------------------------------------------------------------- freezing and modes

    def freeze(self, names: Iterable[str] | None = None) -> Classifier:
        """Freeze state by name (all but the head if None): no gradients, no batch-norm updates, no dropout, for good.

        A later ``.train()`` leaves frozen modules in evaluation mode: those whose whole state is frozen, batch norm
        whose statistics are, and what has no state (dropout) between frozen modules. Raises :class:`ConfigError` for a
        name that the network does not have.
        """
        state = set(self.state_dict())
        chosen = {n for n in state if not n.startswith("head.")} if names is None else set(names)
        if missing := chosen - state:
            raise ConfigError(f"cannot freeze {sorted(missing)[0]!r}: the network has no such weights")
        self._frozen = self._frozen | chosen
        self._held = tuple(self._paths_to_hold())
        for name, parameter in self.named_parameters():
            if name in self._frozen:
                parameter.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Training mode for what is not frozen; with ``hold_batch_norm``, batch norm stays in evaluation mode."""
        super().train(mode)
        if mode:
            for path in self._held:
                self.get_submodule(path).eval()
            if self.hold_batch_norm:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def _paths_to_hold(self) -> Iterator[str]:
        state = list(self.state_dict())
        previous_frozen, stateless = True, list[str]()  # what comes before the first weights belongs to them
        for path, module in self.named_modules():
            own = [n for n in state if n.startswith(f"{path}.")]
            frozen = self._frozen.issuperset(own)
            if own and path and (frozen or (isinstance(module, _BatchNorm) and self._holds_statistics(path))):
                yield path
            if next(module.children(), None) is None:
                if own:
                    if previous_frozen and frozen:
                        yield from stateless
                    previous_frozen, stateless = frozen, []
                else:
                    stateless.append(path)

    def _holds_statistics(self, path: str) -> bool:
        return bool(self._frozen & {f"{path}.running_mean", f"{path}.running_var"})

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluation mode inside the block; afterwards every submodule is in the mode it was in."""
        with eval_mode(self):
            yield


def probe_features(body: nn.Module, spec: NetworkSpec) -> int:
    """Feature size of a headless network, found by running it; refuses what is not one vector per image."""
    if isinstance((getattr(body, "default_cfg", None) or {}).get("classifier"), (tuple, list)):
        raise NetworkError(f"the network {spec.name!r} has several heads; networks with one head are supported")
    x = torch.zeros(2, 3, spec.input_size, spec.input_size)
    with eval_mode(body), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = body(x)
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            message = (str(error).splitlines() or [type(error).__name__])[0]
            raise NetworkError(
                f"the network {spec.name!r} cannot read {spec.input_size}x{spec.input_size} images: {message}"
            ) from None
    if not isinstance(out, Tensor):
        raise NetworkError(f"the network {spec.name!r} has several outputs; networks with one are supported")
    if out.dim() != 2:
        raise NetworkError(
            f"the network {spec.name!r} has no pooled features: it gives {tuple(out.shape)} without its head"
        )
    return int(out.shape[1])
