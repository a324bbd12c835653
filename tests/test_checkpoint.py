"""Checkpoints load as saved; other contents of a run folder are refused in one sentence."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import make_classifier, same_state
from safetensors.torch import load_file, save
from torch import Tensor

from robust_transfer import checkpoint as checkpoint_module
from robust_transfer.checkpoint import CARD, WEIGHTS, Card, Checkpoint, finished, load_checkpoint, weights_hash
from robust_transfer.classifier import Classifier
from robust_transfer.cost import Cost
from robust_transfer.errors import CheckpointError, ConfigError, OutputError
from robust_transfer.provenance import Provenance
from robust_transfer.run import Run
from robust_transfer.threat import Threat

NAMES = tuple("0123456789")
FILES = {WEIGHTS, CARD, "config.yaml", "README.md"}
X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def make(seed: int = 0, **settings: Any) -> Checkpoint:
    classifier = make_classifier(seed).eval()
    card = Card(network=classifier.spec, class_names=NAMES, method="pretrain:natural", seed=seed, **settings)
    return Checkpoint(classifier, card)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make().save(tmp_path / "run")
    return tmp_path / "run"


def edit_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def put_weights(folder: Path, data: bytes) -> None:
    """Replace the weights, and vouch for them on the card."""
    (folder / WEIGHTS).write_bytes(data)
    edit_card(folder, lambda card: card.update(weights_hash=hashlib.sha256(data).hexdigest()))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    put_weights(folder, save(tensors))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    full = {
        "settings": {"epochs": 3.0, "nested": {"a": [1, None]}},
        "threat": "linf:8/255",
        "data": {"name": "digits", "hash": "0" * 16},
        "source": Provenance(method="x", data=None, weights="w"),
        "metrics": {"val_clean_accuracy": 0.5},
        "events": ("step 3: something",),
        "cost": Cost(passes=12.5, adversarial_examples=7, seconds=0.5),
    }
    made = make(3, **full)
    saved = made.save(tmp_path / "a" / "run")
    loaded = load_checkpoint(tmp_path / "a" / "run")
    assert {p.name for p in (tmp_path / "a" / "run").iterdir()} == FILES
    for other in (saved, loaded):
        assert same_state(other.classifier, made.classifier)
        assert torch.equal(other.classifier(X), made.classifier(X))
        assert not other.classifier.training
        assert dataclasses.replace(other.card, weights_hash="") == made.card
        assert other.hash == made.hash
        assert other.input_size == 8
    assert yaml.safe_load((tmp_path / "a" / "run" / "config.yaml").read_text()) == {
        "method": "pretrain:natural",
        "settings": full["settings"],
        "seed": 3,
    }
    readme = (tmp_path / "a" / "run" / "README.md").read_text()
    assert "| val_clean_accuracy | 0.5 |" in readme
    assert "linf:8/255" in readme


def test_the_card_on_disk_is_flat(tmp_path: Path) -> None:
    """Cards of earlier versions have the same fields, some of which they may lack."""
    source = Provenance(method="x", data=None, weights="w")
    cost = Cost(passes=12.5, adversarial_examples=7, seconds=0.5)
    make(threat=Threat.parse("l2:0.5"), source=source, cost=cost).save(tmp_path)
    told = json.loads((tmp_path / CARD).read_text())
    assert (told["cost"], told["adversarial_examples"], told["seconds"]) == (12.5, 7, 0.5)
    assert (told["threat"], told["source"]) == ("l2:0.5", {"method": "x", "data": None, "weights": "w"})
    card = load_checkpoint(tmp_path).card
    assert (card.cost, card.threat, card.source) == (cost, Threat(norm="l2", eps=0.5), source)
    edit_card(tmp_path, lambda card: [card.pop(key) for key in ("cost", "adversarial_examples", "seconds", "source")])
    assert load_checkpoint(tmp_path).card.cost == Cost()


def test_loading_leaves_no_trace_in_the_global_generator(folder: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_float16_is_within_its_rounding_and_loads_as_float32(tmp_path: Path) -> None:
    made = make()
    loaded = made.save(tmp_path, dtype=torch.float16)
    assert loaded.card.weights_dtype == "float16"
    assert load_file(tmp_path / WEIGHTS)["head.weight"].dtype is torch.float16
    for key, value in loaded.classifier.state_dict().items():
        exact = made.classifier.state_dict()[key]
        assert value.dtype is exact.dtype
        torch.testing.assert_close(value, exact, rtol=2**-11, atol=2**-25)
    assert (tmp_path / WEIGHTS).stat().st_size < 0.6 * sum(
        v.numel() * v.element_size() for v in made.classifier.state_dict().values()
    )


def test_only_float32_and_float16_are_stored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"torch.float32 or torch.float16, not torch.bfloat16"):
        make().save(tmp_path, dtype=torch.bfloat16)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), torch.float32), (1e5, torch.float16)])
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    made = make()
    with torch.no_grad():
        made.classifier.get_parameter("head.weight")[3, 3] = value
    with pytest.raises(CheckpointError, match=f"not finite in {dtype}: nothing was saved"):
        made.save(tmp_path / "run", dtype=dtype)
    assert not (tmp_path / "run").exists()


def test_the_hash_sees_every_weight_but_not_the_layout() -> None:
    made = make()
    before = weights_hash(made.classifier)
    assert len(before) == 16
    assert weights_hash(made.classifier.copy().to(memory_format=torch.contiguous_format)) == before
    for key, value in made.classifier.state_dict().items():
        last, old = tuple(n - 1 for n in value.shape), value.clone()
        value[last] += 1
        assert weights_hash(made.classifier) != before, key
        value.copy_(old)


def test_a_card_has_a_name_for_every_class() -> None:
    with pytest.raises(ConfigError, match="3 class names for 10 classes"):
        Card(network=make_classifier().spec, class_names=("a", "b", "c"), method="x")


# ---------------------------------------------------------------- what is refused


def test_folders_that_are_no_finished_run(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder .*nowhere: give a run folder"):
        load_checkpoint(tmp_path / "nowhere")
    for name in (WEIGHTS, CARD):
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=f"is no finished run: {name} is missing"):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no card of this project"),
        ("[1, 2]", "is no card of this project"),
        ("[" * 100_000, "is no card of this project"),
        ('{"schema": 1}', "is no card of this project .*network"),
        ('{"schema": 1, "network": 3}', "is no card of this project"),
        ('{"schema": 2}', "has schema 2, this version reads 1: update robust-transfer"),
        ('{"schema": "x"}', "has schema 'x', this version reads 1: it is no card"),
        ('{"model_type": "vit"}', "has schema None"),
    ],
)
def test_files_that_are_no_card(folder: Path, text: str, message: str) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(treat="linf:8/255"), "unknown setting of card 'treat': did you mean 'threat'"),
        (lambda card: card.pop("method"), "method"),
        (lambda card: card.update(class_names=["a"]), "1 class names for 10 classes"),
        (lambda card: card["network"].update(deph=3), "unknown setting of network 'deph'"),
        (lambda card: card["network"]["preprocessing"]["normalisation"].update(std=[0, 1, 1]), "positive std"),
        (lambda card: card["network"].update(name="wrn_16_11"), "unknown network 'wrn_16_11': did you mean"),
        (
            lambda card: card["network"].update(settings={"checkpoint_path": "evil.pt"}),
            "'checkpoint_path' is no setting",
        ),
        (lambda card: card.update(weights_hash=""), "the hash differs"),
    ],
)
def test_cards_that_do_not_fit(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_card(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_weights_of_another_network(folder: Path) -> None:
    edit_card(folder, lambda card: card["network"].update(name="wrn_16_2"))
    with pytest.raises(CheckpointError, match=r"the weights are of another network: .* a 'wrn_16_2' has"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.bias"), "the file lacks 'head.bias' for a 'wrn_16_1'"),
        (lambda t: t.update(extra=torch.ones(1)), "the file has an extra 'extra' for a 'wrn_16_1'"),
        (
            lambda t: t.update({"head.bias": torch.ones(11)}),
            r"'head.bias' is torch.float32 \(11,\), a .* has .* \(10,\)",
        ),
        (lambda t: t.update({"head.bias": torch.ones(10, dtype=torch.int64)}), r"'head.bias' is torch.int64 \(10,\)"),
        (lambda t: t["head.weight"][0].fill_(torch.nan), "not finite, in 'head.weight'"),
        (
            lambda t: t.update({"head.bias": torch.full((10,), 1e300, dtype=torch.float64)}),
            "not finite, in 'head.bias'",
        ),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    edit_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_one_flipped_bit_is_noticed(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is not the file that its card describes \(the hash differs\)"):
        load_checkpoint(folder)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (99,)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-100], "is damaged"),
        (lambda data: data[:5], "is damaged"),
        (lambda data: b"", "is damaged"),
        (lambda data: b"\xff" * 8 + data[8:], "is damaged"),
        (lambda data: pickle.dumps(Bomb()), "is a pickle, which can run code, so it is not loaded"),
        (lambda data: b"PK\x03\x04" + data, "is a pickle, which can run code, so it is not loaded"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the weights"),
    ],
)
def test_files_that_are_no_safetensors(folder: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    put_weights(folder, spoil((folder / WEIGHTS).read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_header_as_long_as_a_pickle_is_no_pickle(folder: Path) -> None:
    """A safetensors file begins with its header's length, and that may begin like a pickle."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    padding = (0x80 - length) % 256
    header = data[8 : 8 + length] + b" " * padding
    put_weights(folder, len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert (folder / WEIGHTS).read_bytes().startswith(b"\x80")
    assert same_state(load_checkpoint(folder).classifier, make().classifier)


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    for name in (WEIGHTS, CARD):

        def refuse(path: Path, *how: Any, refused: str = name, **more: Any) -> Any:
            if path.name == refused:
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(path, *how, **more)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refuse)
            with pytest.raises(CheckpointError, match=f"cannot read .*{name}: Permission denied"):
                load_checkpoint(folder)


