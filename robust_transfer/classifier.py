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
from torch.nn.modules.batchnorm import _NormBase

from robust_transfer import modules, networks
from robust_transfer.config import config
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.heads import Head, HeadSpec, fresh_head, initial_head_rng, new_head, replacement_head_rng
from robust_transfer.modes import eval_mode
from robust_transfer.preprocessing import Normalise, Preprocessing


@config
class NetworkSpec:
    """Everything needed to build a Classifier again, except its weights."""

    name: str
    num_classes: int
    preprocessing: Preprocessing
    settings: dict[str, Any] = field(default_factory=dict)
    head: HeadSpec = HeadSpec()

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ConfigError(f"a classifier needs at least 2 classes, not {self.num_classes}")

    @property
    def input_size(self) -> int:
        """Side of the network's input images, in pixels."""
        return self.preprocessing.size


class Classifier(nn.Module):
    """Network on images ``(B, 3, H, W)`` in [0, 1] with logits ``(B, K)`` in float32.

    ``features(x)`` are the penultimate features ``z(x)``, ``(B, d)`` (after the last activation and pooling);
    ``head`` is the last linear layer, an MLP, or that of a mixture. The head, like every loss, computes in float32 under
    mixed precision.
    """

    keeps_input = True  # nothing in it works in place on the images: no copy of them is needed

    def __init__(self, body: nn.Module, head: Head, spec: NetworkSpec) -> None:
        super().__init__()
        self.normalise = Normalise(spec.preprocessing.normalisation)
        self.body: nn.Module = cast(Any, body).to(memory_format=torch.channels_last)  # not in every torch's types
        self.head: Head = head
        self.spec = spec
        self.hold_batch_norm = False
        self._calls: list[str] | None = None  # order of the body's layers, where it had to be found by running it
        self._frozen: frozenset[str] = frozenset()
        self._held: tuple[str, ...] = ()  # paths of the modules that freezing keeps in evaluation mode

    @classmethod
    def build(cls, spec: NetworkSpec) -> Classifier:
        """Freshly initialised classifier. Networks with several heads or tuple outputs are refused."""
        body = networks.create(spec.name, num_classes=0, input_size=spec.input_size, **spec.settings)
        features = probe_features(body, spec)
        return cls(body, fresh_head(features, spec.num_classes, spec.head, initial_head_rng()), spec)

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        head: str | None = None,
        builder: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Classifier:
        """Classifier of any ``module`` from normalised images ``(B, 3, H, W)`` to logits ``(B, K)``, in evaluation mode.

        Its last linear layer becomes the head and what that layer reads the features. The layer is found by running the
        module (or named: ``head="fc"``), and :class:`NetworkError` says so where the logits are not that layer's outputs.
        The module is left as it is: the classifier has a copy, in float32, on the same device. ``preprocessing``: the
        size of the images, and the normalisation that the module does not do itself.

        Results can be saved where the module was made by a function with :func:`register_builder`; a function of
        that kind may also be named by ``builder``, with its arguments as ``settings``.
        """
        if isinstance(module, Classifier) or not isinstance(module, nn.Module):
            raise ConfigError(f"module must be an nn.Module that is no Classifier, not {type(module).__name__}")
        body, last, layer = modules.split(module, preprocessing.size, head)
        mark = networks.mark_of(modules.unwrapped(module)) if builder is None else (builder, settings or {})
        name, own = mark if mark is not None else (f"{type(modules.unwrapped(module)).__name__} (unregistered)", {})
        spec = NetworkSpec(
            name=name,
            num_classes=last.out_features,
            preprocessing=preprocessing,
            settings={**own, networks.HEAD_LAYER: layer},
        )
        made = cls(body, last, spec).eval()
        if mark is not None:
            _refuse_other(made, cls.build(spec))
        return made

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

        The groups are timm's where the network has some, otherwise those of its tree of submodules, in the order in
        which it computes; a group that holds nothing but a norm belongs to the block before it. A pair of networks has the
        blocks that are as far from the head in both.
        """
        sizes = self.body.state_dict()
        ordered = modules.groups_of(self.body, self._order)
        blocks: list[tuple[str, ...]] = []
        for group in ordered:
            names = tuple(f"body.{name}" for name in group)
            only_norm = all(sizes[name].dim() <= 1 for name in group)
            if only_norm and blocks:
                blocks[-1] += names
            else:
                blocks.append(names)
        return [*blocks, tuple(f"head.{name}" for name in self.head.state_dict())]

    def _order(self) -> list[str]:
        """Paths of the body's layers in the order of their calls."""
        if self._calls is None:
            self._calls = modules.calls_of(self.body, self.spec.input_size)
        return self._calls

    def with_head(self, num_classes: int, *, seed: int = 0) -> Classifier:
        """Copy with a new linear head, drawn from ``seed``. Nothing is frozen in the copy."""
        return self.with_layers(new_head(self.num_features, num_classes, replacement_head_rng(seed)))

    def with_layers(self, head: Head, how: HeadSpec = HeadSpec()) -> Classifier:  # noqa: B008 (a frozen value)
        """Copy with ``head``, described by ``how`` (default: linear). Nothing is frozen in the copy."""
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
        """Freeze state by name (all but the head if None): no gradients, no updates of statistics, no dropout, for good.

        A later ``.train()`` leaves frozen modules in evaluation mode: those whose whole state is frozen, norms
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
        """Training mode except for frozen modules; with ``hold_batch_norm``, norms with statistics stay in evaluation mode."""
        super().train(mode)
        if mode:
            for path in self._held:
                self.get_submodule(path).eval()
            if self.hold_batch_norm:
                for module in self.modules():
                    if _keeps_statistics(module):
                        module.eval()
        return self

    def _paths_to_hold(self) -> Iterator[str]:
        """Paths of modules that must stay in evaluation mode for frozen features to stay constant.

        Frozen weights alone do not do it: batch norm would go on counting, and dropout or drop path between two frozen
        layers, which have no weights that could be frozen, would go on drawing.
        """
        state = list(self.state_dict())
        leaves = list[str]()
        for path, module in self.named_modules():
            own = [n for n in state if n.startswith(f"{path}.")]
            frozen = self._frozen.issuperset(own)
            if own and path and (frozen or (_keeps_statistics(module) and self._holds_statistics(path))):
                yield path
            if next(module.children(), None) is None:
                leaves.append(path)
        if not (hasattr(self.body, "group_matcher") or self._frozen.isdisjoint(state)):
            # a module of unknown making: its layers need not stand in the order in which they compute
            body = [f"body.{path}" for path in self._order()]
            leaves = [*body, *(path for path in leaves if path == "head" or path.startswith("head."))]
        previous_frozen, stateless = True, list[str]()  # what comes before the first weights belongs to them
        for path in leaves:
            own = [n for n in state if n.startswith(f"{path}.")]
            if next(self.get_submodule(path).children(), None) is not None:  # weights beside those of its children
                own = [n for n in own if "." not in n.removeprefix(f"{path}.")]
            if own:
                frozen = self._frozen.issuperset(own)
                if previous_frozen and frozen:
                    yield from stateless
                previous_frozen, stateless = frozen, []
            else:
                stateless.append(path)

    def _holds_statistics(self, path: str) -> bool:
        return bool(self._frozen & {f"{path}.running_mean", f"{path}.running_var"})

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Evaluation mode inside the block; restores every submodule's mode afterwards."""
        with eval_mode(self):
            yield


def _keeps_statistics(module: nn.Module) -> bool:
    """True for a norm that gathers statistics in training mode: batch norm, instance norm and the like."""
    return isinstance(module, _NormBase) or "running_mean" in module._buffers


def _refuse_other(given: Classifier, built: Classifier) -> None:
    """Raise :class:`NetworkError` unless the builder's network computes the same as the given one."""
    what = (
        f"the builder {given.spec.name!r} with the settings {given.spec.settings} makes another network than the module"
    )
    mine, other = given.state_dict(), built.state_dict()
    for key in sorted({*mine, *other}):
        if key not in mine or key not in other or mine[key].shape != other[key].shape:
            raise NetworkError(f"{what}: they differ in {key!r}")
    built.load_state_dict(mine)
    built.to(given.device)
    size = given.spec.input_size
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(given.device)
    with torch.no_grad(), eval_mode(built):
        a, b = given(x), built(x)
    if not torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max())):
        raise NetworkError(f"{what}: with the same weights its logits are others")


class Features(nn.Module):
    """Classifier's penultimate features ``(B, d)`` in place of its logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Features of images in [0, 1]."""
        return self.classifier.features(x)


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
