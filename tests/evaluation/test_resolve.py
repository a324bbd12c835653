"""Invalid models, splits and numbers: one sentence each, before anything is attacked or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import QUIET, make_source
from torch import Tensor, nn

import robust_transfer as rt
from robust_transfer.data import Split, Task, load_task
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.preprocessing import Preprocessing

NAMES = ("a", "b", "c")
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), np.uint8))
LABELS = torch.arange(24) % 3
SPLIT = Split.in_memory(PIXELS, LABELS, NAMES)
TASK = Task("t", SPLIT, SPLIT.subset(torch.arange(0)), SPLIT)


def linear(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width))


class Changed(nn.Module):
    """A linear model whose logits are changed by a function."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = linear(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


def evaluated(model: Any = None, split: Any = SPLIT, **given: Any) -> Any:
    settings: dict[str, Any] = {"attack": "fgsm", "red_flag_examples": 0, "transfer_attack_examples": 0, "run": QUIET}
    return rt.evaluate(linear() if model is None else model, split, **{**settings, **given})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (linear(4), "tells 4 classes apart and the data has 3"),
        (linear(2), "tells 2 classes apart and the data has 3"),
        (linear().double(), r"fails on float32 images of 3x8x8 in \[0, 1\] \(RuntimeError"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 3)), "give the split at the size"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "the model fails"),
        (Changed(lambda logits: 1 / 0), "ZeroDivisionError"),
        (Changed(lambda logits: logits > 0), "real numbers, not torch.bool"),
        (Changed(lambda logits: logits + 0j), "real numbers, not torch.complex64"),
        (Changed(lambda logits: (logits,)), "not tuple"),
        (Changed(lambda logits: logits.argmax(1)), r"must return logits \(batch, classes\)"),
    ],
)
def test_a_model_that_does_not_fit_is_told_before_anything_is_written(
    model: nn.Module, said: str, tmp_path: Path
) -> None:
    with pytest.raises(NetworkError, match=said):
        evaluated(model, run=rt.Run(quiet=True, out=tmp_path / "e"))
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_logits_that_are_no_numbers_are_flagged(share: float) -> None:
    bad = PIXELS.float().mean((1, 2, 3)) / 255 > (PIXELS.float().mean((1, 2, 3)).quantile(share) / 255 if share else 0)

    class Nan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.limit = (
                linear(),
                float((PIXELS.float() / 255).mean((1, 2, 3)).quantile(share)) if share else -1,
            )

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x)
            return torch.where(x.mean((1, 2, 3))[:, None] > self.limit, torch.nan, logits)

    flags = evaluated(Nan(), threat="linf:0").flags
    assert f"the logits of {int(bad.sum())} of 24 clean images are no numbers (NaN or infinite)" in flags[0]


def test_a_model_that_stays_in_training_mode_is_evaluated_in_evaluation_mode() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop, self.inner = nn.BatchNorm2d(3), nn.Dropout(0.5), linear()

        def train(self, mode: bool = True) -> Stubborn:
            return super().train(True)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(self.drop(self.norm(x)))
            return logits

    model = Stubborn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found, again = (evaluated(model, threat="linf:1/255").outcomes["margin"].tolist() for _ in range(2))
    assert found == again
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("model", ["bundled", Path("run"), linear().state_dict(), nn.Linear, lambda x: x, 3])
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(ConfigError, match="model is to be a Checkpoint or a Module, not"):
        evaluated(model)


@pytest.mark.parametrize("split", [None, "builtin:digits", TASK, PIXELS, (PIXELS, LABELS)])
def test_what_is_no_split(split: Any) -> None:
    with pytest.raises(ConfigError, match="split is to be a Split, not"):
        evaluated(split=split)
    with pytest.raises(ConfigError, match="split is to be a Split, not"):
        rt.verify(Path("e"), linear(), split)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", "out"), ("run", {"seed": 1}), ("source", "bundled"), ("source", linear()), ("examples", 2.5), ("examples", "3"),
        ("examples", True), ("batch_size", 8.0), ("batch_size", "8"), ("red_flag_examples", 2.5), ("time_limit", "5m"),
        ("transfer_attack_examples", "a"), ("attack", None), ("attack", 3), ("attack", ["pgd-2"]), ("time_limit", float("nan")),
    ],
)  # fmt: skip
def test_arguments_of_other_kinds(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"is to be|a time limit is"):
        evaluated(**{name: value})


