"""Names are found, and names that do not exist get an answer that helps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from robust_transfer.errors import ConfigError, UnknownNameError
from robust_transfer.registry import Entry, Registry, nearest, unknown


@pytest.fixture
def registry() -> Registry[object]:
    made: Registry[object] = Registry("attack")
    made.register("pgd", summary="steps", paper="Madry et al. 2018")(int)
    made.register("square-attack", summary="queries", paper="Andriushchenko et al. 2020")(str)
    return made


def test_entries_are_found_in_registration_order(registry: Registry[object]) -> None:
    assert registry.names() == ["pgd", "square-attack"]
    assert [entry.name for entry in registry] == registry.names()
    assert len(registry) == 2
    assert registry.get("pgd") is int
    assert registry.entry("square-attack") == Entry("square-attack", str, "queries", "Andriushchenko et al. 2020")
    assert registry.name_of(str) == "square-attack"


def test_unknown_name_lists_the_nearest(registry: Registry[object]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.get("Square_Atack")
    assert str(caught.value) == "unknown attack 'Square_Atack': did you mean 'square-attack'?"
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_status == 2


def test_unknown_name_without_a_near_one_lists_all(registry: Registry[object]) -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown attack 'zzz': known: pgd, square-attack\.$"):
        registry.entry("zzz")


def test_a_long_list_is_cut() -> None:
    message = unknown("network", "zzz", [f"net{i:03d}" for i in range(1300)])
    assert message.endswith("net018, net019 and 1280 more.")
    assert len(message) < 300


def test_unregistered_class_has_no_name(registry: Registry[object]) -> None:
    with pytest.raises(UnknownNameError, match="float is not a registered attack"):
        registry.name_of(float)


def test_a_name_is_registered_once(registry: Registry[object]) -> None:
    with pytest.raises(ValueError, match="'pgd' is registered twice"):
        registry.register("pgd", summary="", paper="")(float)


@pytest.mark.parametrize(
    ("typed", "meant"), [("LWF", "lwf"), ("fine_tune", "fine-tune"), ("linear-prob", "linear-probe"), ("pdg", "pgd")]
)
def test_nearest(typed: str, meant: str) -> None:
    assert nearest(typed, ["lwf", "fine-tune", "linear-probe", "pgd"])[0] == meant


def test_nearest_gives_at_most_three() -> None:
    assert len(nearest("net", ["net1", "net2", "net3", "net4"])) == 3


def test_a_package_that_cannot_be_loaded_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, code in (("broken", "raise RuntimeError('boom')\n"), ("fine", "")):
        (tmp_path / f"a_{name}_package.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[robust_transfer.things]\n{name} = a_{name}_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    things: Registry[object] = Registry("thing", group="robust_transfer.things")
    things.register("mine", summary="a thing", paper="")(int)
    assert things.names() == ["mine"]
    assert "a_fine_package" in sys.modules, "one that is broken keeps no other away"
    assert [record.getMessage() for record in caplog.records] == ["the thing 'broken' of broken cannot be loaded: boom"]
