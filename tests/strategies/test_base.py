"""Contract of every registered strategy: the source, the test split, the card and the folder."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import NONE, QUIET, Unreadable, folder_of, make_digits, make_source, relabelled, same_state, without_val

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import CheckpointError, ConfigError, DataError, DivergedError, OutputError, UnknownNameError
from robust_transfer.manifest import FILE
from robust_transfer.provenance import Provenance
from robust_transfer.run import Run
from robust_transfer.strategies import (
    STRATEGIES,
    FineTune,
    LinearProbe,
    LwF,
    Strategy,
    transfer,
)
from robust_transfer.strategies.curve import Curve
from robust_transfer.strategies.inner import INNER
from robust_transfer.strategies.trained import Trained
from robust_transfer.threat import Threat

TRAINED = [entry.name for entry in STRATEGIES if issubclass(entry.cls, Trained)]
CHOOSES_BY_ATTACK = {
    entry.name for entry in STRATEGIES if issubclass(entry.cls, Curve)
}  # on val, without which they refuse
FROM_RANDOM: dict[str, dict[str, Any]] = {  # heads that know nothing take some steps to learn
    "last-blocks": {"epochs": 12, "learning_rate": 0.1},
    "ard": {"epochs": 24},
    **{name: {"epochs": 12, "learning_rate": 0.1} for name in ("adversarial", "autolora", "roli", "rslad", "twins")},
}
CRAFTED = {"roli": 2}  # epochs with adversarial examples: its probe has one, too


@pytest.fixture(params=STRATEGIES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def quick(name: str, **more: Any) -> Strategy:
    return STRATEGIES.get(name).from_settings({**STRATEGIES.get(name).quick, **more})


def test_default_construction_is_possible_and_documented(name: str) -> None:
    strategy = STRATEGIES.get(name)()
    assert strategy == STRATEGIES.get(name).from_settings({})
    assert STRATEGIES.entry(name).paper
    assert (type(strategy).__doc__ or "").strip()


def test_the_source_is_left_exactly_as_it_was(name: str, task: Task) -> None:
    source = make_source(threat="linf:8/255")
    source.classifier.freeze(["body.conv1.weight"])
    source.classifier.train()
    source.classifier.head.eval()
    before, modes = source.classifier.copy(), [m.training for m in source.classifier.modules()]
    storage = [p.data_ptr() for p in source.classifier.parameters()]
    transfer(source, task, quick(name), run=QUIET)
    assert same_state(before, source.classifier)
    assert [m.training for m in source.classifier.modules()] == modes
    assert [n for n, p in source.classifier.named_parameters() if not p.requires_grad] == ["body.conv1.weight"]
    assert all(p.grad is None for p in source.classifier.parameters())
    assert [p.data_ptr() for p in source.classifier.parameters()] == storage  # not even moved


def test_test_is_out_of_reach_at_any_size(name: str, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are brought to the source's size first, which is where a test split would be read."""
    seen = []
    adapt = STRATEGIES.get(name).adapt

    def watched(self: Strategy, source: Checkpoint, task: Task, run: Run) -> Any:
        seen.append(task.test)
        return adapt(self, source, task, run)

    monkeypatch.setattr(STRATEGIES.get(name), "adapt", watched)
    other_size = dataclasses.replace(task, test=dataclasses.replace(task.test, size=16))
    transfer(make_source(threat="linf:8/255"), other_size, quick(name), run=QUIET)
    assert len(seen) == 1
    assert len(seen[0]) == 0
    assert not isinstance(seen[0].reader, Unreadable)


def test_the_card_tells_where_the_source_came_from(name: str, task: Task) -> None:
    """Also the source's own source: results are sources."""
    first = transfer(make_source(threat="linf:8/255"), task, LinearProbe(l2=0.1), run=QUIET)
    second = transfer(first, task, quick(name), run=QUIET)
    assert isinstance(second.card.source, Provenance)
    assert second.card.source.weights == first.hash
    assert second.card.source.method == "transfer:linear-probe"
    assert second.card.source.source == first.card.source
    assert second.card.threat == Threat.parse("linf:8/255")


