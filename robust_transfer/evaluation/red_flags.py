"""Red flags: reasons to doubt a robust accuracy (Carlini et al. 2019; Croce et al. 2022).

Some follow from the outcomes, others from a small sample of correctly classified images. A flag does not prove a
model weak: the attack may have failed for another reason than robustness. docs/trust.md has what to do about each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import APGD, FGSM, PGD, Attack, SourceFeatures, Square, TargetedAPGD, ThroughStandIn
from robust_transfer.attacks.stand_in import StandIn
from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.flag_sample import FLAGGED_SHARE, MIN_FLAGGED, PLAIN, Check, Sample
from robust_transfer.evaluation.gradient_flags import (
    DRAWS,
    answers_change_with_gradients,
    flat_at,
    loss_does_not_rise,
    no_gradient,
    no_slope,
    random_gradient,
    random_point,
)
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.random_models import ANSWERS, differ
from robust_transfer.modes import call
from robust_transfer.progress import stage
from robust_transfer.threat import Threat

IMAGES_A_CLASS = 10  # with so many a network that has learnt something predicts at least half of the classes
MORE_EFFORT, MOST_STEPS = 10, 400
UNCONVERGED = 0.1  # of the sample: so many more must ten times the effort break
CONVERGED, LEVEL = (
    0.05,
    0.05,
)  # it may break that share where an attack has converged; a flag is so rare by chance there
MIN_SAMPLE = 30  # images of which MIN_FLAGGED are a tenth; fewer say little
CHECK_STEPS, QUERIES = 20, 200  # of the checks' own attacks
STAND_IN_STEPS = 10
CLOSE = 1e-3  # a range of logits that no network trained by cross-entropy has
RAISED = "red flags"
BY_GRADIENTS = (FGSM, PGD, APGD, TargetedAPGD)  # attacks that climb the model's own gradient and nothing else
HALF_GREY = Threat(norm="linf", eps=0.5)  # every image can be made grey: nothing can withstand that


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
    if check is stand_in_wins:
        return 2.0  # of a model without such operations, as nearly all are
    if check is loss_does_not_rise:
        return 3.0 * DRAWS + 1
    return 4.0 if check in (no_gradient, no_slope, random_gradient) else 1.0


# ---------------------------------------------------------------- what the model returns


def random_outputs(sample: Sample) -> str | None:
    """Two queries of the same images give different logits. Said with it: what single answers under attack are worth."""
    first, second = sample.logits, sample.target.logits(sample.x)
    if not differ(first, second):
        return None
    attack = _climber(sample.adversary.attacks) or APGD(steps=CHECK_STEPS)
    through = ThroughStandIn(steps=STAND_IN_STEPS)  # what is random may round or vote as well
    crafted, other = (sample.crafted(some, answers=ANSWERS) for some in (attack, through))
    lower = _right(sample, other).mean(0) < _right(sample, crafted).mean(0)
    answers = _right(
        sample, torch.where(lower.view(-1, 1, 1, 1), other, crafted)
    )  # anew: not those that it was chosen by
    mean, worst = 100 * float(answers.mean()), 100 * float(answers.amin(0).mean())
    return (
        f"the model is random: one answer decides nothing. On {len(sample.x)} images under {attack} and {through} on mean "
        f"gradients (EOT) {mean:.1f} % of single answers are right, and {worst:.1f} % of the images in each of {ANSWERS} draws"
    )


def _right(sample: Sample, images: Tensor) -> Tensor:
    """Mask of right answers, several to each image, ``(draws, n)``."""
    return torch.stack([predicted(sample.target.logits(images)) == sample.labels for _ in range(ANSWERS)]).float()


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


def close_together(sample: Sample) -> str | None:
    """Logits so alike that softmax hardly tells the classes apart: plain cross-entropy is flat."""
    near = int((sample.logits.amax(1) - sample.logits.amin(1) < CLOSE).sum())
    if near < max(sample.enough, len(sample.x) // 2):
        return None
    return (
        f"the logits are so close together that softmax is all but even on {near} of {len(sample.x)} images: the gradient of "
        "plain cross-entropy is next to nothing (attacks here scale it)"
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


def stand_in_wins(sample: Sample) -> str | None:
    """Examples break through smooth stand-ins of rounding, thresholds and detached layers that gradients left."""
    sample.target.passes += 2
    if not StandIn(sample.target.model).replaces(sample.x[:1]):
        return None
    left = sample.of(~sample.by_gradients)
    left = left.of(~left.attacked(APGD(steps=CHECK_STEPS)))
    if (found := int(left.attacked(ThroughStandIn(steps=STAND_IN_STEPS)).sum())) < sample.enough:
        return None
    return f"through smooth stand-ins of what hides the gradient {found} of {len(sample.x)} images more are broken"


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
    if not len(left.x) or bool(flat_at(left, random_point(left, DRAWS)).all()):
        return None  # more steps along nothing find nothing: another flag says so
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
    predicted_, there = table["clean_prediction"].nunique(), table["label"].nunique()
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
    return [*flags, *_by_other_gradients(table, attacks, standing), *_rejected(table)]


def _by_other_gradients(table: pd.DataFrame, attacks: Sequence[Attack], standing: int) -> list[str]:
    """Flag where attacks that do not climb the model's own gradient broke what the earlier ones had left."""
    ways = {"through the source": SourceFeatures, "through stand-ins": ThroughStandIn}
    flags = []
    for way, kind in ways.items():
        names = [str(attack) for attack in attacks if isinstance(attack, kind)]
        found = int(table["broken_by"].isin(names).sum())
        if len(names) < len(attacks) and found >= max(MIN_FLAGGED, FLAGGED_SHARE * (standing + found)):
            flags.append(
                f"the attack {way} broke {found} of the {standing + found} images that the model's own gradient had left"
            )
    return flags


def _rejected(table: pd.DataFrame) -> list[str]:
    """Flag where attacks end in a class that no image has, and that clean images are hardly ever given: a detector's."""
    there, clean = set(table["label"]), table["clean_prediction"].to_numpy(int)
    broken = table[~table["broken_by"].isin([CLEAN, SURVIVED])]["adversarial_prediction"].to_numpy(int)
    if len(broken) < MIN_FLAGGED or len(table) < MIN_SAMPLE:
        return []
    commonest = int(np.bincount(broken.clip(0)).argmax())
    count, given = int((broken == commonest).sum()), int((clean == commonest).sum())
    if commonest in there or count < len(broken) / 2 or given > len(clean) / 10:
        return []
    return [
        f"{count} of {len(broken)} broken images are given class {commonest}, which no image has: if it is a rejection, they "
        "count as broken, and what an attack finds that avoids it is not known"
    ]


CHECKS: tuple[Check, ...] = (
    random_outputs,
    depends_on_the_batch,
    probabilities,
    saturated,
    close_together,
    precision_changes_predictions,
    answers_change_with_gradients,
    random_gradient,
    no_gradient,
    no_slope,
    loss_does_not_rise,
    stand_in_wins,
    black_box_wins,
    withstands_everything,
    more_effort_finds_more,
)
