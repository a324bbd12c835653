"""Transfer-specific attacks in every evaluation of a transferred model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers import QUIET, folder_of, make_classifier, make_digits, make_source

from robust_transfer.attacks.source_features import feature_drift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import evaluate, load_evaluation
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.knowledge import KNOWN_IMAGES, knowledge_of, public_source
from robust_transfer.evaluation.transfer_attacks import examine, unseen_threat
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.sources import PACKAGED, load_source
from robust_transfer.strategies import LinearProbe, interpolate, transfer
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:4/255")


@pytest.fixture(scope="module")
def digits() -> Task:
    return make_digits(train=128, val=40, test=60)


@pytest.fixture(scope="module")
def probe(source: Checkpoint, digits: Task) -> Checkpoint:
    return transfer(source, digits, LinearProbe(l2=0.01), run=QUIET)


def test_an_evaluation_of_a_transferred_model_says_it_all(
    source: Checkpoint, probe: Checkpoint, digits: Task, tmp_path: Path
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    found = evaluate(
        probe,
        digits.test,
        threat=THREAT,
        attack="pgd-3",
        source=source,
        transfer_attack_examples=20,
        red_flag_examples=0,
        run=run,
    )
    beside = found.transferred
    assert beside is not None
    assert beside.unseen is not None
    assert beside.source_features is not None
    assert beside.n == beside.unseen.n == beside.source_features.n == 20
    assert beside.feature_drift == pytest.approx(beside.source_feature_drift)  # a probe's features are its source's
    assert beside.feature_drift > 0
    assert beside.unseen_threat == "l2:0.25" or Threat.parse(beside.unseen_threat).norm == "l2"
    assert [what for what in found.untested if "fingerprints" not in what] == []
    assert (
        load_evaluation(folder_of(run)).to_dict()
        == found.to_dict()
        == json.loads((folder_of(run) / "evaluation.json").read_text())
    )
    text = str(load_evaluation(folder_of(run)))
    for word in ("through source", "feature loss", "unseen threat", "feature drift"):
        assert word in text


@pytest.fixture(scope="module")
def masked(source: Checkpoint, probe: Checkpoint, digits: Task) -> tuple[Checkpoint, Task]:
    """A probe behind a map without a gradient, beside a network that always says the same; what it says are the labels."""
    constant = probe.classifier.copy().eval()
    torch.nn.init.zeros_(constant.get_parameter("head.weight"))
    mix = mixture(probe.classifier, constant, Mixing(share=0.6, scale=1e4, power=8.0, shift=-0.5))
    made = Checkpoint(mix, dataclasses.replace(probe.card, network=mix.spec))
    with torch.no_grad():
        said = mix(to_pixels(digits.test.images())).argmax(1)
    own = Split.in_memory(digits.test.images(), said, digits.class_names)
    return made, dataclasses.replace(digits, test=own)


def test_of_a_mixture_both_networks_are_attacked(
    source: Checkpoint, probe: Checkpoint, masked: tuple[Checkpoint, Task]
) -> None:
    model, task = masked
    adversary = Adversary([], Threat.parse("linf:20/255"), knowledge=knowledge_of(source, task.test, seed=0))
    found = examine(model, source, task.test, adversary, QUIET, n=20)
    assert found.through_parts is not None
    assert found.through_parts.n == 20
    assert found.through_parts.value < 0.3
    assert found.feature_loss is None  # the features of two networks
    assert any(line.startswith("through parts    ") for line in found.lines())
    plain = examine(probe, source, task.test, adversary, QUIET, n=2)
    assert plain.through_parts is None
    assert not any("through parts" in line for line in plain.lines())


def test_the_headline_of_a_mixture_says_whether_both_were_attacked(
    source: Checkpoint, masked: tuple[Checkpoint, Task], tmp_path: Path
) -> None:
    model, task = masked
    few = task.test.subset(torch.arange(20))
    quick, named = (
        evaluate(
            model, few, threat="linf:20/255", attack=attack, source=source, red_flag_examples=0,
            transfer_attack_examples=n, run=dataclasses.replace(QUIET, out=tmp_path / attack),
        )
        for attack, n in (("quick", 0), ("pgd-5", 4))
    )  # fmt: skip
    assert list(quick.by_attack)[-1] == "through-parts-20"
    assert quick.robust_accuracy.value < 0.3 < 0.7 < named.robust_accuracy.value
    assert not any("two networks" in what for what in quick.untested)
    assert any("attack with through-parts" in what for what in named.untested)
    assert load_evaluation(tmp_path / "pgd-5").to_dict() == named.to_dict()
    assert named.transferred is not None
    assert named.transferred.through_parts is not None
    stored = json.loads((tmp_path / "pgd-5" / "evaluation.json").read_text())
    del stored["transferred"]["through_parts"]  # as before there were mixtures
    (tmp_path / "pgd-5" / "evaluation.json").write_text(json.dumps(stored))
    old = load_evaluation(tmp_path / "pgd-5").transferred
    assert old is not None
    assert old.through_parts is None


def test_without_the_source_it_says_what_is_untested(probe: Checkpoint, digits: Task) -> None:
    few = digits.test.subset(torch.arange(5))
    found = evaluate(probe, few, threat=THREAT, attack="strong", red_flag_examples=0, run=QUIET)
    beside = found.transferred
    assert beside is not None
    assert (beside.source_features, beside.feature_loss, beside.source_feature_drift) == (None, None, None)
    assert beside.feature_drift > 0
    assert "unseen threat" in str(found)
    assert "through source" not in str(found)
    missing = [what for what in found.untested if "fingerprints" not in what]
    assert len(missing) == 2
    assert all("the source is not at hand (give --source)" in what for what in missing)
    assert "source-features" not in found.attack
    assert "untested" in str(found)


def test_a_source_itself_has_no_source_to_be_attacked_by(source: Checkpoint, digits: Task) -> None:
    few = digits.test.subset(torch.arange(5))
    found = evaluate(source, few, threat=THREAT, attack="apgd-2+strong", red_flag_examples=0, run=QUIET)
    assert found.transferred is None
    assert [what for what in found.untested if "fingerprints" not in what] == []


@pytest.mark.parametrize(("trained", "norm"), [("linf:8/255", "l2"), ("l2:0.5", "linf")])
@pytest.mark.parametrize("evaluated", ["linf:4/255", "l2:0.25"])
def test_the_unseen_threat_is_what_the_source_was_not_trained_for(
    source: Checkpoint, probe: Checkpoint, digits: Task, trained: str, norm: str, evaluated: str
) -> None:
    source = Checkpoint(source.classifier, dataclasses.replace(source.card, threat=Threat.parse(trained)))
    known = knowledge_of(source, digits.test, seed=0)
    adversary = Adversary([], Threat.parse(evaluated), knowledge=known)
    found = examine(probe, source, digits.test, adversary, QUIET, n=2)
    assert Threat.parse(found.unseen_threat).norm == norm


def test_with_the_source_a_suite_attacks_through_it(source: Checkpoint, probe: Checkpoint, digits: Task) -> None:
    few = digits.test.subset(torch.arange(5))
    found = evaluate(
        probe,
        few,
        threat=THREAT,
        attack="source-features-3",
        source=source,
        transfer_attack_examples=0,
        red_flag_examples=0,
        run=QUIET,
    )
    assert list(found.by_attack) == ["source-features-3"]
    assert found.source_hash == source.hash
    assert found.transferred is None


def test_a_source_of_another_size_is_refused(probe: Checkpoint, digits: Task) -> None:
    other = make_source()
    classifier = make_classifier(size=16)
    other = Checkpoint(classifier, dataclasses.replace(other.card, network=classifier.spec))
    with pytest.raises(ConfigError, match="images of 16 pixels and the model of 8"):
        evaluate(probe, digits.test, source=other, run=QUIET)


def test_a_head_that_is_robust_is_told_from_one_that_is_not(source: Checkpoint, digits: Task) -> None:
    """Heads on the same features: a larger weight on what moves most is what an attack through the source uses."""
    weak, strong = (transfer(source, digits, LinearProbe(l2=l2), run=QUIET) for l2 in (1e-6, 3.0))
    adversary = Adversary([], THREAT, knowledge=knowledge_of(source, digits.test, seed=0))
    found = [examine(model, source, digits.test, adversary, QUIET, n=30).source_features for model in (weak, strong)]
    a, b = (proportion.value for proportion in found if proportion is not None)
    assert a != b


@pytest.mark.parametrize("name", PACKAGED)
def test_a_source_of_the_package_is_found_through_any_number_of_steps(name: str) -> None:
    bundled = load_source(name)
    card = make_source().card
    first = Provenance(method="fast", data="x", weights=bundled.hash)
    for source, known in (
        (None, False),
        (Provenance(method="fast", data="x", weights="another"), False),
        (first, True),
        (Provenance(method="transfer:lwf", data="y", weights="z", source=first), True),
    ):
        found = public_source(Checkpoint(make_classifier(), dataclasses.replace(card, source=source)))
        assert (found is not None and found.hash == bundled.hash) == known


def test_what_is_interpolated_keeps_its_lineage(source: Checkpoint, probe: Checkpoint, digits: Task) -> None:
    mixed = interpolate(probe, transfer(source, digits, LinearProbe(l2=1.0), run=QUIET), 0.5)
    assert isinstance(mixed.card.source, Mixture)
    assert isinstance(mixed.card.source.a.source, Provenance)
    assert mixed.card.source.a.source.weights == source.hash
    assert set(mixed.card.source.hashes()) > {probe.hash, source.hash}


def test_the_attackers_images_do_not_depend_on_which_are_evaluated(source: Checkpoint, digits: Task) -> None:
    known = knowledge_of(source, digits.test, seed=0)
    assert len(known.images) == len(known.labels) == min(KNOWN_IMAGES, len(digits.test))
    assert torch.equal(known.images, to_pixels(digits.test.images()))


def test_the_drift_is_the_largest_that_is_met(source: Checkpoint, digits: Task) -> None:
    x, ids = to_pixels(digits.test.images())[:20], torch.arange(20)
    few, many = (feature_drift(source.classifier, x, ids, THREAT, steps=steps, seed=0) for steps in (1, 10))
    assert many.mean() > few.mean()
    assert torch.equal(feature_drift(source.classifier, x[3:9], ids[3:9], THREAT, steps=10, seed=0), many[3:9])
    none = feature_drift(source.classifier, x, ids, Threat(norm="linf", eps=0.0), steps=2, seed=0)
    assert none.max() < 1e-5


@pytest.mark.parametrize(
    ("threat", "size", "other"),
    [
        ("linf:8/255", 32, "l2:0.5"),
        ("l2:0.5", 32, "linf:0.0314"),
        ("linf:4/255", 224, "l2:1.75"),
        ("l2:100", 32, "linf:1"),
    ],
)
def test_unseen_threats(threat: str, size: int, other: str) -> None:
    assert str(unseen_threat(Threat.parse(threat), size)) == str(Threat.parse(other))
