"""``fit`` is plain PyTorch where all goes well."""

from __future__ import annotations

import dataclasses
import errno
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import log_of, make_classifier, same_state
from torch import Tensor
from training_helpers import PLAIN, RUN, Scripted, natural, settings

from robust_transfer.data import Task
from robust_transfer.data.readers import MemoryReader, Reader
from robust_transfer.errors import ConfigError, DataError, OutputError
from robust_transfer.preprocessing import Geometry
from robust_transfer.run import Run
from robust_transfer.training import Batch, NaturalObjective, TrainingSettings, batch_order, fit

# ---------------------------------------------------------------- parity


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_fit_is_ten_lines_of_plain_pytorch(digits_task: Task, schedule: Any, nesterov: bool) -> None:
    objective, split = natural(), digits_task.train
    plain = objective.classifier.copy()
    result = fit(objective, split, settings(schedule=schedule, nesterov=nesterov), RUN)

    images, steps = split.images(), len(split) // 50
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=5e-4)
    for step in range(2 * steps):
        t = step / (2 * steps)
        cosine, cycle = 0.5 * (1 + math.cos(math.pi * t)), t / 0.3 if t < 0.3 else (1 - t) / 0.7
        optimizer.param_groups[0]["lr"] = 0.05 * (cosine if schedule == "cosine" else cycle)
        picked = batch_order(0, step // steps, len(split))[step % steps * 50 :][:50]
        x = (images[picked].float() / 255).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        F.cross_entropy(plain.train()(x), split.labels[picked]).backward()
        optimizer.step()

    assert same_state(result.classifier, plain)
    assert same_state(objective.classifier, plain)
    assert not same_state(plain, natural().classifier)
    assert (result.images, result.passes, result.best_epoch, result.events) == (600, 1800.0, None, ())


@pytest.mark.parametrize("limit", [0.7, 0.999])
def test_the_average_of_weights_is_the_closed_form(digits_task: Task, limit: float) -> None:
    """The first two states are copied, then ``a += (1 - d) (w - a)``, ``d`` rising to its limit; statistics alike."""
    seen: list[dict[str, Tensor]] = []

    class Watched(NaturalObjective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            seen.append({k: v.clone() for k, v in self.classifier.state_dict().items()})
            return super().forward(batch)

    objective = Watched(make_classifier(), 400)
    validate = Scripted(clean_accuracy=[0.5, 0.6])
    result = fit(objective, digits_task.train, settings(epochs=2, ema=limit), RUN, validate=validate)
    seen.append({k: v.clone() for k, v in objective.classifier.state_dict().items()})
    assert len(seen) == 13
    decays = [min(limit, 1 - (1 + n) ** (-2 / 3)) for n in range(1, 11)]
    assert max(decays) < 0.81, "a short run looks back a few steps, whatever the limit"
    for key, value in result.classifier.state_dict().items():
        average = seen[2][key].double()
        for decay, later in zip(decays, seen[3:], strict=True):
            average = decay * average + (1 - decay) * later[key].double()
        expected = seen[-1][key] if "num_batches" in key else average.to(value.dtype)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert not same_state(result.classifier, objective.classifier)
    assert all(torch.equal(v, validate.seen[-1][k]) for k, v in result.classifier.state_dict().items()), "validated"


def test_averaged_statistics_serve_as_well_as_those_of_the_averaged_weights(digits_task: Task) -> None:
    """Statistics re-estimated on all training images give the same answers: no pass is spent on that."""
    plain = settings(epochs=8, ema=0.99, schedule="one-cycle")
    averaged = fit(natural(), digits_task.train, plain, RUN).classifier
    images, again = digits_task.train.images().float() / 255, averaged.copy().train()
    norms = [m for m in again.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the passes
    with torch.no_grad():
        for batch in images.split(50):
            again(batch)
        found, wanted = averaged.eval()(images), again.eval()(images)
    assert len(norms) > 5
    assert (found.argmax(1) == wanted.argmax(1)).float().mean() > 0.97


def test_every_epoch_visits_each_image_at_most_once_in_another_order(digits_task: Task) -> None:
    seen: list[Tensor] = []

    class Watched(NaturalObjective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            assert torch.equal(batch.ids, split.ids[batch.indices])
            assert torch.equal(batch.labels, split.labels[batch.indices])
            seen.append(batch.ids)
            return super().forward(batch)

    split = digits_task.train.subset(torch.arange(10, 113))  # 103 images: four batches of 25, three images wait
    fit(Watched(make_classifier(), 400), split, settings(batch_size=25), RUN)
    assert [len(ids) for ids in seen] == [25] * 8
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    for epoch in (first, second):
        assert len(epoch.unique()) == 100
        assert set(epoch.tolist()) <= set(range(10, 113))
    assert not torch.equal(first, second)
    assert set(first.tolist()) != set(second.tolist()), "other images wait in another epoch"


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(0.5, 50, 3), (1.5, 50, 9), (0.01, 50, 1), (2, 1000, 2)])
def test_epochs_may_be_fractions_and_batches_larger_than_the_data(
    digits_task: Task, epochs: float, batch_size: int, steps: int
) -> None:
    result = fit(natural(), digits_task.train, settings(epochs=epochs, batch_size=batch_size), RUN)
    assert result.images == steps * min(batch_size, 320)


class OnDemand(Reader):
    """Images that are read when they are asked for; it notes in which threads."""

    native_size = 8

    def __init__(self, images: Tensor) -> None:
        self.inner, self.threads = MemoryReader(images), set[str]()

    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        self.threads.add(threading.current_thread().name)
        return self.inner.read(positions, how)


def test_images_that_are_read_ahead_are_those_that_are_in_memory(digits_task: Task) -> None:
    reader, plain = OnDemand(digits_task.train.images()), settings(epochs=1.5)
    streamed = dataclasses.replace(digits_task.train, reader=reader, positions=torch.arange(len(digits_task.train)))
    assert streamed.streamed
    found = [fit(natural(), split, plain, RUN).classifier for split in (streamed, digits_task.train)]
    assert same_state(*found)
    assert reader.threads - {threading.main_thread().name}, "the main thread trains meanwhile"


def test_augmentation_is_addressed_by_seed_and_epoch(digits_task: Task) -> None:
    seen: list[Tensor] = []

    class Watched(NaturalObjective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            seen.append(batch.images[batch.ids.argsort()].clone())
            return super().forward(batch)

    split = digits_task.train.subset(torch.arange(40))
    for run in (RUN, RUN, Run(seed=1, precision="float32", quiet=True)):
        fit(Watched(make_classifier(), 400), split, settings(augment=True, pad=1, flip=False), run)
    assert torch.equal(seen[0], seen[2]), "the same seed and epoch"
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1]), "another epoch"
    assert not torch.equal(seen[0], seen[4]), "another seed"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", {0.0: 1.0, 0.99: 1.0}),
        ("cosine", {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        ("one-cycle", {0.0: 0.0, 0.15: 0.5, 0.3: 1.0, 0.65: 0.5, 1.0: 0.0}),
        ("step", {0.0: 1.0, 0.49: 1.0, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 0.99: 0.01}),
    ],
)
def test_schedules(schedule: Any, shares: dict[float, float]) -> None:
    made = TrainingSettings(schedule=schedule, learning_rate=2.0)
    for t, share in shares.items():
        assert made.rate(round(t * 100), 100) == pytest.approx(2.0 * share, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"batch_size": 0}, "at least 1"),
        ({"guard_every": 0}, "at least 1"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "must be finite"),
        ({"momentum": 1}, "momentum must be"),
        ({"momentum": 0, "nesterov": True}, "nesterov needs a positive momentum"),
        ({"weight_decay": -1}, "at least 0"),
        ({"pad": -1}, "at least 0"),
        ({"ema": 1}, "ema is a decay"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**changes)


