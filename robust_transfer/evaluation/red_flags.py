"""Red flags: reasons to doubt a robust accuracy (Carlini et al. 2019; Croce et al. 2022).

Some follow from the outcomes, others from a small sample of correctly classified images. A flag does not prove a
model weak: the attack may have failed for another reason than robustness. docs/trust.md has what to do about each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import APGD, FGSM, PGD, Attack, AttackResult, Square, TargetedAPGD, Victim
from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.engine import Engine
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED, unattacked
from robust_transfer.modes import call
from robust_transfer.progress import stage
from robust_transfer.statistics.intervals import no_better, wilson
from robust_transfer.threat import Threat

FLAGGED_SHARE = 0.05  # of the sample: fewer examples than that raise no flag, nor do fewer than MIN_FLAGGED
MIN_FLAGGED = 3
IMAGES_A_CLASS = 10  # with so many a network that has learnt something predicts at least half of the classes
MORE_EFFORT, MOST_STEPS = 10, 400
UNCONVERGED = 0.1  # of the sample: so many more must ten times the effort break
CONVERGED, LEVEL = (
    0.05,
    0.05,
)  # it may break that share where an attack has converged; a flag is so rare by chance there
MIN_SAMPLE = 30  # images of which MIN_FLAGGED are a tenth; fewer say little
DRAWS, CHECK_STEPS, QUERIES = 10, 20, 200  # random points; steps and queries of the checks' own attacks
RAISED = "red flags"
BY_GRADIENTS = (FGSM, PGD, APGD, TargetedAPGD)  # attacks that climb the model's own gradient and nothing else
PLAIN = Engine(folded=False, tight=True)  # the model itself computes the steps
HALF_GREY = Threat(norm="linf", eps=0.5)  # every image can be made grey: nothing can withstand that


@dataclass(frozen=True)
class Sample:
    """Correctly classified images, and the model as attacks see it."""

    target: Victim
    x: Tensor
    labels: Tensor
    ids: Tensor
    logits: Tensor
    adversary: Adversary
    broken: Tensor
    by_gradients: Tensor

    @property
    def threat(self) -> Threat:
        """Threat of the evaluation."""
        return self.adversary.threat

    @property
    def enough(self) -> int:
        """Smallest count of examples that raises a flag."""
        return max(MIN_FLAGGED, round(FLAGGED_SHARE * len(self.x)))

    def of(self, mask: Tensor) -> Sample:
        """Sample of a subset of the images."""
        some = {name: getattr(self, name)[mask] for name in ("x", "labels", "ids", "logits", "broken", "by_gradients")}
        return replace(self, **some)

    def attacked(self, attack: Attack, threat: Threat | None = None) -> Tensor:
        """Mask ``(n,)`` of the examples that an attack breaks, with the model's own gradients in float32."""
        some = (self.target.model, self.x, self.labels, self.ids, threat or self.threat)
        return self._count(attack(*some, seed=self.adversary.seed, engine=PLAIN))

    def attacked_again(self, attack: Attack) -> Tensor:
        """Mask ``(n,)`` of the examples that one of the adversary's attacks breaks, computed by the adversary's engine."""
        return self._count(self.adversary.run(attack, self.target.model, self.x, self.labels, self.ids))

    def _count(self, result: AttackResult) -> Tensor:
        self.target.passes += result.passes
        return result.broken


Check = Callable[[Sample], str | None]


@dataclass(frozen=True)
class Found:
    """Raised ``flags`` and what is ``untested`` (both in sentences), and the image ``passes`` used."""

    flags: list[str]
    untested: list[str]
    passes: int


