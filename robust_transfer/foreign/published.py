"""Published networks: a library's statement on a set of weights, and the proof that ours computes the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robust_transfer.classifier import Classifier
from robust_transfer.errors import CheckpointError

EXACT = 1e-4  # largest difference of two outputs that rounding may make, as a share of their range
NATURAL = "none: {by} states none, so that its training counts as natural"


@dataclass(frozen=True, eq=False)
class Published:
    """Library's statement on a set of weights, and its own network with these weights.

    ``by``: the library and its version, "timm 1.0.31". ``at``: the file's address. ``threat``: a sentence for cards
    without one. ``accuracy``: as published, in percent ("ImageNet-1K acc@1"). ``reference``: the library's network in
    evaluation mode, from normalised images to logits; to features where the source has no classes.
    """

    by: str
    at: str
    threat: str
    reference: nn.Module
    accuracy: dict[str, float] = field(default_factory=dict)

    def prove(self, classifier: Classifier, *, classes: bool) -> str:
        """Sentence with the difference between the classifier and the library's network on one noise image.

        ``classes``: compare logits rather than features. Raises :class:`CheckpointError` where they differ.
        """
        size = classifier.spec.input_size
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours = classifier(x) if classes else classifier.features(x)
            theirs = self.reference(classifier.normalise(x))
        what = "logits" if classes else "features"
        if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
            raise CheckpointError(f"the {what} of {self.by}'s network are no vectors like ours: it cannot be a source")
        apart, spread = float((ours - theirs).abs().max()), float(theirs.max() - theirs.min())
        if not apart <= EXACT * max(spread, 1e-6):
            raise CheckpointError(
                f"the {what} are not those of {self.by}'s own network (apart by {apart:.3g}, of a range of {spread:.3g}): "
                "this network has another layout than its last layer tells, and cannot be a source"
            )
        return f"its {what} on an image of noise are those of {self.by}'s network, up to {apart:.1e} of {spread:.3g}"


class Loading(TorchFunctionMode):
    """Mode that records the targets of copies, to find tensors of a network that were not loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = set[int]()

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Intercept every PyTorch call."""
        if func is Tensor.copy_:
            self.filled.add(args[0].data_ptr())
        return func(*args, **(kwargs or {}))

    def left_out(self, module: nn.Module) -> list[str]:
        """Names of a module's tensors that were not loaded, except batch counters."""
        state = module.state_dict()
        return [
            name
            for name, tensor in state.items()
            if tensor.numel() and tensor.data_ptr() not in self.filled and not name.endswith("num_batches_tracked")
        ]
