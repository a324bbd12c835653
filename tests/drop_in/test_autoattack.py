"""The stand-in for AutoAttack: the reference's words and lines, our verdicts."""

from __future__ import annotations

import copy
import inspect
import logging
import re
from pathlib import Path
from typing import Any

import pyautoattack
import pytest
import torch
from attack_helpers import LINF, Batch, Function, first
from helpers import make_classifier
from torch import Tensor, nn

import robust_transfer as rt
from robust_transfer.attacks import APGD, PyAutoAttack, Square, TargetedAPGD, parse_attack
from robust_transfer.errors import ConfigError, DataError, OutputError
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture

FEW = ["apgd-3", "pgd-2"]


def made(model: Any, *args: Any, **given: Any) -> rt.AutoAttack:
    settings = {"norm": "Linf", "eps": LINF.eps, "verbose": False, "precision": "float32", **given}
    return rt.AutoAttack(model, *args, **settings)


def hasty(model: Any, **given: Any) -> rt.AutoAttack:
    return made(model, version="custom", attacks_to_run=FEW, **given)


# ---------------------------------------------------------------- the reference's interface


def test_its_words_are_the_references() -> None:
    """Of the git version, and what the packaged one calls otherwise."""
    words = list(inspect.signature(rt.AutoAttack).parameters)
    assert words[:10] == [
        "model", "norm", "eps", "seed", "verbose", "attacks_to_run", "version", "is_tf_model", "device", "log_path",
    ]  # fmt: skip
    assert {*inspect.signature(pyautoattack.AutoAttack).parameters} <= {*words}
    ours = inspect.signature(rt.AutoAttack.run_standard_evaluation).parameters
    assert list(ours)[1:6] == ["x_orig", "y_orig", "bs", "return_labels", "state_path"]
    assert {*inspect.signature(pyautoattack.AutoAttack.run_standard_evaluation).parameters} <= {*ours}


def shapes(lines: list[str]) -> set[str]:
    """Lines without their numbers and the names of attacks."""
    names = r"(?i)(apgd-ce|apgd-dlr)"
    return {re.sub(r"-?\d+(\.\d+)?", "N", re.sub(names, "X", line)) for line in lines}


def test_its_lines_are_the_references(
    network: nn.Module, batch: Batch, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    x, y, _ = first(batch, 30)
    log, named = tmp_path / "log.txt", ["apgd-ce", "apgd-dlr"]
    ours = made(network, version="custom", attacks_to_run=named, verbose=True, log_path=log)
    theirs = pyautoattack.AutoAttack(network, version="custom", attacks=named, eps=LINF.eps, seed=0)
    for each in (ours, theirs):
        each.apgd.n_iter, each.apgd.n_restarts = 3, 1
    ours.run_standard_evaluation(x, y, bs=20)
    printed = capsys.readouterr().out.splitlines()
    assert log.read_text().splitlines() == printed
    with caplog.at_level(logging.DEBUG, logger="auto-attack"):
        theirs.run_standard_evaluation(x, y, batch_size=20)
    wanted = [record.getMessage() for record in caplog.records if not record.getMessage().startswith("running ")]
    found = [line.replace("apgd-3:loss=dlr", "apgd-dlr").replace("APGD-3:LOSS=DLR", "APGD-DLR") for line in printed]
    found = [line.replace("apgd-3", "apgd-ce").replace("APGD-3", "APGD-CE") for line in found]
    assert shapes(found) == shapes(wanted)
    assert len(found) == len(wanted)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.12), ("L2", 1.0)])
def test_no_more_stand_than_by_the_reference(norm: str, eps: float, network: nn.Module, batch: Batch) -> None:
    x, y, _ = first(batch, 40)
    found, labels = made(network, norm=norm, eps=eps).run_standard_evaluation(x, y, return_labels=True)
    reference = pyautoattack.AutoAttack(
        network, norm=norm, eps=eps, seed=0, version="custom", attacks=["apgd-ce", "apgd-t"]
    )
    reference.verbose, reference.apgd_targeted.n_target_classes = False, 3
    theirs, _ = reference.run_standard_evaluation(x, y)
    with torch.no_grad():
        ours_stand, theirs_stand = ((network(some).argmax(1) == y) for some in (found, theirs))
        assert torch.equal(network(found).argmax(1), labels)
    assert 0 < int(ours_stand.sum()) <= int(theirs_stand.sum()) < len(x)
    assert torch.equal(found[ours_stand], x[ours_stand])
    assert rt.Threat(norm=norm.lower(), eps=eps).size(found - x).max() <= eps * (1 + 1e-4)


