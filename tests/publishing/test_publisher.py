"""Repositories that are pushed to a small Hub of our own, read by the Hub's own classes, and loaded again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from cli_helpers import Invoke
from helpers import QUIET, make_digits, make_source, same_state
from huggingface_hub import ModelCard
from small_hub import COMMIT, Hub

import robust_transfer as rt
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.download.hub_files import BESIDE
from robust_transfer.errors import CheckpointError, ConfigError, OutputError
from robust_transfer.evaluation import Evaluation, evaluate
from robust_transfer.evaluation.corrupted import Corrupted, Kind
from robust_transfer.evaluation.further import UnderThreat
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.publishing import push_to_hub
from robust_transfer.publishing.page import base_models, trained_on
from robust_transfer.publishing.results import figures
from robust_transfer.statistics.intervals import wilson
from robust_transfer.trained_on import FINGERPRINTS


@pytest.fixture(scope="module")
def found(model: Checkpoint) -> Evaluation:
    return evaluate(model, make_digits().test, attack="pgd-2", red_flag_examples=0, run=QUIET)


def test_what_is_pushed_is_loaded_again_to_the_same_weights(hub: Hub, model: Checkpoint, found: Evaluation) -> None:
    assert push_to_hub(model, "acme/net", evaluations=[found]) == f"{hub.address}/acme/net/commit/{COMMIT}"
    files = hub.repositories["acme/net"]
    assert set(files) == {"model.safetensors", "card.json", "config.yaml", "README.md"}, "no pickle, no .eval_results"
    again = rt.load_source("hf:acme/net")
    assert same_state(again.classifier, model.classifier)
    assert again.hash == model.hash
    assert dataclasses.replace(again.card, weights_hash="") == model.card
    assert rt.load_source(f"hf:acme/net@{COMMIT}/model.safetensors").hash == model.hash
    repeated = evaluate(again, make_digits().test, attack="pgd-2", red_flag_examples=0, run=QUIET)
    assert repeated.robust_accuracy == found.robust_accuracy
    assert hub.private == set()


def test_half_precision_and_fingerprints_travel(hub: Hub, model: Checkpoint, tmp_path: Path) -> None:
    half = model.save(tmp_path / "half", dtype=torch.float16)
    push_to_hub(half, "acme/half", private=True)
    assert hub.private == {"acme/half"}
    assert hub.repositories["acme/half"]["model.safetensors"] == (tmp_path / "half" / "model.safetensors").read_bytes()
    assert rt.load_source("hf:acme/half").hash == half.hash
    assert {FINGERPRINTS, "card.json"} <= set(BESIDE), "what a run folder holds is downloaded with its weights"
    push_to_hub(model, "acme/open")
    with pytest.raises(OutputError, match="open to all"):
        push_to_hub(model, "acme/open", private=True)


def test_damaged_and_foreign_repositories(hub: Hub, model: Checkpoint) -> None:
    push_to_hub(model, "acme/net")
    hub.repositories["acme/bad"] = dict(hub.repositories["acme/net"])
    content = bytearray(hub.repositories["acme/net"]["model.safetensors"])
    content[-1] ^= 1
    hub.repositories["acme/bad"]["model.safetensors"] = bytes(content)
    with pytest.raises(CheckpointError, match="not the file that its card describes"):
        rt.load_source("hf:acme/bad")
    hub.repositories["acme/other"] = {**hub.repositories["acme/net"], "card.json": b'{"name": "somebody else\'s"}'}
    with pytest.raises(CheckpointError) as told:  # read as anybody's weights, which these names are not
        rt.load_source("hf:acme/other")
    assert "card" not in str(told.value)


def test_hints_on_it_are_refused_and_inspect_shows_its_card(hub: Hub, model: Checkpoint, invoke: Invoke) -> None:
    push_to_hub(model, "acme/net")
    status, out, _ = invoke("inspect", "hf:acme/net", "--json")
    assert (status, json.loads(out)["card"]["method"]) == (0, "made")
    status, _, err = invoke("inspect", "hf:acme/net", "--network", "resnet18")
    assert (status, "has a complete card" in err) == (2, True)


def test_further_threats_and_corruptions_have_figures_of_their_own(found: Evaluation) -> None:
    more = UnderThreat("l2:0.5", wilson(20, 80), wilson(10, 80), 80, 800, 1.0)
    under = Corrupted(
        80, 32, 0, wilson(44, 80), {"fog": Kind(wilson(44, 80), [wilson(44, 80)])}, 80, 1.0, {"made": "1"}
    )
    rows = list(figures(dataclasses.replace(found, further=[more], corrupted=under)))
    assert rows[:2] == list(figures(found))
    (name, value, how), (last, mean, made) = rows[2:]
    assert (name, value, how["threat"]) == ("robust accuracy (l2:0.5, pgd-2)", wilson(20, 80), "l2:0.5")
    assert (last, mean, "threat" in made) == ("corrupted accuracy (mCA)", wilson(44, 80), False)
    assert made["made_by"] == {"made": "1"}


def test_the_hub_reads_the_card(hub: Hub, model: Checkpoint, found: Evaluation, tmp_path: Path) -> None:
    words = {"dataset": "acme/digits", "task_id": "default", "base_model": "acme/robust", "licence": "mit"}
    folder = Path(push_to_hub(model, "acme/net", evaluations=[found], dry_run=tmp_path / "out", **words))  # type: ignore[arg-type]
    assert hub.repositories == {}
    assert folder == tmp_path / "out"
    card = ModelCard.load(folder / "README.md")
    card.validate()  # by the server's answer; the rest is by the client's own classes
    data = card.data
    told = (data.base_model, data.license, data.pipeline_tag, data.library_name, data.datasets)
    assert told == ("acme/robust", "mit", "image-classification", "robust-transfer", ["acme/training"])
    clean, robust = data.eval_results
    assert (clean.metric_name, clean.metric_value) == ("clean accuracy", round(found.clean_accuracy.value, 6))
    assert (robust.metric_name, robust.metric_type) == ("robust accuracy (linf:8/255, pgd-2)", "accuracy")
    assert robust.metric_value == round(found.robust_accuracy.value, 6)
    assert (robust.dataset_type, robust.dataset_split, robust.task_type) == (
        "acme/digits", found.split, "image-classification",
    )  # fmt: skip
    how = robust.metric_args
    assert (how["threat"], how["attack"], how["n"]) == ("linf:8/255", "pgd-2", 80)
    assert how["interval_95"] == [round(found.robust_accuracy.low, 6), round(found.robust_accuracy.high, 6)]
    assert f"| {found.robust_accuracy} | 80 of acme/digits" in card.text
    assert 'rt.load_source("hf:acme/net")' in card.text
    files = {path.name: yaml.safe_load(path.read_text()) for path in (folder / ".eval_results").iterdir()}
    assert set(files) == {"clean-accuracy.yaml", "robust-accuracy-linf-8-255-pgd-2.yaml"}
    for dataset in (None, "acme/digits", "digits"):
        other = push_to_hub(model, "acme/net", evaluations=[found], dataset=dataset, dry_run=tmp_path / str(dataset))
        assert not (Path(other) / ".eval_results").exists(), "only for a task of a benchmark"
        [first, _] = ModelCard.load(Path(other) / "README.md").data.eval_results
        assert first.dataset_type == (dataset or "acme/training")
    if hasattr(huggingface_hub, "parse_eval_result_entries"):
        entries = {name: huggingface_hub.parse_eval_result_entries(content) for name, content in files.items()}
        [plain], [attacked] = entries["clean-accuracy.yaml"], entries["robust-accuracy-linf-8-255-pgd-2.yaml"]
        assert (plain.dataset_id, plain.task_id, plain.value, plain.notes) == (
            "acme/digits", "default", round(found.clean_accuracy.value, 6), None,
        )  # fmt: skip
        assert attacked.value == round(found.robust_accuracy.value, 6)
        assert "pgd-2" in (attacked.notes or "")


def test_what_it_comes_from_is_told_by_the_card(model: Checkpoint) -> None:
    imported = Provenance(method="import", data=f"hf:acme/robust@{COMMIT}/model.safetensors", weights="1")
    trained = Provenance(method="lwf", data="hf:acme/images", weights="2", source=imported)
    for source, wanted in (
        (None, []),
        (imported, ["acme/robust"]),
        (trained, ["acme/robust"]),
        (
            Mixture(a=trained, b=dataclasses.replace(imported, data="hf:acme/other@v1/x.pt")),
            ["acme/robust", "acme/other"],
        ),
        (dataclasses.replace(imported, data="https://example.org/x.pt"), []),
    ):
        assert base_models(dataclasses.replace(model.card, source=source)) == wanted
    own = dataclasses.replace(model.card, origin={"address": "hf:acme/itself@abc/model.safetensors"})
    assert base_models(own) == ["acme/itself"]


def test_data_of_which_only_the_weights_are_known_has_no_name(model: Checkpoint) -> None:
    assert trained_on(model.card) == "acme/training"
    imported = dataclasses.replace(model.card, method="import", data={"name": "hf:acme/robust@main/model.safetensors"})
    assert trained_on(imported) is None


def test_what_does_not_fit_is_refused(hub: Hub, model: Checkpoint, found: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no repository"):
        push_to_hub(model, "net")
    with pytest.raises(ConfigError, match="is of other weights"):
        push_to_hub(make_source(seed=1), "acme/net", evaluations=[found])
    with pytest.raises(ConfigError, match="say what it was evaluated on"):
        push_to_hub(make_source(threat="linf:8/255"), "acme/net", evaluations=[found])
    with pytest.raises(ConfigError, match="benchmark on the Hub"):
        push_to_hub(model, "acme/net", evaluations=[found], task_id="default")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="is not empty"):
        push_to_hub(model, "acme/net", dry_run=tmp_path / "full")
    assert hub.repositories == {}
    hub.status = 401
    with pytest.raises(OutputError, match="hf auth login"):
        push_to_hub(model, "acme/net")


def test_on_the_command_line(hub: Hub, model: Checkpoint, invoke: Invoke, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    saved = model.save(tmp_path / "run")
    evaluated = evaluate(saved, make_digits().test, attack="fgsm", red_flag_examples=0, run=run)
    status, out, _ = invoke("push", tmp_path / "run", "acme/net", "--dry-run", tmp_path / "dry")
    assert (status, out) == (0, f"wrote {tmp_path / 'dry'}; nothing was sent\n")
    assert f"{evaluated.robust_accuracy}" in (tmp_path / "dry" / "README.md").read_text()
    assert hub.repositories == {}
    status, out, _ = invoke("push", tmp_path / "run", "acme/net", "--private")
    assert (status, out) == (0, f"pushed hf:acme/net: {hub.address}/acme/net/commit/{COMMIT}\n")
    assert set(hub.repositories["acme/net"]) == {"model.safetensors", "card.json", "config.yaml", "README.md"}
    assert hub.repositories["acme/net"]["README.md"] == (tmp_path / "dry" / "README.md").read_bytes()
