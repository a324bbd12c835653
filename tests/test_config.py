"""Configurations are frozen, validated and refuse what they do not know; settings are parsed, never evaluated."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import numpy as np
import pytest
import torch

from robust_transfer.config import as_dict, build, config, difference, expect, parse_settings
from robust_transfer.errors import ConfigError, ThreatError


@config
class Inner:
    rate: float = 0.1


@config
class Base:
    epochs: float = 1.0
    mode: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if self.epochs <= 0:
            raise ThreatError("epochs must be positive")


@config
class Derived(Base):
    steps: int = 3
    inner: Inner = Inner()
    pair: tuple[float, float] = (0.0, 1.0)
    folder: Path | None = None


@config
class Nothing:
    pass


def test_fields_are_converted_inherited_and_frozen() -> None:
    made = Derived(epochs="2", steps=4.0, folder="x", inner={"rate": 0.5})  # type: ignore[arg-type]
    assert (made.epochs, made.steps, made.folder, made.inner) == (2.0, 4, Path("x"), Inner(rate=0.5))
    assert dataclasses.replace(made, steps=5).steps == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, r"^unknown setting of Derived 'epoch': did you mean 'epochs'\?$"),
        ({"epochs": "many"}, r"^Derived: epochs='many': Input should be a valid number"),
        ({"steps": 1.5}, r"^Derived: steps=1\.5: Input should be a valid integer"),
        ({"mode": "lst"}, r"^Derived: mode='lst': Input should be 'last' or 'best'$"),
        ({"epochs": math.nan}, r"^Derived: epochs=nan: every number must be finite$"),
        ({"epochs": math.inf}, r"^Derived: epochs=inf: every number must be finite$"),
        ({"pair": (0.0, -math.inf)}, r"^Derived: pair=\(0\.0, -inf\): every number must be finite$"),
        ({"inner": {"rat": 1}}, r"^Derived: inner\.rat=1: Unexpected keyword argument$"),
        ({"steps": "9" * 10_000}, r"^.{1,300}$"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Derived(**settings)
    with pytest.raises(ConfigError, match=message.replace("Derived", "method 'd'")):
        build(Derived, settings, "method 'd'")


def test_a_class_checks_itself_first_and_its_error_keeps_its_kind() -> None:
    makes: tuple[Callable[[], Derived], ...] = (
        lambda: Derived(epochs=-1),
        lambda: build(Derived, {"epochs": -math.inf}, "method 'd'"),
    )
    for make in makes:
        with pytest.raises(ThreatError, match=r"^epochs must be positive$"):
            make()


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^Inner takes its settings by name: rate$"):
        Inner(0.1)  # type: ignore[call-arg]


def test_keys_need_not_be_text() -> None:
    with pytest.raises(ConfigError, match="unknown setting of recipe '3'"):
        build(Inner, {3: 4}, "recipe")  # type: ignore[dict-item]


def test_a_class_without_settings_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^attack 'n' has no settings, so 'x' cannot be set$"):
        build(Nothing, {"x": 1}, "attack 'n'")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("8", 8),
        ("8/255", "8/255"),
        ("linf:8/255", "linf:8/255"),
        ("false", False),
        ("null", None),
        ("", None),
        ("[1, 2]", [1, 2]),
        ("2020-01-02", "2020-01-02"),
        ("1:30:00", "1:30:00"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("!!python/object/apply:os.getcwd []", "!!python/object/apply:os.getcwd []"),
        ("[1, 2", "[1, 2"),
        ("a=b", "a=b"),
    ],
)
def test_settings_are_parsed_never_evaluated(text: str, value: Any) -> None:
    parsed = parse_settings([f"learning-rate={text}"])
    assert parsed == {"learning_rate": value}
    assert type(parsed["learning_rate"]) is type(value)


@pytest.mark.parametrize("pair", ["rate", "=3", " =3", ""])
def test_a_setting_needs_key_and_value(pair: str) -> None:
    with pytest.raises(ConfigError, match=r"--set takes key=value, not"):
        parse_settings([pair])


def test_a_setting_is_given_once() -> None:
    with pytest.raises(ConfigError, match=r"--set weight_decay=... is given twice"):
        parse_settings(["weight_decay=1", "weight-decay=2"])


def test_as_dict_gives_plain_json_types() -> None:
    value = {
        "config": Derived(folder=Path("a/b")),
        "scalars": (np.float32(1.5), np.int64(3), np.bool_(True), torch.tensor(2)),
        "dtype": torch.float16,
        1: None,
    }
    plain = as_dict(value)
    assert plain == {
        "config": {
            "epochs": 1.0,
            "mode": "last",
            "steps": 3,
            "inner": {"rate": 0.1},
            "pair": [0.0, 1.0],
            "folder": "a/b",
        },
        "scalars": [1.5, 3, True, 2],
        "dtype": "torch.float16",
        "1": None,
    }
    assert [type(v) for v in plain["scalars"]] == [float, int, bool, int]


def test_difference_names_the_first_place() -> None:
    saved = {"seed": 0, "settings": {"epochs": 3, "rate": 0.1}}
    assert difference(saved, {"seed": 0, "settings": {"epochs": 3, "rate": 0.1}}) is None
    assert difference(saved, {"seed": 0, "settings": {"epochs": 3, "rate": 0.2}}) == ("settings.rate", 0.1, 0.2)
    assert difference(saved, {"seed": 0, "settings": {"epochs": 3}}) == ("settings.rate", 0.1, None)
    assert difference(saved, {**saved, "more": 1}) == ("more", None, 1)


def test_a_value_of_another_kind_is_told_with_what_is_wanted() -> None:
    expect("n", 3, Integral)
    expect("n", None, Integral, NoneType)
    with pytest.raises(ConfigError, match=r"^n is to be a whole number or None, not '3'$"):
        expect("n", "3", Integral, NoneType)
    with pytest.raises(ConfigError, match=r"^n is to be a whole number, not True$"):
        expect("n", True, Integral)
    with pytest.raises(ConfigError, match=r"^n is to be a number, not the class int: such as 1$"):
        expect("n", int, Real, hint="such as 1")
    with pytest.raises(ConfigError, match=r"^path is to be text or a path, not an OrderedDict$"):
        expect("path", OrderedDict(), str, PathLike)
