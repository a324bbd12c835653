"""Builders: what they make knows its name and arguments, as they are kept with the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from robust_transfer import networks
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.networks import builders, register_builder


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(builders.BUILDERS)
    yield
    builders.BUILDERS.clear()
    builders.BUILDERS.update(before)


def test_arguments_are_kept_by_name_as_json_has_them() -> None:
    @register_builder("net")
    def make(width: int, depths: Any = (1, 2), **more: Any) -> nn.Module:
        return nn.Linear(width, 2)

    made = make(3, rates={"drop": 0.1})
    assert isinstance(made, nn.Linear)
    assert networks.mark_of(made) == ("net", {"width": 3, "depths": [1, 2], "rates": {"drop": 0.1}})
    assert networks.mark_of(nn.Linear(3, 2)) is None
    assert make.__name__ == "make"


def test_a_class_can_be_a_builder() -> None:
    @register_builder("class")
    class Net(nn.Linear):
        pass

    assert networks.mark_of(Net(3, out_features=2)) == (
        "class",
        {"in_features": 3, "out_features": 2, "bias": True, "device": None, "dtype": None},
    )


def test_what_cannot_be_kept_is_refused() -> None:
    @register_builder("net")
    def make(act: Any = None, **more: Any) -> nn.Module:
        return nn.Identity()

    @register_builder("positions")
    def positions(*widths: int) -> nn.Module:
        return nn.Identity()

    with pytest.raises(ConfigError, match="'net' was given act=ReLU, which cannot be stored with the weights"):
        make(act=nn.ReLU())
    with pytest.raises(ConfigError, match="'net' was given act=dict"):
        make(act={1: 2})
    with pytest.raises(ConfigError, match="'positions' takes 'widths' by position"):
        positions(1, 2)


def test_names_are_taken_once() -> None:
    def make() -> nn.Module:
        return nn.Identity()

    register_builder("net")(make)
    register_builder("net")(make)  # its module was reloaded

    def other() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ConfigError, match="the builder 'net' is registered twice"):
        register_builder("net")(other)


def test_networks_of_builders_come_without_their_last_layer() -> None:
    register_builder("net")(lambda width: nn.Sequential(nn.Flatten(), nn.Linear(12, width)))
    made = networks.create("net", num_classes=0, input_size=2, width=3, head_layer="1")
    assert isinstance(made, nn.Sequential)
    assert isinstance(made[1], nn.Identity)
    for settings, message in (
        ({"width": 3, "head_layer": "fc"}, "the network has no layer 'fc'"),
        ({"widht": 3, "head_layer": "1"}, "the builder 'net' fails: .*'widht'"),
    ):
        with pytest.raises(NetworkError, match=message):
            networks.create("net", num_classes=0, input_size=2, **settings)


def test_entry_points_are_loaded_when_a_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Point:
        value = "their_package.nets"

        def __init__(self, name: str | None) -> None:
            self.name = name

        def load(self) -> None:
            if self.name is None:
                raise ImportError("their package is broken")
            register_builder(self.name)(nn.Identity)

    def points(group: str) -> list[Point]:
        assert group == "robust_transfer.networks"
        return [Point(None), Point("theirs")]

    monkeypatch.setattr(builders, "_loaded", False)
    monkeypatch.setattr(builders, "entry_points", points)
    assert builders.builder("theirs") is not None
    assert builders.builder("nobody's") is None
    assert "their_package.nets cannot be loaded: their package is broken" in caplog.text