def test_a_finished_run_is_returned_at_once_or_refused(
    name: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run = make_source(threat="linf:8/255"), dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, quick(name), run=run)
    monkeypatch.setattr(STRATEGIES.get(name), "adapt", None)  # it is not called again
    resumed = dataclasses.replace(run, resume=True)
    (tmp_path / "run" / "state").mkdir()
    (tmp_path / "run" / "state" / "state.safetensors").write_bytes(b"of a process that was killed before it removed it")
    assert transfer(source, task, quick(name), run=resumed).hash == result.hash
    assert not (tmp_path / "run" / "state").exists()
    changed = "l2" if name == "linear-probe" else "epochs"
    with pytest.raises(CheckpointError, match=rf"settings\.{changed}"):
        transfer(source, task, quick(name, **{changed: 0.5}), run=resumed)
    with pytest.raises(CheckpointError, match="weights"):
        transfer(make_source(seed=5, threat="linf:8/255"), task, quick(name), run=resumed)
    with pytest.raises(CheckpointError, match="seed"):
        transfer(source, task, quick(name), run=dataclasses.replace(resumed, seed=1))


def test_saved_and_returned_are_the_same(name: str, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    saved = transfer(make_source(threat="linf:8/255"), task, quick(name), run=run)
    kept = transfer(make_source(threat="linf:8/255"), task, quick(name), run=QUIET)
    x = to_pixels(task.val.images())
    with torch.no_grad():
        logits = [c.classifier(x) for c in (saved, kept, load_checkpoint(folder_of(run)))]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert saved.card.metrics == kept.card.metrics
    assert saved.card.cost.passes == kept.card.cost.passes


def test_a_class_without_images_keeps_its_output(name: str, task: Task) -> None:
    """Never predicted, and never so unlikely that log losses of it are not numbers."""
    some = (task.train.labels != 4).nonzero()[:, 0]
    gap = relabelled(task, task.train.labels, task.class_names, some)
    gap = dataclasses.replace(gap, val=gap.train) if name in CHOOSES_BY_ATTACK else gap
    result = transfer(make_source(threat="linf:8/255"), gap, quick(name, **FROM_RANDOM.get(name, {})), run=QUIET)
    assert result.classifier.num_classes == 10
    with torch.no_grad():
        log_p = result.classifier(to_pixels(gap.train.images())).log_softmax(1)
    assert (log_p.argmax(1) != 4).all()
    assert log_p[:, 4].min() > -60


@pytest.mark.parametrize("labels", ["none", "one"])
def test_nothing_to_learn_from_is_refused(name: str, task: Task, labels: str) -> None:
    few = NONE if labels == "none" else (task.train.labels == 3).nonzero()[:, 0]
    with pytest.raises(DataError, match="has no training images" if labels == "none" else "class '3'"):
        transfer(
            make_source(threat="linf:8/255"),
            relabelled(task, task.train.labels, task.class_names, few),
            quick(name),
            run=QUIET,
        )


def test_what_cannot_work_is_refused_before_a_folder_is_emptied(task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run", overwrite=True)
    folder_of(run).mkdir()
    (folder_of(run) / "metrics.jsonl").write_text("{}\n")
    natural, empty = make_source(), without_val(task)
    for strategy, where, what in (
        (FineTune(select="clean"), empty, "select=clean"),
        (FineTune(select="robust"), task, "select=robust"),
        (LwF(head="new", choose="robust"), task, "choose=robust"),
        (LinearProbe(choose="robust"), task, "choose=robust"),
        (FineTune(head="keep"), relabelled(task, task.train.labels % 3, ("a", "b", "c")), "head=keep"),
    ):
        with pytest.raises(ConfigError, match=what):
            transfer(natural, where, strategy, run=run)
    assert (folder_of(run) / "metrics.jsonl").exists()
    with pytest.raises(ConfigError, match="l2"):
        FineTune(l2=0.0)


def test_a_disk_too_full_for_the_weights_keeps_no_part_of_a_result(
    name: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run = make_source(threat="linf:8/255"), dataclasses.replace(QUIET, out=tmp_path / "run")
    replace = os.replace

    def full(old: Any, new: Any) -> None:
        if Path(new) == folder_of(run) / "model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OutputError, match=r"the disk is full, so .*model\.safetensors was not written"):
            quick(name)(source, task, run=run)
    assert {path.name for path in folder_of(run).glob("*")} <= {"metrics.jsonl", "state", "frontier.svg", INNER, FILE}
    assert quick(name)(source, task, run=dataclasses.replace(run, resume=True)).card.weights_hash


@pytest.mark.parametrize("name", TRAINED)
def test_divergence_leaves_only_the_log(name: str, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    with pytest.raises(DivergedError) as error:
        transfer(
            make_source(threat="linf:8/255"), task, quick(name, learning_rate=1e9, epochs=3, batch_size=32), run=run
        )
    assert error.value.exit_status == 3
    assert {path.name for path in folder_of(run).rglob("*")} <= {"metrics.jsonl", "state", FILE}
    assert not list(folder_of(run).rglob("*.safetensors"))


def test_a_run_that_diverges_late_leaves_no_state(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def collapsed(*_: Any) -> None:
        raise DivergedError("collapsed")

    monkeypatch.setattr("robust_transfer.production.refuse_collapse", collapsed)
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    with pytest.raises(DivergedError):
        transfer(make_source(), task, quick("fine-tune"), run=run)
    assert not list(folder_of(run).rglob("*.safetensors"))


def test_the_contract(name: str, source: Checkpoint, task: Task, tmp_path: Path) -> None:
    before = source.classifier.copy()
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, quick(name), run=run)

    assert same_state(before, source.classifier)  # the source is as it was
    assert not any(m.training for m in source.classifier.modules())
    assert all(p.requires_grad for p in source.classifier.parameters())

    card = result.card
    assert card.criterion
    assert card.cost.passes >= len(task.train)
    if STRATEGIES.get(name).adversarial:
        assert card.cost.adversarial_examples == CRAFTED.get(name, 1) * (len(task.train) // 128 * 128)
    elif name in CHOOSES_BY_ATTACK:
        assert 0 < card.cost.adversarial_examples <= 3 * len(task.val)
    else:
        assert card.cost.adversarial_examples == 0  # nothing chosen by attack: not one adversarial example
    assert isinstance(card.source, Provenance)
    assert card.source.weights == source.hash
    assert card.threat == Threat.parse("linf:8/255")

    x = to_pixels(task.val.images())
    loaded = load_checkpoint(folder_of(run))
    with torch.no_grad():
        assert torch.equal(loaded.classifier(x), result.classifier(x))
    assert not (folder_of(run) / "state").exists()

    again = transfer(source, task, quick(name), run=QUIET)
    assert again.hash == result.hash  # deterministic by seed
    with pytest.raises(OutputError):
        transfer(source, task, quick(name), run=run)
    finished = transfer(source, task, quick(name), run=dataclasses.replace(run, resume=True))
    assert finished.hash == result.hash


def test_unknown_settings_name_the_nearest(name: str) -> None:
    field = dataclasses.fields(STRATEGIES.get(name))[0].name
    with pytest.raises(ConfigError, match=field):
        STRATEGIES.get(name).from_settings({field + "x": 1})
    with pytest.raises(ConfigError, match="preset"):
        STRATEGIES.get(name).from_settings({"preset": "papr"})
    entry = STRATEGIES.entry(name)
    assert entry.summary
    assert entry.paper
    assert entry.cls.__doc__
    with pytest.raises(UnknownNameError, match=name):
        STRATEGIES.get(name + "e")


def test_without_val(name: str, source: Checkpoint, task: Task) -> None:
    empty = dataclasses.replace(task, val=task.val.subset(torch.arange(0)))
    if name in CHOOSES_BY_ATTACK:
        with pytest.raises(ConfigError, match="val"):
            transfer(source, empty, quick(name), run=QUIET)
        return
    assert transfer(source, empty, quick(name), run=QUIET).classifier.num_classes == 10


def test_two_classes_of_two_images(name: str, source: Checkpoint) -> None:
    digits = make_digits(train=200, val=0, test=0)
    chosen = torch.cat([(digits.train.labels == c).nonzero()[:2, 0] for c in (3, 7)])
    few = digits.train.subset(chosen)
    split = Split.in_memory(few.images(), (few.labels == 7).long(), ("three", "seven"))
    val = split if name in CHOOSES_BY_ATTACK else split.subset(torch.arange(0))
    tiny = dataclasses.replace(digits, train=split, val=val, test=split.subset(torch.arange(0)))
    how = quick(name, **FROM_RANDOM.get(name, {}))
    assert transfer(source, tiny, how, run=QUIET).classifier.num_classes == 2


def test_every_strategy_heeds_weights_and_says_so(name: str) -> None:
    """Weights of nothing but the first two classes: their images are all that is learned."""
    task, source = make_digits(train=200, val=60, test=20), make_source(threat="linf:8/255")
    two = (task.train.labels < 2).double()
    given = dataclasses.replace(task, train=task.train.weighted(two + 1e-6 * (1 - two)))
    strategy = quick(name, **FROM_RANDOM.get(name, {}))
    found = transfer(source, given, strategy, run=QUIET)
    plain = transfer(source, task, strategy, run=QUIET)
    said, without = (model.classifier(to_pixels(task.train.images())).argmax(1) for model in (found, plain))
    assert float((said < 2).float().mean()) > 0.6 > 0.4 > float((without < 2).float().mean())
    assert found.card.data["weights"].startswith("given (")
    assert "weights" not in plain.card.data