# ---------------------------------------------------------------- versions


def test_versions(network: nn.Module) -> None:
    strong = [str(attack) for attack in parse_attack("strong") if not attack.needs_source]
    assert made(network).attacks_to_run == strong
    plus = made(network, version="plus").attacks_to_run
    assert plus[: len(strong)] == strong
    assert plus[len(strong) :] == ["apgd-100:restarts=5", "apgd-100:restarts=5,loss=dlr", "apgd-t-100", "square-5000"]
    assert made(network, version="rand").attacks_to_run == ["apgd-100:eot=20", "apgd-100:loss=dlr,eot=20"]
    for wrong, said in (
        ({"version": "standrad"}, "did you mean 'standard'"),
        ({"norm": "L1"}, "unknown norm 'L1'"),
        ({"attacks_to_run": ["apgd-ce"]}, "attacks_to_run is for version='custom'"),
        ({"is_tf_model": True}, "TensorFlow"),
        ({"version": "custom", "attacks_to_run": ["apdg-ce"]}, "unknown attack 'apdg-ce'"),
    ):
        with pytest.raises(ConfigError, match=said):
            made(network, **wrong)


def test_the_references_names_take_its_settings(network: nn.Module) -> None:
    adversary = made(network, version="custom", attacks_to_run=["apgd-ce", "apgd-dlr", "apgd-t", "square", "fab-t"])
    adversary.apgd.n_restarts, adversary.apgd.eot_iter = 2, 3
    adversary.apgd_targeted.n_target_classes, adversary.apgd_targeted.n_iter = 4, 50
    adversary.square.n_queries = 1000
    assert adversary.planned() == [
        APGD(steps=100, restarts=2, eot=3), APGD(steps=100, restarts=2, loss="dlr", eot=3),
        TargetedAPGD(steps=50, targets=4), Square(queries=1000), PyAutoAttack(only="fab-t", restarts=5),
    ]  # fmt: skip
    adversary.attacks_to_run = ["pgd-20:loss=margin"]  # as projects do after making it
    assert [str(attack) for attack in adversary.planned()] == ["pgd-20:loss=margin"]


def test_what_would_do_nothing_is_refused(network: nn.Module, batch: Batch) -> None:
    """Without an attack the clean accuracy would pass for the robust one; a setting that is not read would be missed."""
    x, y, _ = first(batch, 4)
    bare = made(network, version="custom")
    for call in (bare.run_standard_evaluation, bare.run_standard_evaluation_individual):
        with pytest.raises(ConfigError, match="there are no attacks: give attacks_to_run"):
            call(x, y)
    with pytest.raises(ConfigError, match="source-features-20 attacks by the network"):
        made(network, version="custom", attacks_to_run=["source-features"])
    for part, setting in (("apgd", "n_restart"), ("square", "n_iter"), ("fab", "n_target_classes")):
        with pytest.raises(AttributeError, match=setting):
            setattr(getattr(bare, part), setting, 3)
    bare.apgd.n_iter, bare.attacks_to_run = 0, ["apgd-ce"]
    with pytest.raises(ConfigError, match="at least 1 step"):
        bare.run_standard_evaluation(x, y)


def test_fab_is_the_references_own(network: nn.Module, batch: Batch) -> None:
    x, y, _ = first(batch, 8)
    adversary = made(network, version="custom", attacks_to_run=["fab-t"], eps=0.12)
    adversary.fab.n_iter, adversary.fab.n_restarts = 10, 1
    found = adversary.run_standard_evaluation(x, y)
    with torch.no_grad():
        assert (network(found).argmax(1) != y).any()


def test_each_attack_alone_is_given_all_images(network: nn.Module, batch: Batch, capsys: Any) -> None:
    x, y, _ = first(batch, 20)
    adversary = hasty(network, verbose=True)
    found = adversary.run_standard_evaluation_individual(x, y)
    assert list(found) == FEW
    for name, images in found.items():
        alone = made(network, version="custom", attacks_to_run=[name]).run_standard_evaluation(x, y)
        assert torch.equal(images, alone)
    with torch.no_grad():
        share = (network(found["pgd-2"]).argmax(1) == y).float().mean()
    assert f"robust accuracy by PGD-2 \t {share:.2%}" in capsys.readouterr().out
    assert adversary.clean_accuracy(found["pgd-2"], y) == pytest.approx(float(share))


