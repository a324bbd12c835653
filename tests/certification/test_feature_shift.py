"""The proof: exact on linear models, never beaten by an attack on small networks, and vacuous where it is."""

from __future__ import annotations

import pytest
import torch
from certification_helpers import bodies, classifier, hardest, inner_images, labelled, linear
from torch import nn

from robust_transfer.certification import FeatureShift
from robust_transfer.certification.base import Certified
from robust_transfer.certification.bounds import Bounds
from robust_transfer.certification.feature_shift import stands
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.threat import Threat

RUN = Run(quiet=True, device="cpu", precision="float32")


def certified(model: Classifier, split: Split, threat: str) -> Certified:
    return FeatureShift().certify(model, split, Threat.parse(threat), RUN, state=None, identity={})


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_model_it_is_the_distance_to_the_boundary(norm: str) -> None:
    body = bodies(0)["linear"]
    layer = linear(body)
    layer.weight.data *= 4  # so that distances stay away from the box
    split = labelled(body, inner_images(20), 4)
    x, _, _ = split.on("cpu")
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    logits = x.double().flatten(1) @ weight.T + bias
    own = logits.argmax(1)
    across = weight[own][:, None] - weight
    length = across.abs().sum(2) if norm == "linf" else across.norm(dim=2)
    exact = ((logits.gather(1, own[:, None]) - logits) / length).nan_to_num(torch.inf).amin(1)
    assert float(exact.max()) < (0.4 if norm == "linf" else 1.0)
    found = certified(classifier(body), split, f"{norm}:0.01")
    assert found.classes.tolist() == own.tolist()
    assert found.radii.tolist() == pytest.approx(exact.tolist(), abs=2e-5)
    assert bool((torch.from_numpy(found.radii) <= exact + 1e-9).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", list(bodies(0)))
def test_no_attack_within_the_radius_changes_the_answer(name: str, norm: str) -> None:
    for seed in range(4):
        body = bodies(seed)[name]
        split = labelled(body, inner_images(12, seed), 4)
        x, labels, _ = split.on("cpu")
        found = certified(classifier(body), split, f"{norm}:0.02")
        assert found.classes.tolist() == labels.tolist()
        assert found.radii.max() > 0
        plain = body.double()
        moved = hardest(plain, x.double(), labels, torch.from_numpy(found.radii), norm)
        with torch.no_grad():
            assert plain(moved).argmax(1).tolist() == labels.tolist()
        if name == "mlp":  # not by far below what an attack needs
            beyond = hardest(plain, x.double(), labels, 4 * torch.from_numpy(found.radii), norm)
            with torch.no_grad():
                assert float((plain(beyond).argmax(1) != labels).double().mean()) > 0.5


def test_the_verdict_at_the_evaluations_own_budget_is_not_rounded() -> None:
    """A radius that bisection would find a little below eps, where the proof holds at eps itself."""
    body = bodies(3)["mlp"]
    split = labelled(body, inner_images(10, 3), 4)
    x, _, _ = split.on("cpu")
    model = classifier(body)
    eps = float(certified(model, split, "linf:0.02").radii[0])
    sure = stands(Bounds(model), x, torch.full((len(x),), eps, dtype=torch.float64), "linf").numpy()
    assert sure[0]
    found = certified(model, split, f"linf:{eps!r}")
    assert ((found.radii >= eps) == sure).all()


def test_it_needs_a_head() -> None:
    split = labelled(bodies(0)["linear"], inner_images(2), 4)
    with pytest.raises(ConfigError, match=r"Classifier\.from_module"):
        FeatureShift().check(bodies(0)["linear"], split, RUN)
    odd = classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.GELU(), nn.Linear(8, 4)))
    with pytest.raises(ConfigError, match="GELU"):
        FeatureShift().check(odd, split, RUN)
    FeatureShift().check(classifier(bodies(0)["residual"]), split, RUN)
