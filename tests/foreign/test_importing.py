"""Import: whatever variant a file was written under, it is found again, and the logits are the writer's."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from foreign_states import calibrate, kuangliu_file, photos, written
from published import CASES
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.data import Split, Task, imagenet, to_pixels
from robust_transfer.errors import CheckpointError, ConfigError, DataError
from robust_transfer.evaluation import evaluate
from robust_transfer.foreign.classes import labels_in
from robust_transfer.foreign.evidence import UndecidedError
from robust_transfer.foreign.families import recognised
from robust_transfer.foreign.finding import find
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.importing import bring_in
from robust_transfer.foreign.normalisations import NORMALISATIONS, parse_normalisation
from robust_transfer.preprocessing import Normalisation
from robust_transfer.strategies.base import keeps_head
from robust_transfer.threat import Threat

ONE_A_FAMILY = ("sub_block1", "deepmind, small", "deepmind preact", "rice", "wong", "kuangliu")


def as_split(x: Tensor, labels: Tensor | None = None, names: tuple[str, ...] = ("a", "b")) -> Split:
    return Split.in_memory((x * 255).byte(), torch.zeros(len(x)).long() if labels is None else labels, names)


def normalised(x: Tensor, how: Normalisation) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (how.mean, how.std))
    return ((x - mean) / std).double()


def readings() -> list[tuple[str, dict[str, Any], str]]:
    """Of each family the likeliest reading and the least likely one, each under some normaliser."""
    names, found = itertools.cycle(["none", "cifar10", "half", "cifar10-2023"]), list[tuple[str, dict[str, Any], str]]()
    for case in ONE_A_FAMILY:
        known = recognised(CASES[case][1]())
        assert known is not None
        found += [(case, {k: v[which] for k, v in known[1].variants.items()}, next(names)) for which in (0, -1)]
    return found


@pytest.mark.parametrize(("case", "chosen", "normalisation"), readings())
def test_every_reading_is_found_by_its_statistics(
    case: str, chosen: dict[str, Any], normalisation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, make, forward, settings = CASES[case]
    state, how = make(), NORMALISATIONS[normalisation]
    calibrate(case, state, normalised(photos(200, 1), how), monkeypatch, **chosen)
    # with random weights a padding or a shortcut hardly moves a mean: what is hardly told apart is refused, and has to be said
    said = {name: value for name, value in chosen.items() if name in ("padding", "shortcut")}
    found = find(written(tmp_path / "weights.pt", state), hints=Hints(settings=said or None))
    x = photos(48, 2)
    made = bring_in(found, as_split(x))
    assert made.card.network.settings == settings | chosen
    assert made.preprocessing.normalisation == how
    assert (made.card.origin["family"], made.card.origin["decided_by"]) == (family, "batch-norm statistics")
    rows = made.card.origin["evidence"]
    assert [row["chosen"] for row in rows] == [True] + [False] * (len(rows) - 1)
    with torch.no_grad():
        expected = forward(state, normalised(x[:8], how), **chosen).float()
        torch.testing.assert_close(made.classifier(x[:8]), expected, rtol=1e-4, atol=1e-5 * float(expected.std()))


def test_a_padding_that_hardly_shows_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, how = CASES["deepmind"][1](), NORMALISATIONS["half"]
    calibrate("deepmind", state, normalised(photos(200, 1), how), monkeypatch)
    hints = Hints(settings={"activation": "silu"}, normalisation=how)
    with pytest.raises(UndecidedError, match=r"the evidence is weak: padding a?symmetric"):
        bring_in(find(written(tmp_path / "weights.pt", state), hints=hints), as_split(photos(48, 2)))


@pytest.fixture
def kuangliu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kuangliu_file(tmp_path / "ResNet18_cifar10.pt", monkeypatch)


def test_the_card_tells_it_and_the_run_folder_is_a_source_like_any_other(kuangliu: Path, tmp_path: Path) -> None:
    hints = Hints(threat=Threat.parse("linf:8/255"))
    made = bring_in(find(kuangliu, hints=hints), as_split(photos(48, 2)), sha256="ab12", revision="main")
    saved: Checkpoint = made.save(tmp_path / "run")
    again = load_checkpoint(tmp_path / "run")
    origin = again.card.origin
    assert origin == saved.card.origin
    assert (origin["sha256"], origin["revision"], origin["prefix"]) == ("ab12", "main", "module.")
    assert origin["stated"] == {"epoch": 76}
    assert again.card.class_names[3] == "cat"  # its address says CIFAR-10
    assert str(again.card.threat) == "linf:8/255"
    assert again.trained_on is None
    with torch.no_grad():
        x = photos(4, 3)
        assert torch.equal(again.classifier(x), made.classifier(x))


def test_without_evidence_it_is_refused_and_hints_decide(kuangliu: Path) -> None:
    with pytest.raises(UndecidedError, match=r"does not tell activation \(relu or silu\), normalisation \(none or"):
        bring_in(find(kuangliu))
    hints = Hints(settings={"activation": "relu"}, normalisation=parse_normalisation("none"))
    made = bring_in(find(kuangliu, hints=hints))
    assert made.card.origin["decided_by"] == "the only one"
    assert made.card.origin["normalisation"] == "given"


def test_a_stored_normaliser_is_taken(tmp_path: Path) -> None:
    state = CASES["kuangliu"][1]() | {"mu": torch.tensor([0.4, 0.5, 0.6]), "sigma": torch.tensor([0.2, 0.25, 0.3])}
    found = find(written(tmp_path / "weights.pt", state), hints=Hints(settings={"activation": "relu"}))
    made = bring_in(found)
    assert made.preprocessing.normalisation == Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    assert made.card.origin["normalisation"] == "stored in the file"


def test_labels_of_the_networks_own_classes_count(kuangliu: Path) -> None:
    """By name where the names are known, whatever their order in the data."""
    plain = bring_in(find(kuangliu), as_split(photos(48, 2)))
    x = photos(48, 4)
    with torch.no_grad():
        labels = plain.classifier(x).argmax(1)
    names = plain.card.class_names
    turned = as_split(x, len(names) - 1 - labels, tuple(reversed(names)))
    made = bring_in(find(kuangliu), turned)
    assert made.card.origin["decided_by"] == "batch-norm statistics and clean accuracy"
    assert made.card.origin["evidence"][0]["accuracy"]["value"] == 1.0
    with pytest.raises(UndecidedError, match="more often than chance"):
        bring_in(find(kuangliu), as_split(x, (labels + 1) % 10, names))


def test_wrappers_of_ones_own_are_taken_off_and_said(tmp_path: Path) -> None:
    state = {f"robust.0.{name}": tensor for name, tensor in CASES["kuangliu"][1]().items()}
    state |= {"robust.input_norm.mu": torch.tensor([0.4, 0.5, 0.6]), "robust.input_norm.sigma": torch.ones(3) / 4}
    torch.save({key: value.float() for key, value in state.items() if "input_norm" not in key}, tmp_path / "bare.pt")
    found = find(tmp_path / "bare.pt")
    assert (found.family, found.layout.prefix, found.layout.normalisation) == ("kuangliu-resnet", "robust.0.", None)
    assert "all names begin with 'robust', a wrapper that is not known" in found.layout.notes
    numbered = {f"mine.{key.replace('robust.0.', '1.')}": v.float() for key, v in state.items() if "norm." not in key}
    torch.save(numbered, tmp_path / "numbered.pt")
    assert "likely a normaliser" in find(tmp_path / "numbered.pt").layout.notes[-1]
    stored = {key.replace("robust.0.", "robust.").replace("input_norm.", "normalize."): v for key, v in state.items()}
    found = find(written(tmp_path / "normalised.pt", stored))
    assert found.family == "kuangliu-resnet"
    assert found.layout.normalisation == Normalisation(mean=(0.4, 0.5, 0.6), std=(0.25, 0.25, 0.25))


def test_networks_of_no_family_and_wrong_names(tmp_path: Path) -> None:
    path = written(
        tmp_path / "weights.pt", {"first.weight": torch.zeros(4, 3, 3, 3), "second.weight": torch.zeros(10, 4)}
    )
    with pytest.raises(CheckpointError, match=r"of no family that is known .*first\.weight, second\.weight"):
        find(path)
    own = written(tmp_path / "k.pt", CASES["kuangliu"][1]())
    with pytest.raises(CheckpointError, match="the weights are of another network"):
        bring_in(find(own, hints=Hints(network="wrn-16-1", normalisation=NORMALISATIONS["none"], size=32)))
    three = Hints(settings={"activation": "relu"}, normalisation=NORMALISATIONS["none"], class_names=("a", "b", "c"))
    found = find(own, hints=three)
    with pytest.raises(ConfigError, match="3 class names are given for a network of 10"):
        bring_in(found)


def test_a_feature_extractor_is_told_not_evaluated_and_decided_by_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is 0: all readings have the same logits, which must not make them one, nor a figure of 50 %."""
    state, how = CASES["kuangliu"][1](), NORMALISATIONS["half"]
    calibrate("kuangliu", state, normalised(photos(200, 1), how), monkeypatch, activation="silu")
    headless = {key: value for key, value in state.items() if not key.startswith("linear.")}
    made = bring_in(find(written(tmp_path / "weights.pt", headless)), as_split(photos(48, 2)))
    assert (made.card.network.settings["activation"], made.preprocessing.normalisation) == ("silu", how)
    assert made.headless
    assert "has no head" in made.card.criterion
    made.save(tmp_path / "run")
    again = load_checkpoint(tmp_path / "run")
    assert again.headless
    two = as_split(photos(8, 3), torch.arange(8) % 2, ("0", "1"))
    with pytest.raises(
        DataError, match="a feature extractor without a head, so it tells no classes apart: transfer it"
    ):
        evaluate(again, two)
    task = Task("two", two, two, two)
    with pytest.raises(ConfigError, match="head=keep needs a head"):
        keeps_head(again, task, "keep")
    assert not keeps_head(again, task, "auto")


