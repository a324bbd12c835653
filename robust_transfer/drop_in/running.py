"""Attacks over tensors in memory, logged line by line; interrupted runs resume."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_transfer.attacks import Attack, attack_name
from robust_transfer.drop_in.progress import Progress, hash_of
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.precision import without_repetition
from robust_transfer.evaluation.resolve import module_hash
from robust_transfer.modes import call, eval_mode
from robust_transfer.randomness import Address, permutation
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.trials import choose, sample_size

NAMES = {"linf": "Linf", "l2": "L2"}
ROUNDING = 1e-6  # by which an image may leave [0, 1]


@dataclass
class Running:
    """Attacks on ``clean`` images ``(N, C, H, W)`` in [0, 1] with ``labels`` ``(N,)``, each on the earlier ones' survivors.

    ``batch_size`` images are attacked at a time. ``random``: the model may answer differently every time.
    ``seconds``: time limit. Raises :class:`ConfigError` and :class:`DataError` for unsuitable arguments.
    """

    model: nn.Module
    attacks: Sequence[Attack]
    threat: Threat
    run: Run
    clean: Tensor
    labels: Tensor
    batch_size: int
    random: bool
    seconds: float | None
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        check(self.clean, self.labels)
        if self.batch_size < 1:
            raise ConfigError(f"bs must be at least 1, not {self.batch_size}")
        self.device = self.run.torch_device()

    def work(self, state: Path | None = None) -> Progress:
        """Run all attacks, up to the time limit; with ``state`` the progress is stored there, and resumed from."""
        started, deadline = time.perf_counter(), Deadline(self.seconds)
        with self.run.at_work():
            predicted, adversary = self._classify(), self._adversary()
            identity = self._identity(predicted, adversary) if state is not None else {}
            known = Progress.of(self.clean, self.labels, predicted, state, identity)
            if known.restored:
                self.log(f"initial clean accuracy: {known.clean_share():.2%}")
                self.log(f"robust accuracy at the time of restoring the state: {known.share():.2%}")
            else:
                self.log(f"initial accuracy: {known.share():.2%}")
            for number, attack in enumerate(adversary.attacks[known.done :], known.done):
                if known.pending is None:
                    known.pending = self._order(known.standing, number)
                if not known.standing.any():
                    self.log("no robust datapoints left, skipping remaining attacks")
                    break
                if not self._attack(adversary, attack, known, deadline):
                    break
                known.finish()
                took = time.perf_counter() - started
                self.log(f"robust accuracy after {str(attack).upper()}: {known.share():.2%} (total time {took:.1f} s)")
            known.save()
            self._conclude(known, adversary.attacks)
        return known

    def _identity(self, predicted: Tensor, adversary: Adversary) -> dict[str, str]:
        """Identity that a stored state must match. A function without weights is identified by its clean predictions."""
        weights = [*self.model.parameters(), *self.model.buffers()]
        model = module_hash(self.model) if weights or self.random else hash_of(predicted)
        return {
            "model": model, "images": hash_of(self.clean, self.labels), "attacks": attack_name(self.attacks),
            "threat": str(self.threat), "seed": str(self.run.seed),
            "precision": adversary.engine.precision,  # attacks are repeated in float32 where it is another
            "time_limit": str(self.seconds is not None),  # the order of the images depends on it
        }  # fmt: skip

    def _classify(self) -> Tensor:
        """Predictions for the clean images, with warnings of conditions that would falsify the figures."""
        with eval_mode(self.model), torch.no_grad():
            batches = self.clean.split(self.batch_size)
            found = [call(self.model, some.to(self.device).float()) for some in batches]
            _warn(found[0], call(self.model, batches[0].to(self.device).float()), self.random)
        return torch.cat([logits.argmax(1) for logits in found]).to(self.labels.device)

    def _adversary(self) -> Adversary:
        rows = torch.arange(sample_size(self.device, self.clean.shape[-1], self.run)) % max(len(self.clean), 1)

        def sample() -> tuple[Tensor, Tensor]:
            return self.clean[rows].to(self.device).float(), self.labels[rows].to(self.device)

        engine = Engine(torch.float32)
        if self.attacks:
            passes = len(self.clean) * effort(self.attacks)
            engine = choose(self.model, sample, self.run, passes=passes)
        return Adversary(without_repetition(self.attacks, engine), self.threat, engine, seed=self.run.seed)

    def _order(self, standing: Tensor, number: int) -> Tensor:
        """Surviving images in the order of attack: random under a time limit, so that a part is a fair sample."""
        rows = standing.nonzero().squeeze(1).cpu()
        if self.seconds is None:
            return rows
        return rows[permutation(Address(self.run.seed, "drop-in/time-limit", step=number), len(rows))]

    def _attack(self, adversary: Adversary, attack: Attack, known: Progress, deadline: Deadline) -> bool:
        """Run one attack on all pending rows; False where time was up before its end."""
        assert known.pending is not None
        number, batches = 0, -(-len(known.pending) // self.batch_size)
        pace, last = 0.0, 0
        while len(known.pending):
            count = deadline.fits(self.batch_size, last, pace)
            if not count:
                return False
            started, rows = time.perf_counter(), known.pending[:count]
            x, y = self.clean[rows].to(self.device).float(), self.labels[rows].to(self.device)
            found = adversary.run(attack, self.model, x, y, rows.to(self.device))
            known.note(rows, found)
            number, last = number + 1, len(rows)
            pace = (time.perf_counter() - started) / last
            broken = int(found.broken.sum())
            self.log(f"{attack} - {number}/{max(batches, number)} - {broken} out of {last} successfully perturbed")
        return True

    def _conclude(self, known: Progress, attacks: Sequence[Attack]) -> None:
        if not attacks:
            return
        pairs = zip(known.adversarial.split(self.batch_size), self.clean.split(self.batch_size), strict=True)
        size = max(float(self.threat.size(adversarial - clean).max()) for adversarial, clean in pairs)
        nan = int(known.adversarial.isnan().sum())
        low, high = float(known.adversarial.min()), float(known.adversarial.max())
        self.log(
            f"max {NAMES[self.threat.norm]} perturbation: {size:.5f}, nan in tensor: {nan}, max: {high:.5f}, min: {low:.5f}"
        )
        left = [str(attack) for attack in attacks[known.done :]] if int(known.standing.sum()) else []
        if left:
            waiting = known.standing.sum() if known.pending is None else len(known.pending)
            some = f"{waiting} images not by {left[0]}" + (f", none by {', '.join(left[1:])}" * (len(left) > 1))
            self.log(f"the time limit was reached ({some}): the robust accuracy can only be lower")
        known.left = left
        self.log(f"robust accuracy: {known.share():.2%}")


def check(x: Tensor, labels: Tensor) -> None:
    """Raise :class:`DataError` for images and labels that would silently give a wrong number."""
    if x.dim() != 4 or not x.is_floating_point():
        raise DataError(f"images are a float tensor (N, C, H, W), not {tuple(x.shape)} of {x.dtype}")
    if not len(x):
        raise DataError("there are no images to attack")
    if labels.shape != x.shape[:1] or labels.dtype != torch.int64:
        raise DataError(f"labels are {len(x)} int64 class numbers, not {tuple(labels.shape)} of {labels.dtype}")
    low, high = float(x.min()), float(x.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise DataError(
            f"images lie in [0, 1], and these go from {low:.3g} to {high:.3g}: normalise inside the model, which the budget "
            "is not measured in"
        )


def _warn(logits: Tensor, again: Tensor, random: bool) -> None:
    if not random and not torch.equal(logits, again) and not torch.allclose(logits, again, rtol=1e-3, atol=1e-3):
        warnings.warn("the model answers differently every time: use version='rand'", stacklevel=4)
    if bool((logits >= 0).all()) and torch.allclose(logits.float().sum(1), torch.ones(len(logits)).to(logits.device)):
        warnings.warn(
            "the model seems to return probabilities: attacks need its logits, without the softmax at its end",
            stacklevel=4,
        )