def test_what_is_changed_after_it_was_made_counts(network: nn.Module, batch: Batch) -> None:
    x, y, _ = first(batch, 12)
    late, made_so = hasty(network, eps=0.01), hasty(network, eps=0.2, seed=4)
    late.epsilon, late.seed = 0.2, 4
    found = late.run_standard_evaluation(x, y)
    assert torch.equal(found, made_so.run_standard_evaluation(x, y))
    assert float((found - x).abs().max()) > 0.1


# ---------------------------------------------------------------- models and images


def test_a_function_is_a_model_and_a_module_is_left_as_it_was(network: nn.Module, batch: Batch) -> None:
    x, y, _ = first(batch, 20)
    network.train()
    before = [(p.requires_grad, p.grad) for p in network.parameters()]
    found = hasty(network).run_standard_evaluation(x, y, bs=7)
    assert network.training
    assert [(p.requires_grad, p.grad) for p in network.parameters()] == before
    network.eval()
    assert torch.equal(hasty(lambda images: network(images)).run_standard_evaluation(x, y, batch_size=20), found)


def test_what_would_give_a_wrong_number_is_refused(network: nn.Module, batch: Batch) -> None:
    x, y, _ = first(batch, 6)
    for images, labels, said in (
        (x * 255, y, r"images lie in \[0, 1\], and these go from 0 to 2"),
        (x.mul(255).byte(), y, "a float tensor"),
        (x, y[:3], "labels are 6 int64"),
        (x, y.float(), "labels are 6 int64"),
        (x[:0], y[:0], "no images"),
        (x / float("nan"), y, "images lie in"),
    ):
        with pytest.raises(DataError, match=said):
            hasty(network).run_standard_evaluation(images, labels)
    with pytest.raises(ConfigError, match="bs must be at least 1"):
        hasty(network).run_standard_evaluation(x, y, bs=-1)
    with pytest.warns(UserWarning, match="probabilities"):
        hasty(Function(lambda some: network(some).softmax(1))).run_standard_evaluation(x, y)


def test_a_model_that_is_random(network: nn.Module, batch: Batch) -> None:
    """Said in `standard`; attacked by the mean of its gradients in `rand`."""
    x, y, _ = first(batch, 6)
    calls = []

    def noisy(images: Tensor) -> Tensor:
        calls.append(len(images))
        logits: Tensor = network(images)
        return logits + torch.randn(len(images), 10)

    with pytest.warns(UserWarning, match="use version='rand'"):
        hasty(noisy).run_standard_evaluation(x, y)
    calls.clear()
    once = made(noisy, version="custom", attacks_to_run=["apgd-2"], eps=0.01)
    once.version = "rand"  # which warns of nothing
    once.run_standard_evaluation(x, y)
    few, more = len(calls), made(noisy, version="custom", attacks_to_run=["apgd-2:eot=20"], eps=0.01)
    calls.clear()
    more.version = "rand"
    more.run_standard_evaluation(x, y)
    assert len(calls) == few + 2 * 19  # two steps, each of 20 draws


# ---------------------------------------------------------------- time and state


class StoppedError(Exception):
    pass