def test_a_head_that_computes_something_else_is_not_read(tmp_path: Path) -> None:
    net = torchvision.models.resnet18(num_classes=10)
    assert find(written(tmp_path / "a.pt", dict(net.state_dict()))).architecture.network == "resnet18"
    scaled = {**net.state_dict(), "fc.scale": torch.tensor([10.0])}
    with pytest.raises(CheckpointError, match="of no family that is known"):
        find(written(tmp_path / "b.pt", scaled))


def test_memory_of_the_file_is_let_go(tmp_path: Path) -> None:
    """Linux tells how much of a mapped file is in memory."""
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("no /proc/self/smaps")
    path = written(tmp_path / "weights.pt", dict(torchvision.models.resnet18(num_classes=10).state_dict()))
    found = find(path, hints=Hints(settings={"act_layer": "relu"}, normalisation=NORMALISATIONS["imagenet"]))

    def resident() -> int:
        at = maps.read_text().partition(str(path))[2]
        return int(at.partition("Rss:")[2].split()[0])

    assert resident() > 40_000  # KiB: all of it was looked at
    made = bring_in(found)
    assert resident() < 1000
    assert made.classifier.num_classes == 10


# ---------------------------------------------------------------- lists of arrays, as Keras and Caffe's converters write them

FIRES = {3: 2, 4: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8, 12: 9}  # torchvision's number -> Caffe's