def red_flags(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    ids: Tensor,
    adversary: Adversary,
    *,
    broken: Tensor | None = None,
    by_gradients: Tensor | None = None,
    hidden: bool = True,
) -> Found:
    """Look for red flags on a sample of images, as for :meth:`Attack.__call__`; :data:`MIN_SAMPLE` images are enough.

    The verdict in question is that of the adversary's attacks. ``broken`` ``(B,)``: examples that they have broken
    (None: the first attack is run to find out), ``by_gradients`` ``(B,)``: those broken by a gradient attack (None:
    none).
    """
    adversary = adversary.tight()  # examples are counted: last bits do not matter
    with (
        attacking(model, x.device, PLAIN, size=x.shape[-1]) as target,
        stage(RAISED, passes_each(adversary) * len(x), hidden) as bar,
    ):
        logits = target.logits(x)
        right = predicted(logits) == labels
        x, labels, ids = x[right], labels[right], ids[right]
        if not len(x):
            return Found([], [f"{RAISED}: no image is right when clean"], target.passes)
        none = torch.zeros_like(right)
        fates = [(which if which is not None else none)[right] for which in (broken, by_gradients)]
        logits = logits if bool(right.all()) else target.logits(x)
        sample = Sample(target, x, labels, ids, logits, adversary, *fates)
        if broken is None and adversary.attacks:
            sample = replace(sample, broken=sample.attacked_again(adversary.attacks[0]))
        flags = []
        for check in CHECKS:
            expected = _passes(check, adversary) * len(x)
            bar.begin(expected, f"{RAISED}: {check.__name__.replace('_', ' ')}")
            flag = check(sample)
            bar.advance(expected)
            flags += [flag] if flag is not None else []
            if flag is not None and check is random_outputs:
                return Found(flags, [f"{RAISED}: all others, of a model that is random"], target.passes)
        return Found(flags, untested(adversary), target.passes)


def untested(adversary: Adversary) -> list[str]:
    """Sentences on checks that cannot run in full for these attacks."""
    attack = _climber(adversary.attacks)
    if attack is None:
        return [f"{RAISED}: more effort, since no attack climbs a gradient by a number of steps that could be raised"]
    if (times := _times(attack)) < MORE_EFFORT:
        return [f"{RAISED}: ten times the steps of {attack} (only {times:.3g} times, {MOST_STEPS} at most)"]
    return []


def passes_each(adversary: Adversary) -> float:
    """Approximate image passes per image of :func:`red_flags`."""
    return 1.0 + sum(_passes(check, adversary) for check in CHECKS)


def _passes(check: Check, adversary: Adversary) -> float:
    if check is black_box_wins:
        return effort([APGD(steps=CHECK_STEPS)]) + effort([Square(queries=QUERIES)])
    if check is withstands_everything:
        return effort([APGD(steps=CHECK_STEPS)])
    if check is more_effort_finds_more:
        attack = _climber(adversary.attacks)
        return effort(list(_harder(attack))) if attack is not None else 0.0
    if check is loss_does_not_rise:
        return 3.0 * DRAWS + 1
    return 2.0 if check is no_gradient else 1.0


# ---------------------------------------------------------------- what the model returns


def random_outputs(sample: Sample) -> str | None:
    """Two queries of the same images give different logits."""
    first, second = sample.logits, sample.target.logits(sample.x)
    if torch.equal(first, second) or bool((first - second).abs().max() <= 1e-4 * first.abs().max()):
        return None
    return "the model is random: one answer decides nothing, average over many (EOT)"


def depends_on_the_batch(sample: Sample) -> str | None:
    """Logits of an image alone differ from those among others."""
    few = sample.x[:16]
    sample.target.passes += 2 * len(few)
    with torch.no_grad():
        model = sample.target.model
        together, alone = call(model, few), torch.cat([call(model, one[None]) for one in few])
    if bool((together - alone).abs().max() <= 1e-3 * together.abs().max().clamp_min(1e-12)):
        return None
    return "an image's logits depend on the batch it is in: statistics of the batch are used at test time"


def probabilities(sample: Sample) -> str | None:
    """Rows that are not negative and sum to one: probabilities in place of logits."""
    logits = sample.logits
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        return "the model returns probabilities, not logits: their gradients vanish, return what softmax is given"
    return None