def cut_short(adversary: rt.AutoAttack, x: Tensor, y: Tensor, state: Path, after: int) -> None:
    """Run that ends after so many batches."""
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if sum("successfully perturbed" in each for each in lines) == after:
            raise StoppedError

    adversary.log = log  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        adversary.run_standard_evaluation(x, y, bs=8, state_path=state)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_what_was_cut_short_goes_on(
    after: int, network: nn.Module, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("robust_transfer.drop_in.progress.SAVE_SECONDS", 0.0)
    x, y, _ = first(batch, 20)
    whole = hasty(network, eps=0.12).run_standard_evaluation(x, y, bs=8, return_labels=True)
    state = tmp_path / "state.bin"
    cut_short(hasty(network, eps=0.12), x, y, state, after)
    again = hasty(network, eps=0.12, verbose=True).run_standard_evaluation(
        x, y, bs=5, return_labels=True, state_path=state
    )
    for one, other in zip(again, whole, strict=True):
        assert torch.equal(one, other)
    said = capsys.readouterr().out
    assert "robust accuracy at the time of restoring the state" in said
    assert ("robust accuracy after APGD-3" in said) == (after < 4)


def test_another_runs_state_is_refused(network: nn.Module, batch: Batch, tmp_path: Path) -> None:
    x, y, _ = first(batch, 8)
    state = tmp_path / "state.bin"
    hasty(network).run_standard_evaluation(x, y, state_path=state)
    for adversary, images, said in (
        (hasty(network, eps=0.1), x, "threat is linf:0.2 and here linf:0.1"),
        (hasty(network, seed=3), x, "seed is 0 and here 3"),
        (hasty(network), x.flip(0), "images is"),
    ):
        with pytest.raises(OutputError, match=said):
            adversary.run_standard_evaluation(images, y, state_path=state)
    other = copy.deepcopy(network)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    with pytest.raises(OutputError, match="whose model is"):
        hasty(other).run_standard_evaluation(x, y, state_path=state)
    with pytest.raises(OutputError, match="whose precision is float32 and here bfloat16"):
        hasty(network, precision="bfloat16").run_standard_evaluation(x, y, state_path=state)
    state.unlink()
    hasty(lambda images: network(images)).run_standard_evaluation(x, y, state_path=state)
    hasty(lambda images: network(images)).run_standard_evaluation(x, y, state_path=state)
    with pytest.raises(OutputError, match="whose model is"):  # of a function: what it says of the clean images
        hasty(lambda images: network(images).flip(1)).run_standard_evaluation(x, y, state_path=state)
    state.write_bytes(b"{}")
    with pytest.raises(OutputError, match="no state of an evaluation, or a damaged one"):
        hasty(network).run_standard_evaluation(x, y, state_path=state)


def test_a_time_limit_says_what_is_not_known(network: nn.Module, batch: Batch, capsys: Any) -> None:
    x, y, _ = first(batch, 40)
    adversary = made(network, eps=0.05, verbose=True, time_limit=1e-6)
    adversary.run_standard_evaluation(x, y)
    said = capsys.readouterr().out
    assert re.search(r"the time limit was reached \(\d+ images not by pgd-30:\S+, none by .*can only be lower", said)
    made(network, eps=0.05, verbose=True, time_limit=600).run_standard_evaluation(x[:4], y[:4])
    assert "time limit was reached" not in capsys.readouterr().out


# ---------------------------------------------------------------- mixtures of two networks


@pytest.fixture(scope="module")
def masked() -> nn.Module:
    """A fragile network behind a map whose gradient is 0, beside one that always says the same."""
    fragile, constant = make_classifier(1).eval(), make_classifier(2).eval()
    nn.init.zeros_(constant.get_parameter("head.weight"))
    return mixture(fragile, constant, Mixing(share=0.6, scale=1e4, power=8.0, shift=-0.5))


def test_a_mixture_is_attacked_through_both_networks_or_it_is_said(
    masked: nn.Module, network: nn.Module, batch: Batch, capsys: Any
) -> None:
    said = "not attacked through each of the mixture's two networks"
    for version in ("standard", "plus"):
        names = [str(attack) for attack in made(masked, version=version).planned()]
        assert names[-1] == "through-parts-20" == made(masked, version=version).attacks_to_run[-1]
        assert names[:-1] == [str(attack) for attack in made(network, version=version).planned()]
    suite = made(masked, version="custom", attacks_to_run=["quick"]).planned()
    assert [str(attack) for attack in suite] == ["pgd-10", "pgd-10:loss=margin", "through-parts-20"]
    x, _, _ = first(batch, 40)
    with torch.no_grad():
        y = masked(x).argmax(1)
    plain = made(masked, version="custom", attacks_to_run=["pgd-5"], eps=0.08, verbose=True)
    stands = (plain.run_standard_evaluation(x, y, return_labels=True)[1] == y).float().mean()
    assert said in capsys.readouterr().out
    more = made(masked, version="custom", attacks_to_run=["pgd-5", "through-parts-20"], eps=0.08, verbose=True)
    falls = (more.run_standard_evaluation(x, y, return_labels=True)[1] == y).float().mean()
    assert said not in capsys.readouterr().out
    assert stands > 0.8
    assert falls < 0.2
    plain.run_standard_evaluation_individual(x[:2], y[:2])
    assert said in capsys.readouterr().out
    hasty(network, verbose=True).run_standard_evaluation(x[:2], y[:2])
    assert said not in capsys.readouterr().out