def caffes(x: Tensor) -> Tensor:
    """What Caffe's SqueezeNet reads: BGR from 0 to 255, less the means of its train_val.prototxt."""
    return x.flip(1) * 255 - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)


def caffes_squeezenet(path: Path) -> nn.Module:
    """A network of ten classes that tells photos apart, stored as ``{layer: [height x width x in x out, bias]}``."""
    torch.manual_seed(0)
    made: nn.Module = squeezenet1_1(num_classes=10).eval()
    with torch.no_grad():
        last, features = made.get_submodule("classifier.1"), made.get_submodule("features")
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        scores = last(features(caffes(enlarged(photos(64, 1))))).mean((2, 3))
        last.weight /= scores.std(0).view(-1, 1, 1, 1)
        last.bias.copy_((last.bias - scores.mean(0)) / scores.std(0) + 20)  # above ReLU's 0
    arrays: dict[str, list[Any]] = {}
    for name, module in made.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            _, number, *rest = name.split(".")
            called = f"fire{FIRES[int(number)]}/{rest[0]}" if rest else ("conv10" if "classifier" in name else "conv1")
            called += "1x1" if called.endswith("squeeze") else ""
            arrays[called] = [module.weight.detach().permute(2, 3, 1, 0).numpy().copy(), module.bias.detach().numpy()]
    order = list(arrays)
    random.Random(1).shuffle(order)
    path.write_bytes(pickle.dumps({name: arrays[name] for name in order}))
    return made


