"""Sources that other people have stored: files, addresses, RobustBench's zoo, with what is known beside the file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import torch
from foreign_states import kuangliu_file, photos
from safetensors.torch import save_file
from web import Reply, serving

from robust_transfer.data import Split
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.foreign.evidence import UndecidedError
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.zoos import entries, find, tables
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


def test_a_file_of_a_zoo_is_known_by_its_hash_wherever_it_lies(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = dataclasses.replace(find("cifar10/Linf/Carmon2019Unlabeled"), architecture="ResNet18", sha256=sha256)
    with pytest.raises(UndecidedError):
        load_source(weights)
    monkeypatch.setattr(tables, "entries", lambda zoo=None: (entry,))
    card = load_source(weights).card
    assert (str(card.threat), card.network.settings["activation"]) == ("linf:8/255", "relu")
    assert card.network.preprocessing.normalisation.std == (1.0, 1.0, 1.0)
    assert card.origin["sha256"] == sha256
    assert card.origin["published"] == "as RobustBench has it: cifar10/Linf/Carmon2019Unlabeled"
    assert card.origin["published_accuracy"] == {"clean": 89.69, "robust": 59.53}
    assert "measured it under" in card.origin["threat"]
    told = load_source(weights, hints=Hints(threat=Threat.parse("l2:0.5"))).card
    assert (str(told.threat), told.origin["threat"]) == ("l2:0.5", "given")


def test_the_hash_of_shards_is_that_of_their_list(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)["state_dict"]
    names = sorted(state)
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for name, keys in shards.items():
        save_file({key: state[key] for key in keys}, tmp_path / name)
    places = {key: name for name, keys in shards.items() for key in keys}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    files = [index, tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    listed = subprocess.run(
        ["sha256sum", *(file.name for file in files)], cwd=tmp_path, capture_output=True, check=True
    )
    sha256 = load_source(index, hints=RAW).card.origin["sha256"]
    assert sha256 == hashlib.sha256(listed.stdout).hexdigest()


def test_names_of_the_zoo_that_are_no_one_file() -> None:
    kind = FromRobustBench()
    with pytest.raises(UnknownNameError, match="Carmon2019Unlabeled"):
        kind.get("robustbench:cifar10/Linf/Carmon2019Unlabelled")
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
    with pytest.raises(ConfigError, match="'bundled' has a complete card"):
        load_source("bundled", hints=RAW)
    assert FromHub().takes("hf:owner/repo@main/model.safetensors")
    assert [entry.cls().takes("hf:owner/repo") for entry in SOURCES].count(True) == 1