def test_numpys_numbers_are_numbers() -> None:
    found = evaluated(examples=np.int64(6), batch_size=np.int32(4), time_limit=np.float32(900))
    assert found.clean_accuracy.n == 6


@pytest.mark.parametrize(
    "call",
    [
        lambda: rt.transfer("bundled", TASK, rt.LinearProbe()),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source().classifier, TASK, rt.LinearProbe()),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source(), SPLIT, rt.LinearProbe()),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source(), "builtin:digits", rt.LinearProbe()),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source(), TASK, "linear-probe"),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source(), TASK, rt.LinearProbe),  # type: ignore[arg-type]
        lambda: rt.transfer(make_source(), TASK, rt.LinearProbe(), run="out"),  # type: ignore[arg-type]
        lambda: rt.pretrain(TASK, "natural"),  # type: ignore[arg-type]
        lambda: rt.pretrain(None, rt.Natural()),  # type: ignore[arg-type]
        lambda: rt.compare(None, None),  # type: ignore[arg-type]
        lambda: rt.compare(linear(), linear()),  # type: ignore[arg-type]
        lambda: rt.load_source(make_source()),  # type: ignore[arg-type]
        lambda: load_task(None),  # type: ignore[arg-type]
        lambda: load_task(SPLIT),  # type: ignore[arg-type]
        lambda: load_task("builtin:digits", shots=2.5),  # type: ignore[arg-type]
        lambda: load_task("builtin:digits", seed="0"),  # type: ignore[arg-type]
        lambda: load_task("builtin:digits", val="0.1"),  # type: ignore[arg-type]
    ],
)
def test_the_public_functions_name_what_they_take(call: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"is to be .*, not"):
        call()


def test_predictions_are_over_all_classes_where_the_data_has_some_of_them() -> None:
    source = make_source()
    named = dataclasses.replace(source, card=dataclasses.replace(source.card, class_names=tuple("jihgfedcba")))
    some = Split.in_memory(PIXELS, LABELS, ("a", "j", "c"))
    found = evaluated(named, some, threat="linf:1/255")
    with torch.no_grad():
        predicted = source.classifier(PIXELS.float() / 255).argmax(1)
    labels = torch.tensor([9, 0, 7])[LABELS]
    assert found.outcomes["label"].tolist() == labels.tolist()
    assert found.outcomes["clean_prediction"].tolist() == predicted.tolist()
    assert found.clean_accuracy.value == float((predicted == labels).float().mean())
    assert found.notes[0] == "the data has 3 of the 10 classes of the model, which are all predicted"


def test_the_pixels_of_the_threat_are_said() -> None:
    source, whole = make_source(), "the whole image squashed to 8 x 8 (bicubic)"
    found = evaluated(source, Split.in_memory(PIXELS, LABELS, tuple("0123456789")))
    assert found.pixels == f"a threat is on the 8 x 8 pixels that the network reads, after {whole}"
    assert f"pixels           {found.pixels}" in str(found)
    assert evaluated().pixels == "a threat is on the 8 x 8 pixels that the model is given, as stored"
    assert evaluated(split=SPLIT.at_size(8)).pixels.endswith(f"that the model is given, after {whole}")


def test_a_source_that_crops_otherwise_is_not_what_a_model_came_from() -> None:
    source = make_source()
    how = Preprocessing(size=8, resize="crop", short=10)
    spec = dataclasses.replace(source.card.network, preprocessing=how)
    other = dataclasses.replace(source, card=dataclasses.replace(source.card, network=spec))
    with pytest.raises(ConfigError, match=r"after the shorter side to 10 pixels .* is not what the model was"):
        evaluated(source, Split.in_memory(PIXELS, LABELS, tuple("0123456789")), source=other)