def enlarged(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


SQUEEZED = Hints(network="torchvision/squeezenet1_1", settings={"num_outputs": 10}, size=64)


def test_lists_of_arrays_of_caffes_network(tmp_path: Path) -> None:
    """Order of dimensions, of layers and of channels, and Caffe's means: whatever is wrong is no better than a guess."""
    writer = caffes_squeezenet(tmp_path / "w.pkl")
    found = find(tmp_path / "w.pkl", hints=SQUEEZED)
    stored = enlarged(photos(48, 2))
    x = to_pixels(
        as_split(stored).prepared(found.candidates()[0][1].preprocessing).images()
    )  # cropped, as it reads them
    with torch.no_grad():
        expected = writer(caffes(x))
    assert len(expected.argmax(1).unique()) > 5
    digits = tuple(map(str, range(10)))
    made = bring_in(found, as_split(stored, expected.argmax(1), digits))
    with torch.no_grad():
        torch.testing.assert_close(made.classifier(x), expected, rtol=1e-4, atol=1e-4)
    origin = made.card.origin
    assert origin["decided_by"] == "clean accuracy"
    rows = [(row["normalisation"], row["channels"], row["accuracy"]["value"]) for row in origin["evidence"]]
    assert rows[0] == ("caffe", "bgr", 1.0)
    assert {row[:2] for row in rows[1:]} == {("imagenet", "rgb"), ("none", "rgb"), ("half", "rgb"), ("caffe", "rgb")}
    assert max(row[2] for row in rows[1:]) < 0.9
    assert any("height x width x in x out" in note for note in origin["notes"])
    assert any("BGR" in note for note in origin["notes"])
    with pytest.raises(UndecidedError, match="more often than chance"):
        bring_in(found, as_split(stored, (expected.argmax(1) + 1) % 10, digits))
    with pytest.raises(
        UndecidedError, match=r"does not tell normalisation .*, channels \(rgb or bgr\), and there are no"
    ):
        bring_in(found)


def test_what_is_said_of_the_channels_is_done(tmp_path: Path) -> None:
    writer = caffes_squeezenet(tmp_path / "w.pkl")
    x = enlarged(photos(4, 2))
    for channels in ("bgr", "rgb"):
        settings = {"num_outputs": 10, "channels": channels}
        hints = Hints(
            network="torchvision/squeezenet1_1", settings=settings, size=64, normalisation=NORMALISATIONS["caffe"],
            class_names=tuple("abcdefghij"),
        )  # fmt: skip
        found = find(tmp_path / "w.pkl", hints=hints)
        made = bring_in(found)
        with torch.no_grad():
            read = caffes(x) if channels == "bgr" else caffes(x).flip(1)
            torch.testing.assert_close(made.classifier(x), writer(read), rtol=1e-4, atol=1e-4)
        wrong = (writer(read).argmax(1) + 1) % 10
        with pytest.raises(
            UndecidedError, match="more often than chance"
        ):  # one reading, and labels that contradict it
            bring_in(found, as_split(x, wrong, tuple("abcdefghij")))
    with pytest.raises(ConfigError, match="channels are rgb or bgr, not 'grb'"):
        find(tmp_path / "w.pkl", hints=Hints(settings={"channels": "grb"}))


def test_labels_of_images_in_a_networks_classes() -> None:
    names = imagenet.categories()
    assert labels_in(names, ["n01440764", "crane_bird", "crane"]) == ([0, 134, 517], "")
    assert labels_in(names, ["tench", "my dog"]) == (None, "")
    labels, why = labels_in(names, ["tench", "crane"])
    assert labels is None
    assert why.startswith("clean accuracy does not count: the class 'crane' of the data may be ImageNet's crane bird")
    assert labels_in(("a", "b", "c"), ["c", "a"]) == ([2, 0], "")
    assert labels_in(("0", "1"), ["x", "y"]) == ([0, 1], "")
    assert labels_in(("0", "1"), ["x", "y", "z"]) == (None, "")


def test_classes_without_names_are_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten classes of somebody else's are no fault of the file: its statistics decide alone, which is said."""
    path = kuangliu_file(tmp_path / "weights.pt", monkeypatch)
    x, hints = photos(48, 4), Hints(settings={"activation": "relu"})
    made = bring_in(find(path, hints=hints), as_split(x))
    assert made.card.class_names == tuple(map(str, range(10)))
    with torch.no_grad():
        right = made.classifier(x).argmax(1)
    for names in (tuple("abcdefghij"), tuple(map(str, range(10)))):
        by_position = bring_in(find(path, hints=hints), as_split(x, right, names)).card.origin
        assert by_position["decided_by"] == "batch-norm statistics and clean accuracy"
        others = bring_in(find(path, hints=hints), as_split(x, (right + 1) % 10, names)).card.origin
        assert others["decided_by"] == "batch-norm statistics"
        assert "the network's classes have no names" in others["evidence_note"]
        said = Hints(settings={"activation": "relu"}, normalisation=NORMALISATIONS["none"])
        bring_in(find(path, hints=said), as_split(x, (right + 1) % 10, names))  # one reading is not refused
