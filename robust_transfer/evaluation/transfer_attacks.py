"""Transfer-specific attacks: through the source, on the features, through both networks of a mixture, at an unseen norm.

An attacker who has the public source can attack through it; training that preserves features can be attacked through
these features; a mixture can be attacked through each of its networks; and inherited robustness for one norm says little
about another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from robust_transfer.attacks import APGD, Attack, FeatureLoss, SourceFeatures, ThroughParts
from robust_transfer.attacks.source_features import feature_drift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.effort import effort
from robust_transfer.mixture import mixed_head
from robust_transfer.modes import on_device
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat

BATCH = 200
DRIFT_STEPS = 20
DRIFT_PASSES = 2 * DRIFT_STEPS + 2  # image passes an image and network
LABELS = {
    "unseen": "unseen norm",
    "source_features": "through the source",
    "feature_loss": "feature loss",
    "through_parts": "through both networks",
}


@dataclass(frozen=True)
class Transferred:
    """Robust accuracies over the same ``n`` images, each against one attack alone.

    ``source_features``: an attacker who has the source, and asks the model for scores only. ``feature_loss``: one who
    has both and attacks the features, too (None where model and source have features of other sizes).
    ``through_parts``: one who attacks a mixture through each of its networks (None where the model is no mixture).
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
    through_parts: Proportion | None = None

    def lines(self) -> list[str]:
        """Lines of text, in the form of an evaluation's."""
        lines = []
        if self.source_features is not None:
            lines.append(f"through source   {self.source_features}  (its features attacked, no gradient of the model)")
        if self.feature_loss is not None:
            lines.append(f"feature loss     {self.feature_loss}  (adaptive)")
        if self.through_parts is not None:
            lines.append(f"through parts    {self.through_parts}  (adaptive: each network of the mixture attacked)")
        its = f"; the source's own {self.source_feature_drift:.2f}" if self.source_feature_drift is not None else ""
        return [
            *lines,
            f"unseen threat    {self.unseen}  ({self.unseen_threat}; these on {self.n} images)",
            f"feature drift    {self.feature_drift:.2f} of the features' length{its}",
        ]


def examine(
    model: Checkpoint, source: Checkpoint | None, split: Split, adversary: Adversary, run: Run, *, n: int
) -> Transferred:
    """Run the transfer-specific attacks on a stratified sample of ``n`` images of ``split``."""
    started, device, adversary = time.perf_counter(), run.torch_device(), adversary.tight()
    sample = split.sample(n, seed=adversary.seed, purpose="transferred").prepared(model.preprocessing)
    trained = source.card.threat if source is not None else model.card.threat
    other = unseen_threat(trained or adversary.threat, model.input_size)
    attacks, networks = _attacks(model, source), _networks(model, source)
    standing, drifts, passes = dict.fromkeys(attacks, 0), list[torch.Tensor](), 0
    total = passes_each(model, source) * len(sample)
    with (
        on_device(networks[0], device),
        on_device(networks[-1], device),
        stage("transfer attacks", total, run.quiet) as bar,
    ):
        for rows in torch.split(torch.arange(len(sample)), BATCH):
            x, y, i = sample.subset(rows).on(device)
            for name, attack in attacks.items():
                against = replace(adversary, threat=other) if name == "unseen" else adversary
                expected = effort([attack]) * len(x)
                bar.begin(expected, f"transfer attacks: {LABELS[name]}")
                result = against.run(attack, model.classifier, x, y, i)
                standing[name] += int((~result.broken).sum())
                passes += result.passes
                bar.advance(expected)
            expected = len(networks) * len(x) * DRIFT_PASSES
            bar.begin(expected, "transfer attacks: feature drift")
            each = [feature_drift(m, x, i, adversary.threat, steps=DRIFT_STEPS, seed=adversary.seed) for m in networks]
            drifts.append(torch.stack(each, 1).cpu())
            passes += expected
            bar.advance(expected)
    found = {name: wilson(count, len(sample)) for name, count in standing.items()}
    mean = torch.cat(drifts).mean(0).tolist()
    return Transferred(
        n=len(sample),
        source_features=found.get("source_features"),
        feature_loss=found.get("feature_loss"),
        unseen=found["unseen"],
        unseen_threat=str(other),
        feature_drift=mean[0],
        source_feature_drift=mean[-1] if source is not None else None,
        passes=passes,
        seconds=round(time.perf_counter() - started, 3),
        through_parts=found.get("through_parts"),
    )


def passes_each(model: Checkpoint, source: Checkpoint | None) -> float:
    """Approximate image passes per image of :func:`examine`."""
    return effort(list(_attacks(model, source).values())) + DRIFT_PASSES * len(_networks(model, source))


def passes_at_most() -> float:
    """Approximate image passes per image of :func:`examine`, for a model whose features differ from its source's."""
    return effort([APGD(steps=20), SourceFeatures(), FeatureLoss()]) + 2.0 * DRIFT_PASSES


def _attacks(model: Checkpoint, source: Checkpoint | None) -> dict[str, Attack]:
    """Attacks to run, by the name of their figure."""
    attacks: dict[str, Attack] = {"unseen": APGD(steps=20)}
    if source is not None:
        attacks["source_features"] = SourceFeatures()
        if model.classifier.num_features == source.classifier.num_features:
            attacks["feature_loss"] = FeatureLoss()
    if mixed_head(model.classifier) is not None:
        attacks["through_parts"] = ThroughParts()
    return attacks


def _networks(model: Checkpoint, source: Checkpoint | None) -> list[Classifier]:
    """Networks for the feature drift: the model and its source, or one of them if training left the features unchanged."""
    mine = model.classifier
    if source is None or _same_features(mine, source.classifier):
        return [mine]
    return [mine, source.classifier]


def _same_features(one: Classifier, other: Classifier) -> bool:
    parts = [{k: v.cpu() for k, v in m.state_dict().items() if not k.startswith("head.")} for m in (one, other)]
    same = one.spec.name == other.spec.name and one.spec.preprocessing == other.spec.preprocessing
    return same and parts[0].keys() == parts[1].keys() and all(torch.equal(v, parts[1][k]) for k, v in parts[0].items())


def unseen_threat(threat: Threat, size: int) -> Threat:
    """Usual ball of the other norm: linf 8/255 and l2 0.5 at 32 pixels, in proportion."""
    ratio = 0.5 / (8 / 255) * size / 32
    if threat.norm == "linf":
        return Threat(norm="l2", eps=float(f"{threat.eps * ratio:.3g}"))
    return Threat(norm="linf", eps=min(1.0, float(f"{threat.eps / ratio:.3g}")))
