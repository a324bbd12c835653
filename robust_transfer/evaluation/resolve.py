"""Resolve the arguments of `evaluate`: module, input size, hashes, source checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from types import NoneType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robust_transfer.attacks.victim import attacking
from robust_transfer.checkpoint import Checkpoint, weights_hash
from robust_transfer.classifier import Classifier
from robust_transfer.config import expect
from robust_transfer.data import Split
from robust_transfer.data.class_map import ClassMap, in_common, in_order_of
from robust_transfer.errors import ConfigError, DataError, NetworkError
from robust_transfer.evaluation.knowledge import public_source
from robust_transfer.modes import on_device
from robust_transfer.progress import stage
from robust_transfer.run import Run


@dataclass(frozen=True)
class Subject:
    """Model and images of an evaluation: ``split``, at the model's input size, is ``whole`` or a sample of it.

    Labels are in the order of the model's classes; ``given`` is ``split`` with the data's own labels, ``matched``
    says how they were matched, and ``notes`` hold that and the data's own notes. ``source`` is the attacker's assumed
    knowledge of the network that the model was transferred from.
    """

    model: Checkpoint | nn.Module
    module: nn.Module
    whole: Split
    split: Split
    given: Split
    source: Checkpoint | None
    notes: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()

    @property
    def is_transferred(self) -> bool:
        """True if the model is known to be transferred from another network."""
        return isinstance(self.model, Checkpoint) and (self.source is not None or self.model.card.source is not None)

    def at(self, rows: NDArray[np.int64]) -> Subject:
        """Same subject on a subset of its images."""
        some = torch.from_numpy(rows)
        return replace(self, split=self.split.subset(some), given=self.given.subset(some))

    @property
    def stored_hash(self) -> str | None:
        """Hash of a checkpoint's stored weights."""
        return self.model.card.weights_hash if isinstance(self.model, Checkpoint) else None


def check_arguments(model: Checkpoint | nn.Module, split: Split, run: Run | None) -> None:
    """Raise :class:`ConfigError` for arguments of wrong types."""
    expect(
        "model", model, Checkpoint, nn.Module, hint="such as load_source(folder), or wrap a function in an nn.Module"
    )
    expect("split", split, Split, hint="such as load_task(data).test, or Split.in_memory(images, labels, class_names)")
    expect("run", run, Run, NoneType, hint="such as Run(seed=1)")


def try_out(module: nn.Module, split: Split, run: Run) -> None:
    """Run a third-party module once; :class:`NetworkError` where it fails, or has another number of classes."""
    device, classes = run.torch_device(), len(split.class_names)
    x, _, _ = split.subset(torch.arange(1)).on(device)
    try:
        with on_device(module, device), attacking(module, device, size=split.size) as target:
            logits = target.logits(x)
    except (NetworkError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a foreign forward pass raises
        size, reason = "x".join(map(str, x.shape[1:])), str(error).strip().split("\n")[0]
        raise NetworkError(
            f"the model fails on float32 images of {size} in [0, 1] ({type(error).__name__}: {reason}): "
            "give the split at the size, and the model in the precision, that fit"
        ) from error
    if logits.shape[1] != classes:
        raise NetworkError(
            f"the model tells {logits.shape[1]} classes apart and the data has {classes}: they must be the same"
        )


def resolve(
    model: Checkpoint | nn.Module,
    split: Split,
    source: Checkpoint | None,
    examples: int | None,
    run: Run,
    class_map: ClassMap | None = None,
) -> Subject:
    """Subject of an evaluation, its images read; raises :class:`ConfigError` and :class:`DataError` for what does not fit."""
    whole, notes = in_classes_of(model, split, class_map)
    module, chosen = module_of(model), subset(split, examples, run.seed)
    with stage("reading images", None, run.quiet):
        given = at_input_size(module, chosen)
    if not isinstance(module, Classifier):
        try_out(module, given, run)
    images, _ = in_classes_of(model, given, class_map)
    return Subject(model, module, whole, images, given, source, (*split.notes, *notes), tuple(notes))


def subset(split: Split, examples: int | None, seed: int) -> Split:
    """Stratified subset of ``examples`` images, in the split's order; all if there are fewer."""
    if examples is None:
        return split
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, not {examples}")
    return split.sample(examples, seed=seed, purpose="evaluation/examples")


def module_of(model: Checkpoint | nn.Module) -> nn.Module:
    """Module under attack."""
    return model.classifier if isinstance(model, Checkpoint) else model


def at_input_size(module: nn.Module, split: Split) -> Split:
    """``split`` at the input size of ``module``; for a plain module at the images' own common size, if any."""
    if isinstance(module, Classifier):
        return split.prepared(module.spec.preprocessing)
    if split.size is None:
        raise DataError("the images have different sizes: say at which one to evaluate, with split.at_size(...)")
    return split


def threat_pixels(subject: Subject) -> str:
    """Sentence on the pixels of a threat's budget, and how they were made from the stored images."""
    if isinstance(subject.module, Classifier):
        return subject.module.spec.preprocessing.threat_pixels
    size, made = subject.split.size, subject.split.geometry
    return (
        f"a threat is on the {size} x {size} pixels that the model is given, {f'after {made}' if made else 'as stored'}"
    )


def module_hash(module: nn.Module) -> str:
    """Classifier's own hash; for other modules one over the type's name and every tensor of the state."""
    if isinstance(module, Classifier):
        return weights_hash(module)
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def in_classes_of(
    model: Checkpoint | nn.Module, split: Split, class_map: ClassMap | None = None
) -> tuple[Split, list[str]]:
    """``split`` with its labels in the order of the model's classes, and sentences on how they were matched.

    The data may have some of a checkpoint's classes only: predictions are over all of the model's. Refuses an empty
    split, and a model of other classes. A plain module has no names: its classes are numbered as the data's are.
    """
    if not len(split):
        raise DataError("the split is empty: there is nothing to evaluate on")
    if isinstance(model, Checkpoint):
        model.refuse_headless()
    module = module_of(model)
    fewer = isinstance(model, Checkpoint) and len(split.class_names) < model.classifier.num_classes
    if fewer and isinstance(model, Checkpoint) and class_map is None:
        fewer = in_common(model.card.class_names, split)
    if isinstance(module, Classifier) and module.num_classes != len(split.class_names) and not fewer:
        raise DataError(
            f"the model tells {module.num_classes} classes apart and the data has {len(split.class_names)}: "
            "transfer it to this data first"
        )
    if isinstance(model, Checkpoint):
        return in_order_of(model.card.class_names, split, class_map)
    if class_map is not None:
        raise ConfigError("a class map needs a checkpoint, whose card has names: a plain module's classes have none")
    return split, []


def find_source(model: Checkpoint | nn.Module, given: Checkpoint | None) -> Checkpoint | None:
    """Source checkpoint that an attacker of ``model`` is assumed to have, or None."""
    found = given or (public_source(model) if isinstance(model, Checkpoint) else None)
    module = module_of(model)
    if given is not None and isinstance(module, Classifier):
        its, mine = given.preprocessing.geometry, module.spec.preprocessing.geometry
        if its != mine:
            differ = f"images of {its.size} pixels and the model of {mine.size}"
            if its.size == mine.size:
                differ = f"images after {its}, and the model after {mine}"
            raise ConfigError(f"the source reads {differ}: it is not what the model was transferred from")
    return found