def test_adam() -> None:
    optimizer = TrainingSettings(optimizer="adam", weight_decay=0.1).build_optimizer(make_classifier().parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_there_must_be_something_to_train(digits_task: Task) -> None:
    with pytest.raises(DataError, match="the train split is empty"):
        fit(natural(), digits_task.train.subset(torch.arange(0)), PLAIN, RUN)
    frozen = make_classifier()
    frozen.freeze(frozen.state_dict())
    with pytest.raises(ConfigError, match="every weight is frozen"):
        fit(NaturalObjective(frozen), digits_task.train, PLAIN, RUN)


# ---------------------------------------------------------------- selection


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize(("select", "best"), [("clean", 2), ("robust", 1), ("last", None)])
def test_selection_keeps_the_best_epoch_not_the_last(
    digits_task: Task, select: Any, best: int | None, ema: float | None
) -> None:
    script = Scripted(clean_accuracy=[0.1, 0.9, 0.9], robust_accuracy=[0.5, 0.4, math.nan])
    result = fit(natural(), digits_task.train, settings(epochs=3, select=select, ema=ema), RUN, validate=script)
    assert result.best_epoch == best
    chosen = script.seen[(best or 3) - 1]
    assert all(torch.equal(v, chosen[k]) for k, v in result.classifier.state_dict().items())
    shown = (best or 3) - 1  # the figures of the weights that are kept
    assert result.figures["clean_accuracy"] == [0.1, 0.9, 0.9][shown]
    if best is not None:
        assert result.figures["robust_accuracy"] == [0.5, 0.4][shown]


def test_a_score_that_is_no_number_is_never_the_best(digits_task: Task) -> None:
    script = Scripted(clean_accuracy=[math.nan, 0.2, 0.1])
    result = fit(natural(), digits_task.train, settings(epochs=3, select="clean"), RUN, validate=script)
    assert result.best_epoch == 2


def test_selection_needs_its_figure(digits_task: Task) -> None:
    with pytest.raises(ConfigError, match="select=clean needs figures on val"):
        fit(natural(), digits_task.train, settings(select="clean"), RUN)
    with pytest.raises(ConfigError, match="select=robust needs robust_accuracy on val"):
        fit(natural(), digits_task.train, settings(select="robust"), RUN, validate=Scripted(clean_accuracy=[1.0]))


# ---------------------------------------------------------------- the log


def test_the_log(digits_task: Task, tmp_path: Path) -> None:
    run = Run(precision="float32", quiet=True, out=tmp_path / "new")
    fit(natural(), digits_task.train, settings(batch_size=20), run, validate=Scripted(clean_accuracy=[0.25, 0.5]))
    records = log_of(tmp_path / "new", without=())
    assert [(r["step"], "loss" in r) for r in records] == [(1, True), (16, True), (16, False), (32, True), (32, False)]
    assert records[2] == {"step": 16, "epoch": 1.0, "val_clean_accuracy": 0.25}
    assert set(records[0]) == {"step", "epoch", "loss", "accuracy", "rate", "seconds"}


def test_without_a_folder_nothing_is_written(
    digits_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(natural(), digits_task.train, settings(epochs=0.2), RUN)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_training_in_one_sentence(
    digits_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match=r"the disk is full, so .*state\.safetensors was not written"):
        fit(natural(), digits_task.train, PLAIN, Run(precision="float32", quiet=True, out=tmp_path))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["metrics.jsonl"]


def test_the_bar_shows_progress_unless_quiet(digits_task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        fit(
            natural(),
            digits_task.train,
            settings(epochs=0.5),
            Run(precision="float32", quiet=quiet),
            label="warming up",
        )
        printed = capsys.readouterr()
        assert printed.out == ""
        assert ("warming up" in printed.err and "3/3" in printed.err) != quiet
