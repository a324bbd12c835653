"""Sources that other people have stored: files, addresses, RobustBench's zoo, with what is known beside the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_states import kuangliu_file, photos
from web import Reply, serving

from robust_transfer.data import Split
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.foreign.importing import Hints
from robust_transfer.foreign.zoos import entries
from robust_transfer.preprocessing import Normalisation
from robust_transfer.sources import SOURCES, list_sources, load_source
from robust_transfer.sources.foreign import Got
from robust_transfer.sources.hub import FromHub
from robust_transfer.sources.inspection import inspected
from robust_transfer.sources.robustbench import FromRobustBench
from robust_transfer.threat import Threat

RAW = Hints(settings={"activation": "relu"}, normalisation={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})  # type: ignore[arg-type]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kuangliu_file(tmp_path / "r18.pt", monkeypatch)


def test_a_file_is_a_source(weights: Path) -> None:
    found = load_source(weights, hints=RAW)
    assert (found.card.method, found.card.data["name"]) == ("import", "r18.pt")
    split = Split.in_memory((photos(32, 2) * 255).byte(), [0] * 32, ("a", "b"))
    assert load_source(weights, images=split).card.network == found.card.network


def test_an_address_is_fetched_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with serving() as site:
        site.pages["/r18.pt"] = Reply(weights.read_bytes())
        found = [load_source(f"{site.address}/r18.pt", hints=RAW) for _ in range(2)]
        assert len([asked for asked in site.asked if asked.path == "/r18.pt"]) == 1
    origin = found[0].card.origin
    assert origin["address"].endswith("/r18.pt")
    assert len(origin["sha256"]) == 64
    assert found[0].hash == found[1].hash


def test_robustbench_says_what_no_file_does() -> None:
    kind = FromRobustBench()
    carmon = kind.known("robustbench:cifar10/Linf/Carmon2019Unlabeled")
    assert str(carmon.threat) == "linf:8/255"
    assert carmon.threat_from is not None
    assert "RobustBench measured it under" in carmon.threat_from
    assert kind.known("robustbench:cifar10/Linf/Ding2020MMA").normalisation == Normalisation(
        per_image=True, unbiased=True
    )
    assert carmon.settings == {"activation": "relu"}
    assert carmon.normalisation is not None
    assert carmon.normalisation.std == (1.0, 1.0, 1.0)
    gowal = kind.known("robustbench:cifar10/Linf/Gowal2020Uncovering_28_10_extra")
    assert gowal.settings == {"activation": "silu", "padding": "asymmetric"}
    last = kind.known("robustbench:cifar10/Linf/Andriushchenko2020Understanding")
    assert (last.weights, last.settings) == ("last", {"activation": "relu", "shortcut": "input"})
    with pytest.raises(UnknownNameError, match="Carmon2019Unlabeled"):
        kind.known("robustbench:cifar10/Linf/Carmon2019Unlabelled")
    several = next(entry for entry in entries("robustbench") if len(entry.addresses) > 1)
    with pytest.raises(CheckpointError, match="is an ensemble of"):
        kind.get(several.source)


def test_whose_word_a_threat_is(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "robustbench:cifar10/Linf/Carmon2019Unlabeled"
    monkeypatch.setattr(FromRobustBench, "get", lambda self, name: Got(weights, name))
    page = inspected(name, RAW)
    assert page.card is not None
    [told] = [text for label, text in page.rows() if label == "threat"]
    assert told.startswith("linf:8/255 (what RobustBench measured it under; its paper says what it was trained against")
    said = inspected(name, Hints(**{**vars(RAW), "threat": Threat.parse("linf:4/255")}))
    assert said.origin["threat"] == "given"
    assert [text for label, text in said.rows() if label == "threat"] == ["linf:4/255 (given)"]
    nothing = inspected(str(weights), RAW)
    assert "threat" not in nothing.origin


def test_zoos_are_listed_one_by_one_where_sources_are_asked_for() -> None:
    short, whole = list_sources(), list_sources(zoos=True)
    assert whole["robustbench:cifar10/Linf/Carmon2019Unlabeled"] == (
        "WideResNet, threat linf:8/255, clean 89.7 %, robust 59.5 %"
    )
    assert "robustbench:cifar10/Linf/Carmon2019Unlabeled" not in short
    assert len(whole) > len(short) + 150


def test_names_that_say_themselves_what_they_are_take_no_hints() -> None:
    with pytest.raises(ConfigError, match="'bundled' says itself what it is"):
        load_source("bundled", hints=RAW)
    assert FromHub().takes("hf:owner/repo@main/model.safetensors")
    assert [entry.cls().takes("hf:owner/repo") for entry in SOURCES].count(True) == 1