def saturated(sample: Sample) -> str | None:
    """Softmax saturates to 1 in float32: the gradient of cross-entropy is exactly 0."""
    sure = int((losses.cross_entropy(sample.logits, sample.labels) == 0).sum())
    if sure < max(sample.enough, len(sample.x) // 2):
        return None
    return (
        f"the logits are so far apart that softmax is exactly 1 on {sure} of {len(sample.x)} images: attacks that climb "
        "plain cross-entropy see no gradient (those here do)"
    )


def precision_changes_predictions(sample: Sample) -> str | None:
    """Predictions differ between float32 and the precision of the attack's steps."""
    sample.target.passes += len(sample.x)
    with torch.no_grad():
        changed = int(
            (call(sample.adversary.engine.of(sample.target.model), sample.x).argmax(1) != sample.labels).sum()
        )
    if changed < sample.enough:
        return None
    what = f"{changed} of {len(sample.x)} predictions change"
    if sample.adversary.engine.dtype is torch.float32:
        return f"{what} in the fast copy of the network: attack the plain module"
    return f"{what} in {sample.adversary.engine.precision}: attack with --precision float32"


# ---------------------------------------------------------------- what the gradient says


def no_gradient(sample: Sample) -> str | None:
    """Margin's gradient is zero, or so small that float32 loses it."""
    _, gradient = sample.target.gradient(sample.x, sample.labels, losses.margin)
    logits = sample.logits
    size = gradient.flatten(1).abs().amax(1) / (logits.amax(1) - logits.amin(1)).clamp_min(1e-30)
    flat = int((size < 1e-7).sum())
    if flat < sample.enough:
        return None
    return f"the gradient is zero or vanishing on {flat} of {len(size)} images: gradient attacks cannot see"


def loss_does_not_rise(sample: Sample) -> str | None:
    """Ten gradient steps reach no higher loss than the best of ten random points."""
    x, labels, loss = sample.x, sample.labels, losses.margin
    random = torch.stack([loss(sample.target.logits(_random(sample, draw)), labels) for draw in range(DRAWS)]).amax(0)
    at, reached = x, torch.full_like(random, -torch.inf)
    for _ in range(DRAWS):
        logits, gradient = sample.target.gradient(at, labels, losses.get_loss("ce"))
        reached = torch.maximum(reached, loss(logits, labels))
        at = sample.threat.project(at + sample.threat.eps / 4 * sample.threat.steepest(gradient), x)
    reached = torch.maximum(reached, loss(sample.target.logits(at), labels))
    lower = int((reached <= random).sum())
    if lower < max(sample.enough, len(x) // 4):
        return None
    return (
        f"on {lower} of {len(x)} images ten gradient steps do no better than ten random guesses: the gradient misleads"
    )


def _random(sample: Sample, draw: int) -> Tensor:
    return sample.threat.random_start(sample.x, sample.ids, seed=sample.adversary.seed, purpose="checks", restart=draw)


# ---------------------------------------------------------------- what attacks find


def black_box_wins(sample: Sample) -> str | None:
    """Random search breaks examples that gradient attacks could not."""
    left = sample.of(~sample.by_gradients)  # broken examples stay broken: no need to repeat the evaluation's attacks
    for attack in (APGD(steps=CHECK_STEPS), Square(queries=QUERIES)):
        if len(left.x) < sample.enough:
            return None
        found = left.attacked(attack)
        left = left.of(~found)
    if int(found.sum()) < sample.enough:
        return None
    what = f"{int(found.sum())} of {len(sample.x)} images"
    return f"an attack without gradients breaks {what} that one with gradients does not"


def withstands_everything(sample: Sample) -> str | None:
    """Examples survive at half the pixel range, where every image can be made grey."""
    standing = int((~sample.attacked(APGD(steps=CHECK_STEPS), HALF_GREY)).sum())
    if standing < sample.enough:
        return None
    return f"at {HALF_GREY} {standing} of {len(sample.x)} images still stand, where nothing can: the attack fails"


def more_effort_finds_more(sample: Sample) -> str | None:
    """Ten times the steps, or ten times the starts, break many of the survivors."""
    if (attack := _climber(sample.adversary.attacks)) is None:
        return None
    left, found = sample.of(~sample.broken), 0
    least = max(sample.enough, round(UNCONVERGED * len(sample.x)), _rare(len(sample.x)))
    for harder in _harder(attack):
        if found + len(left.x) < least or found >= least:
            break  # it is decided
        broken = left.attacked_again(harder)
        left, found = left.of(~broken), found + int(broken.sum())
    if found < least:
        return None
    times = "ten" if (more := _times(attack)) >= MORE_EFFORT else f"{more:.3g}"
    what = f"{times} times the effort breaks {found} of {len(sample.x)} images more"
    return f"{what}: the attack has not converged, try harder"


def _rare(n: int) -> int:
    """Smallest count of ``n`` examples that :data:`CONVERGED` reaches with a probability of at most :data:`LEVEL`."""
    from scipy.special import bdtrc  # 1 - binomial distribution function

    return next(count for count in range(1, n + 2) if bdtrc(count - 1, n, CONVERGED) <= LEVEL)


def _climber(attacks: Sequence[Attack]) -> Attack | None:
    """First gradient attack; FGSM counts as PGD of one step."""
    for attack in attacks:
        if isinstance(attack, FGSM):
            return PGD(steps=1, loss=attack.loss)
        if isinstance(attack, (PGD, APGD)):
            return attack
    return None


def _times(attack: Attack) -> float:
    """Factor by which the effort is raised."""
    return min(MORE_EFFORT, max(1.0, MOST_STEPS / attack.most_steps))


def _harder(attack: Attack) -> Iterator[Attack]:
    """Attack with ten times the steps; or ten times the starts, of a tenth of the steps each."""
    assert isinstance(attack, (PGD, APGD))
    total = min(MORE_EFFORT * attack.steps * attack.restarts, MOST_STEPS)
    yield replace(attack, steps=max(total // attack.restarts, attack.steps))
    yield replace(attack, restarts=max(2, total // attack.steps))


# ---------------------------------------------------------------- what the outcomes show


def outcome_flags(table: pd.DataFrame, attacks: Sequence[Attack]) -> list[str]:
    """Red flags in the outcomes of ``attacks`` as a whole."""
    n, flags = len(table), []
    if numberless := int((table["clean_prediction"] < 0).sum()):
        flags.append(
            f"the logits of {numberless} of {n} clean images are no numbers (NaN or infinite): they count as misclassified"
        )
    if blind := int(unattacked(table).sum()):
        flags.append(
            f"the gradient is not a number on {blind} of {n} images: no attack could climb it, and they count as broken"
        )
    predicted_, there = table["clean_prediction"].nunique(), table["label"].nunique()
    right = wilson(int((table["clean_prediction"] == table["label"]).sum()), n)
    if there == 1:
        flags.append(f"all {n} images are of one class: a network that always says it is right on all of them")
    elif no_better(right, constant := int(table["label"].value_counts().iloc[0]) / n):
        flags.append(
            f"clean accuracy {right} is no better than always saying the most frequent class ({100 * constant:.1f} %)"
        )
    if predicted_ == 1 and there > 1:
        flags.append("all predictions are one class")
    elif n >= IMAGES_A_CLASS * there and 2 * predicted_ < there:
        flags.append(f"only {predicted_} of {there} classes are ever predicted")
    standing = int((table["broken_by"] == SURVIVED).sum())
    if standing <= int(table["label"].value_counts().iloc[0]):
        flags.append("constant classifier is more robust")
    names = list(table["broken_by"].unique())
    black = [str(attack) for attack in attacks if attack.gradient_free and str(attack) in names]
    if len(black) < len([name for name in names if name not in (SURVIVED, CLEAN)]):  # gradients have been used, too
        found = int(table["broken_by"].isin(black).sum())
        if found >= max(MIN_FLAGGED, FLAGGED_SHARE * (standing + found)):
            flags.append(f"random search broke {found} of the {standing + found} images that gradients had left")
    return flags


CHECKS: tuple[Check, ...] = (
    random_outputs,
    depends_on_the_batch,
    probabilities,
    saturated,
    precision_changes_predictions,
    no_gradient,
    loss_does_not_rise,
    black_box_wins,
    withstands_everything,
    more_effort_finds_more,
)
