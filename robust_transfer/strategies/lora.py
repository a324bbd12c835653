"""Low-rank updates of the source's layers on natural images, merged into the weights (Hu et al. 2022, LoRA)."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import nn
from typing_extensions import override

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.production import Produced
from robust_transfer.randomness import Address
from robust_transfer.run import Run
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.fine_tune import FineTune
from robust_transfer.strategies.trained import TrainingStart

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
MERGED = 1e-3  # of the largest feature, by which rounding may move features when updates are merged


@STRATEGIES.register(
    "lora",
    summary="low-rank updates of linear layers and convolutions, and the head, on natural images (an extra)",
    paper="Hu et al. 2022, section 4.1",
)
@config
class LoRA(FineTune):
    """Training of ``W + alpha / rank * B A`` for each layer's weight ``W``, which is frozen, and of the head.

    ``A`` and ``B`` are of rank ``rank`` and ``B`` begins at 0; ``dropout`` is of the inputs of ``A``. Layers are PyTorch's own
    linear layers and convolutions below the head (subclasses compute in ways of their own), without groups, dilation or other
    padding than zeros. At the end the updates are added to the weights: the result is an ordinary network. By the peft
    library.
    """

    weighs: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = FineTune.quick

    learning_rate: float = 1e-2  # the updates begin at 0, and so does the gradient of one of their factors
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"rank must be at least 1, not {self.rank}: with none it is linear-probe")
        if self.alpha <= 0:
            raise ConfigError(f"alpha must be positive, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, not {self.dropout}")

    @override
    def check(self, source: Checkpoint, task: Task) -> None:
        super().check(source, task)
        if find_spec("peft") is None:
            raise ConfigError("lora needs peft, which is an extra: pip install 'robust-transfer[lora]'")
        if not layers(source.classifier.body):
            raise ConfigError(
                f"lora finds no plain linear layer or convolution in a {source.card.network.name!r}: "
                "use linear-probe, or fine-tune"
            )

    @override
    def start(self, source: Checkpoint, task: Task, run: Run) -> TrainingStart:
        start = super().start(source, task, run)
        classifier = start.classifier
        names = layers(classifier.body)
        torch.manual_seed(Address(run.seed, "lora").generator().initial_seed())
        self._inject(classifier, names)
        classifier.hold_batch_norm = self.batch_norm == "eval"
        kept = [n for n in classifier.state_dict() if not n.startswith("head.") and ".lora_" not in n]
        if not classifier.hold_batch_norm:
            kept = [n for n in kept if n.rpartition(".")[2] not in STATISTICS]
        classifier.freeze(kept)
        start.metrics["adapted_layers"] = len(names)
        start.metrics["trained_parameters"] = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
        return start

    def _inject(self, classifier: Classifier, names: list[str]) -> None:
        """Replace the named layers of the body by their sum with a low-rank update of 0."""
        from peft import LoraConfig, inject_adapter_in_model

        pattern = "|".join(re.escape(name) for name in names)
        scale: dict[str, Any] = {"lora_alpha": self.alpha}  # typed as a whole number, and only divided by the rank
        how = LoraConfig(r=self.rank, lora_dropout=self.dropout, target_modules=pattern, **scale)
        inject_adapter_in_model(how, classifier.body)
        body: Any = classifier.body
        body.to(memory_format=torch.channels_last)

    @override
    def train_from(self, start: TrainingStart, source: Checkpoint, task: Task, run: Run) -> Produced:
        """Train the updates, and merge them."""
        made = super().train_from(start, source, task, run)
        size = made.classifier.spec.input_size
        x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with made.classifier.eval_mode(), torch.no_grad():
            wanted = made.classifier.features(x)
            merge(made.classifier.body)
            found = made.classifier.features(x)
        if not bool((found - wanted).abs().max() <= MERGED * wanted.abs().max()):
            raise NetworkError(
                f"a {source.card.network.name!r} computes something else with lora's updates merged into its weights, as it "
                "uses a weight in two places or past its layer: use another strategy"
            )
        return made


def layers(body: nn.Module) -> list[str]:
    """Names of the layers that take a low-rank update, which has the shape that peft gives it."""
    return [name for name, module in body.named_modules() if _is_plain(module)]


def _is_plain(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def merge(body: nn.Module) -> None:
    """Add every low-rank update to its layer's weight, and leave the plain layers in place."""
    from peft.tuners.lora import LoraLayer

    for path in [path for path, module in body.named_modules() if isinstance(module, LoraLayer)]:
        layer: Any = body.get_submodule(path)
        layer.merge()
        parent, _, name = path.rpartition(".")
        setattr(body.get_submodule(parent), name, layer.get_base_layer())
