"""huggingface_hub's mixin over run folders: what it saves, pushes and loads, and what it does not load."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_digits, make_source, same_state
from huggingface_hub import ModelCard, ModelHubMixin
from small_hub import COMMIT, OLDER, Hub

import robust_transfer as rt
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.evaluation import evaluate
from robust_transfer.publishing import HubModel, push_to_hub

RUN = {"model.safetensors", "card.json", "config.yaml", "README.md"}


def test_it_is_the_classifier_of_the_checkpoint(model: Checkpoint) -> None:
    made = HubModel(model)
    assert isinstance(made, ModelHubMixin)
    assert not made.training
    x = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(made(x), model.classifier(x))
    with pytest.raises(ConfigError, match="such as load_source"):
        HubModel("bundled")  # type: ignore[arg-type]


def test_what_is_pushed_is_loaded_again(hub: Hub, model: Checkpoint, tmp_path: Path) -> None:
    address = HubModel(model).push_to_hub("acme/net", private=True, commit_message="first")
    assert str(address) == f"{hub.address}/acme/net/commit/{COMMIT}"
    assert hub.private == {"acme/net"}
    files = hub.repositories["acme/net"]
    assert set(files) == RUN, "a run folder: no pickle, no configuration of another kind"
    files["pytorch_model.bin"] = b"a pickle that nobody asks for"
    again = HubModel.from_pretrained("acme/net", cache_dir=tmp_path / "elsewhere")
    assert same_state(again, HubModel(model))
    assert again.checkpoint.hash == model.hash
    assert not any("pytorch_model" in path for path in hub.asked)
    assert rt.load_source("hf:acme/net").hash == model.hash
    found = HubModel.from_pretrained("acme/net", cache_dir=tmp_path / "elsewhere", local_files_only=True)
    assert same_state(found, again)
    HubModel.from_pretrained("acme/net", revision="v1", cache_dir=tmp_path / "elsewhere")
    assert any(OLDER in path for path in hub.asked)


def test_the_two_ways_to_push_write_the_same(hub: Hub, model: Checkpoint) -> None:
    found = evaluate(model, make_digits().test, attack="fgsm", red_flag_examples=0, run=QUIET)
    words = {"dataset": "acme/digits", "base_model": "acme/robust", "licence": "mit"}
    push_to_hub(model, "acme/net", evaluations=[found], **words)  # type: ignore[arg-type]
    wanted = dict(hub.repositories["acme/net"])
    hub.repositories.clear()
    HubModel(model).push_to_hub("acme/net", model_card_kwargs={"evaluations": [found], **words})
    assert hub.repositories["acme/net"] == wanted
    assert b"robust accuracy (linf:8/255" in wanted["README.md"]
    with pytest.raises(ConfigError, match="is of other weights"):
        HubModel(make_source(seed=1)).push_to_hub("acme/other", model_card_kwargs={"evaluations": [found], **words})
    assert "acme/other" not in hub.repositories


def test_a_folder_holds_it_in_the_precision_it_had(
    model: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = model.save(tmp_path / "run", dtype=torch.float16)
    assert HubModel(half).save_pretrained(tmp_path / "saved") is None
    assert {path.name for path in (tmp_path / "saved").iterdir()} == RUN
    weights = "model.safetensors"
    assert (tmp_path / "saved" / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()
    with caplog.at_level(logging.WARNING):
        assert HubModel.from_pretrained(tmp_path / "saved").checkpoint.hash == half.hash
    assert caplog.records == []
    card = ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "robust-transfer"
    assert 'rt.load_source("path/to/this/folder")' in card.text


def test_what_is_no_run_is_refused(hub: Hub, model: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hf:acme/none is not to be had"):
        HubModel.from_pretrained("acme/none")
    with pytest.raises(CheckpointError, match="hf:not a name is not to be had"):
        HubModel.from_pretrained("not a name")
    hub.repositories["acme/pickle"] = {"pytorch_model.bin": b"x"}
    with pytest.raises(CheckpointError, match=r"card\.json is missing"):
        HubModel.from_pretrained("acme/pickle")
    push_to_hub(model, "acme/bad")
    content = bytearray(hub.repositories["acme/bad"]["model.safetensors"])
    content[-1] ^= 1
    hub.repositories["acme/bad"]["model.safetensors"] = bytes(content)
    with pytest.raises(CheckpointError, match="not the file that its card describes"):
        HubModel.from_pretrained("acme/bad")
    with pytest.raises(ConfigError, match="does not know width"):
        HubModel.from_pretrained("acme/bad", width=3)