# ---------------------------------------------------------------- writing


def full_after(files: int) -> Callable[..., None]:
    """``os.replace`` on a disk that has room for so many files."""
    left, replace = iter(range(files)), os.replace

    def full(*arguments: Any, **keywords: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*arguments, **keywords)

    return full


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_leaves_whole_files_only(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Whichever of the four files does not fit: it stays as it was, and nothing temporary is left."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full_after(failing))
        with pytest.raises(OutputError, match="the disk is full"):
            make(1).save(folder)
    assert {p.name for p in folder.iterdir()} == FILES
    order = (WEIGHTS, "config.yaml", "README.md", CARD)
    assert all((folder / name).read_bytes() == before[name] for name in order[failing:])
    if failing == 0:
        assert same_state(load_checkpoint(folder).classifier, make().classifier)
    if failing:  # new weights beside the old card must not pass for either
        with pytest.raises(CheckpointError, match="the hash differs"):
            load_checkpoint(folder)


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_leaves_an_empty_folder_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr(os, "replace", full_after(failing))
    with pytest.raises(OutputError, match="the disk is full"):
        make(1).save(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("after", range(4))
def test_a_run_that_is_killed_while_it_is_saved_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever of the four files it comes to: only with the card, the last of them, is it taken for finished."""
    left, replace = iter(range(after)), os.replace

    def killed(*arguments: Any, **keywords: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(*arguments, **keywords)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make().save(tmp_path / "run")
    assert finished(Run(out=tmp_path / "run", resume=True), {}) is None


def test_a_finished_run_is_taken_as_it_is_or_refused(folder: Path) -> None:
    edit_card(folder, lambda card: card.update(data={"name": "x", "hash": "abc"}, settings={"epochs": 3.0}))
    wanted = {"method": "pretrain:natural", "seed": 0, "settings": {"epochs": 3.0}, "data": "abc"}
    found = finished(Run(out=folder, resume=True), wanted)
    assert found is not None
    assert same_state(found.classifier, make().classifier)
    assert finished(Run(out=folder), wanted) is None
    assert finished(Run(resume=True), wanted) is None
    for other, message in (
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"settings": {"epochs": 4.0}}, "settings.epochs was 3.0 and is now 4.0"),
        ({"data": "abd"}, "data was 'abc' and is now 'abd'"),
    ):
        with pytest.raises(CheckpointError, match=f"cannot resume .*run: {message}; give the settings"):
            finished(Run(out=folder, resume=True), {**wanted, **other})
    (folder / WEIGHTS).unlink()
    assert finished(Run(out=folder, resume=True), wanted) is None


def test_a_card_of_before_preprocessing_was_a_value_is_read(folder: Path) -> None:
    before = load_checkpoint(folder).card

    def flatten(card: dict[str, Any]) -> None:
        preprocessing = card["network"].pop("preprocessing")
        card["network"].update(input_size=preprocessing["size"], normalisation=preprocessing["normalisation"])

    edit_card(folder, flatten)
    assert "preprocessing" not in (folder / CARD).read_text()
    assert load_checkpoint(folder).card == before


def test_the_schema_is_on_the_card(folder: Path) -> None:
    assert json.loads((folder / CARD).read_text())["schema"] == checkpoint_module.SCHEMA == 1


def test_weights_of_another_network_are_seen_before_that_network_takes_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_card(folder, lambda card: card["network"].update(name="wrn_34_10"))
    devices, build = list[str](), Classifier.build

    def noted(*given: Any) -> Classifier:
        devices.append(str(torch.empty(0).device))
        return build(*given)

    monkeypatch.setattr(Classifier, "build", noted)
    with pytest.raises(CheckpointError, match="the weights are of another network"):
        load_checkpoint(folder)
    assert devices == ["meta"]
