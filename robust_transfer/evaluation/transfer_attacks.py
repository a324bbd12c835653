"""What threatens a transferred model in particular, measured beside every evaluation of one.

Whoever has the public source can attack through it; training that holds features can be attacked at what it holds; and
robustness that was inherited for one norm says little about another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from robust_transfer.attacks import APGD, Attack, FeatureLoss, Knowledge, SourceFeatures
from robust_transfer.attacks.source_features import feature_drift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, to_pixels
from robust_transfer.data.subsets import stratified
from robust_transfer.engine import Engine
from robust_transfer.modes import on_device
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat

BATCH = 200
DRIFT_STEPS = 20


@dataclass(frozen=True)
class Transferred:
    """Robust accuracies over the same ``n`` images, each against one attack alone.

    ``source_features``: an attacker who has the source, and asks the model for scores only. ``feature_loss``: one who
    has both and attacks the features, too (None where model and source have features of other sizes).
    ``unseen``: Auto-PGD at ``unseen_threat``, of a norm that the source was not trained for. ``feature_drift``: how far
    an attacker without labels moves the features, relative to their length, on average; of the model and of its source.
    What needs the source is None where it is not at hand.
    """

    n: int
    source_features: Proportion | None
    feature_loss: Proportion | None
    unseen: Proportion
    unseen_threat: str
    feature_drift: float
    source_feature_drift: float | None
    passes: int
    seconds: float

    def lines(self) -> list[str]:
        """For people, in the form of an evaluation's lines."""
        lines = []
        if self.source_features is not None:
            lines.append(f"through source   {self.source_features}  (its features attacked, no gradient of the model)")
        if self.feature_loss is not None:
            lines.append(f"feature loss     {self.feature_loss}  (adaptive)")
        its = f"; the source's own {self.source_feature_drift:.2f}" if self.source_feature_drift is not None else ""
        return [
            *lines,
            f"unseen threat    {self.unseen}  ({self.unseen_threat}; these on {self.n} images)",
            f"feature drift    {self.feature_drift:.2f} of the features' length{its}",
        ]


def examine(
    model: Checkpoint,
    source: Checkpoint | None,
    split: Split,
    threat: Threat,
    run: Run,
    *,
    engine: Engine,
    knowledge: Knowledge | None,
    n: int,
) -> Transferred:
    """Attack a stratified sample of ``n`` images of ``split`` in the ways that are named above."""
    started = time.perf_counter()
    device = run.torch_device()
    sample = split.subset(stratified(split.labels, len(split.class_names), n, seed=run.seed, purpose="transferred"))
    sample = sample.at_size(model.input_size)
    trained = source.card.threat if source is not None else model.card.threat
    other = unseen_threat(Threat.parse(trained) if trained else threat, model.input_size)
    attacks: dict[str, tuple[Attack, Threat]] = {"unseen": (APGD(steps=20), other)}
    networks = [model.classifier]
    if source is not None:
        networks.append(source.classifier)
        attacks["source_features"] = (SourceFeatures(), threat)
        if model.classifier.num_features == source.classifier.num_features:
            attacks["feature_loss"] = (FeatureLoss(), threat)
    standing, drifts, passes = dict.fromkeys(attacks, 0), list[torch.Tensor](), 0
    with on_device(networks[0], device), on_device(networks[-1], device):
        for images, labels, ids in sample.batches(BATCH):
            x, y, i = to_pixels(images, device), labels.to(device), ids.to(device)
            for name, (attack, against) in attacks.items():
                result = attack(networks[0], x, y, i, against, seed=run.seed, engine=engine, knowledge=knowledge)
                standing[name] += int((~result.broken).sum())
                passes += result.passes
            each = [feature_drift(m, x, i, threat, steps=DRIFT_STEPS, seed=run.seed) for m in networks]
            drifts.append(torch.stack(each, 1).cpu())
            passes += len(networks) * len(x) * (2 * DRIFT_STEPS + 2)
    found = {name: wilson(count, len(sample)) for name, count in standing.items()}
    mine, *its = torch.cat(drifts).mean(0).tolist()
    return Transferred(
        n=len(sample),
        source_features=found.get("source_features"),
        feature_loss=found.get("feature_loss"),
        unseen=found["unseen"],
        unseen_threat=str(other),
        feature_drift=mine,
        source_feature_drift=its[0] if its else None,
        passes=passes,
        seconds=round(time.perf_counter() - started, 3),
    )


def unseen_threat(threat: Threat, size: int) -> Threat:
    """The other norm's ball that the field sets beside this one: linf 8/255 and l2 0.5 at 32 pixels, in proportion."""
    ratio = 0.5 / (8 / 255) * size / 32
    if threat.norm == "linf":
        return Threat(norm="l2", eps=float(f"{threat.eps * ratio:.3g}"))
    return Threat(norm="linf", eps=min(1.0, float(f"{threat.eps / ratio:.3g}")))
