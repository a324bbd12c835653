"""Certificates within an evaluation: of its images, beside what its attacks have found, and recorded with it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from robust_transfer.certification import Certificate, Certified, CertifiedShare, Certifier, Smoothing
from robust_transfer.certification.record import CLASSES, RADII, SHOWN
from robust_transfer.certification.smoothing import largest_radius
from robust_transfer.config import as_dict, digest
from robust_transfer.data.subsets import stratified
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.resolve import Subject
from robust_transfer.evaluation.result import Evaluation
from robust_transfer.evaluation.resume import certificate_state
from robust_transfer.modes import on_device
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat


def missing(found: Evaluation, asked: Sequence[Certifier]) -> list[Certifier]:
    """Certifiers that are asked for and whose certificate is not there."""
    there = {certificate.name for certificate in found.certificates}
    return [certifier for certifier in asked if str(certifier) not in there]


def certify(found: Evaluation, certifier: Certifier, subject: Subject, adversary: Adversary, run: Run) -> Evaluation:
    """``found`` with one certificate more: its record, and a class and a radius for each image that it looks at."""
    split, begun = subject.split, time.perf_counter()
    n = min(certifier.examples or len(split), len(split))
    rows = torch.arange(len(split))
    if n < len(split):
        rows = stratified(split.labels, len(split.class_names), n, seed=adversary.seed, purpose="certificate")
    some, name = split.subset(rows), str(certifier)
    identity = {"certificate": name, "model": found.model_hash, "data": some.hash, "seed": adversary.seed}
    state = certificate_state(run.out, digest(identity)) if run.out is not None else None
    with on_device(subject.module, run.torch_device()):
        result = certifier.certify(
            subject.module, some, adversary.threat, replace(run, seed=adversary.seed), state=state, identity=identity
        )
    seconds = round(time.perf_counter() - begun, 3)
    record = _record(certifier, result, some.labels.numpy(), adversary, _pixels(subject), seconds)
    table = found.outcomes.copy()
    classes, radii = np.full(len(split), -1), np.full(len(split), np.nan)
    classes[rows.numpy()], radii[rows.numpy()] = result.classes, result.radii
    table[CLASSES + name], table[RADII + name] = classes, radii
    flags = _contradiction(record, found, radii, adversary.threat)
    return replace(
        found,
        outcomes=table,
        certificates=[*found.certificates, record],
        flags=[*found.flags, *(flag for flag in flags if flag not in found.flags)],
        passes=found.passes + result.passes,
    )


def radius_against(threat: Threat, norm: str, pixels: int) -> float:
    """Radius in ``norm`` that covers ``threat``: a linf ball lies in the l2 ball around its corners, and in no smaller one."""
    return threat.eps * math.sqrt(pixels) if threat.norm != norm else threat.eps


def certified_share(radii: Any, right: Any, radius: float) -> Proportion:
    """Share of the images whose answer is right and certified within ``radius``."""
    return wilson(int((right & (radii >= radius * (1 - 1e-12))).sum()), len(radii))


def _record(
    certifier: Certifier, result: Certified, labels: Any, adversary: Adversary, pixels: int, seconds: float
) -> Certificate:
    threat, n = adversary.threat, len(labels)
    norm, right = certifier.norm(threat), result.classes == labels
    own = radius_against(threat, norm, pixels)
    shown = SHOWN if norm == "l2" else tuple(share * threat.eps for share in SHOWN)
    smoothing = certifier if isinstance(certifier, Smoothing) else None
    figures = dict(result.figures)
    if smoothing is not None:
        figures["largest_radius"] = largest_radius(smoothing.sigma, smoothing.n, smoothing.alpha)
    positive = right & (result.radii > 0)
    figures["median_radius"] = float(np.median(result.radii[positive])) if positive.any() else 0.0
    made = Certificate(
        name=str(certifier),
        settings=as_dict(certifier),
        threat=str(threat),
        norm=norm,
        pixels=pixels,
        n=n,
        seed=adversary.seed,
        clean_accuracy=wilson(int(right.sum()), n),
        abstained=wilson(int((result.classes < 0).sum()), n),
        own=CertifiedShare(own, certified_share(result.radii, right, own)),
        curve=[CertifiedShare(radius, certified_share(result.radii, right, radius)) for radius in shown],
        alpha=smoothing.alpha if smoothing is not None else 0.0,
        passes=result.passes,
        seconds=seconds,
        figures=figures,
    )
    return replace(made, vacuous=_vacuous(made))


def _vacuous(made: Certificate) -> str:
    """Sentence for a proof that proves nothing, with the numbers that show by how far."""
    bound, allowed = made.figures.get("median_shift_bound"), made.figures.get("median_shift_allowed")
    if bound is None or allowed is None or made.own.certified_accuracy.value > 0 or not made.clean_accuracy.value:
        return ""
    return (
        f"no image is certified within {made.threat}. Features are proved to move by no more than {bound:.3g} (median), and "
        f"the head gives way from {allowed:.3g} on (median): the bound is {bound / max(allowed, 1e-300):.3g} times too large. "
        "This says nothing against the network"
    )


def _pixels(subject: Subject) -> int:
    return int(subject.split.subset(torch.arange(1)).images()[0].numel())


def _contradiction(made: Certificate, found: Evaluation, radii: Any, threat: Threat) -> list[str]:
    """Flag where a proof says of an image that it stands, and an attack has broken it."""
    if made.smooths:  # another classifier than was attacked
        return []
    fate = found.outcomes["broken_by"].to_numpy(str)
    both = (fate != CLEAN) & (fate != SURVIVED) & (radii >= threat.eps)
    if not both.any():
        return []
    return [
        f"{int(both.sum())} images are certified by {made.name} and were broken by an attack: one of the two is wrong"
    ]
