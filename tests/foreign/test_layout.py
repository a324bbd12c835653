"""Layouts of checkpoints: wrappers, prefixes, stored normalisers, copies, as the public repositories write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.foreign.contents import Contents, Inert
from robust_transfer.foreign.layout import Layout, lay_out
from robust_transfer.preprocessing import Normalisation

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
MEAN, STD = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)


def network(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = dict(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).state_dict())
    return {k: v + 0.5 if "running" in k else v for k, v in state.items()}


NET = {f"layer{k}": v for k, v in network().items()}
PLAIN = {k: v for k, v in NET.items() if not k.endswith("num_batches_tracked")}


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{k}": v for k, v in state.items()}


def laid(tree: Any, weights: str | None = None) -> Layout:
    return lay_out(Contents(tree=tree, format="made", refused=(), metadata={}), weights)


def assert_is_the_network(found: Layout, expected: Mapping[str, Tensor] = PLAIN) -> None:
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[k], v) for k, v in expected.items())


def madry(prefix: str = "module.", std: Tensor = STD) -> dict[str, Tensor]:
    """MadryLab's AttackerModel: the network, a normaliser, and the attacker's copies of both."""
    own = {**under("model.", NET), "normalizer.new_mean": MEAN.view(3, 1, 1), "normalizer.new_std": STD.view(3, 1, 1)}
    copy = {**under("model.", NET), "normalize.new_mean": MEAN.view(3, 1, 1), "normalize.new_std": std.view(3, 1, 1)}
    return under(prefix, {**own, **under("attacker.", copy)})


def stored(mean: str, std: str, shape: tuple[int, ...] = (3,), scale: float = 1.0) -> dict[str, Tensor]:
    return {mean: MEAN.view(shape) * scale, std: STD.view(shape) * scale}


IDIOM = {**under("model.", NET), **stored("normalize.mean", "normalize.std")}
WRITTEN: dict[str, tuple[Any, str, str, bool]] = {
    "bare": (NET, "", "", False),
    "DataParallel": ({"state_dict": under("module.", NET), "epoch": 3}, "state_dict", "module.", False),
    "MadryLab": (
        {"model": madry(), "optimizer": {"state": {0: {"m": torch.ones(2, 2)}}}},
        "model",
        "module.model.",
        True,
    ),
    "MadryLab, DummyModel": ({"model": madry("module.model.")}, "model", "module.model.model.", True),
    "advertorch's idiom": ({"state_dict": under("module.", IDIOM)}, "state_dict", "module.model.", True),
    "Sequential": ({"net": {**under("1.", NET), **stored("0.mean", "0.std", (1, 3, 1, 1))}}, "net", "1.", True),
    "mu and sigma": ({**NET, **stored("mu", "sigma", (1, 3, 1, 1))}, "", "", True),
    "a ConvStem's": (under("base_model.", IDIOM), "", "base_model.model.", True),
    "Lightning": ({"state_dict": under("model.", NET), "loops": {}}, "state_dict", "model.", False),
    "torch.compile": (under("_orig_mod.", NET), "", "_orig_mod.", False),
    "0 to 255": (
        {**under("model.", NET), **stored("normalizer.mean", "normalizer.std", scale=255)},
        "",
        "model.",
        True,
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_layouts_of_the_public_repositories(name: str) -> None:
    tree, where, prefix, normalised = WRITTEN[name]
    found = laid(tree)
    assert_is_the_network(found)
    assert (found.where, found.prefix) == (where, prefix)
    assert found.normalisation == (IMAGENET if normalised else None)


def test_averaged_weights_are_preferred_and_said() -> None:
    other = {f"layer{k}": v for k, v in network(1).items()}
    tree = {
        "unaveraged_model_state_dict": under("module.", other), "model_state_dict": under("module.", NET),
        "optimizer_state_dict": {"state": {}}, "epoch": 400,
    }  # fmt: skip
    found = laid(tree)
    assert_is_the_network(found)
    assert found.where == "model_state_dict"
    assert found.others == ("unaveraged_model_state_dict",)
    [note] = found.notes
    assert "averaged weights (EMA)" in note
    assert "'unaveraged_model_state_dict'" in note
    picked = laid(tree, "unaveraged_model_state_dict")
    assert_is_the_network(picked, {k: v for k, v in other.items() if "num_batches" not in k})
    timm = laid({"state_dict": other, "state_dict_ema": NET, "arch": "xcit_small_12_p16_224"})
    assert_is_the_network(timm)
    assert timm.stated == {"arch": "xcit_small_12_p16_224"}


def test_of_the_last_and_the_best_the_last_is_taken_unless_somebody_says() -> None:
    other = {f"layer{k}": v for k, v in network(1).items()}
    tree = {"best": other, "last": NET}
    found = laid(tree)
    assert_is_the_network(found)
    assert found.others == ("best",)
    assert "'best'" in found.notes[0]
    assert laid(tree, "best").where == "best"
    with pytest.raises(ConfigError, match="unknown set of weights in the file 'bset'"):
        laid(tree, "bset")


def test_a_second_copy_that_differs_is_refused() -> None:
    assert "equal to the first" in laid({"model": madry()}).dropped[0]
    broken = madry()
    broken["module.attacker.model.layer0.weight"] = broken["module.attacker.model.layer0.weight"] + 1e-3
    with pytest.raises(CheckpointError, match=r"differ in 'attacker\.model\.layer0\.weight'"):
        laid({"model": broken})
    with pytest.raises(CheckpointError, match="two normalisers that differ"):
        laid({"model": madry(std=STD + 0.1)})


def test_what_stands_in_a_sequential_without_weights_is_said() -> None:
    found = laid(under("module.1.", NET))
    assert_is_the_network(found)
    assert "likely a normaliser" in found.notes[0]


def test_half_precision_is_computed_in_float32() -> None:
    found = laid({k: v.half() if v.is_floating_point() else v for k, v in NET.items()})
    assert found.state["layer0.weight"].dtype is torch.float32
    assert found.notes == ("stored in float16, computed in float32",)


def test_averages_that_lack_their_statistics_are_noticed() -> None:
    """A frequent fault: parameters were averaged, and the statistics of batch norm stayed those of a new network."""
    new = {k: torch.full_like(v, float("var" in k)) if "running" in k else v for k, v in NET.items()}
    swapped = {"model_state_dict": under("module.", new), "unaveraged_model_state_dict": under("module.", NET)}
    with pytest.raises(
        CheckpointError, match=r"'model_state_dict' have .* of a new network .* say which of them to take"
    ):
        laid(swapped)
    assert_is_the_network(laid(swapped, "unaveraged_model_state_dict"))
    assert "never trained" in laid(swapped, "model_state_dict").notes[-1]
    assert "never trained" in laid(new).notes[-1]


def test_a_damaged_average_names_what_else_there_is() -> None:
    damaged = {**NET, "layer0.weight": NET["layer0.weight"] * float("nan")}
    with pytest.raises(CheckpointError, match=r"not finite, .* or take other weights of it \(state_dict\)"):
        laid({"state_dict": NET, "state_dict_ema": damaged})
    with pytest.raises(CheckpointError, match=r"negative variance, in 'layer1.running_var'"):
        laid({**NET, "layer1.running_var": -NET["layer1.running_var"]})


def test_what_is_no_weights() -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        laid({"epoch": 3, "args": Inert("argparse.Namespace")})
    with pytest.raises(CheckpointError, match="holds no weights"):
        laid({"optimizer": {"state": {"a": torch.ones(2, 2)}}})
    with pytest.raises(CheckpointError, match=r"not finite, in 'layer0\.weight'"):
        laid({**NET, "layer0.weight": NET["layer0.weight"] / 0})
    with pytest.raises(CheckpointError, match="divides by 0"):
        laid({**NET, "mu": MEAN, "sigma": STD * 0})


def test_plain_values_are_kept() -> None:
    tree = {
        "state_dict": NET,
        "epoch": 76,
        "best_prec1": 61.2,
        "args": {"lr": 0.1, "optim": "sgd"},
        "scheduler": {"x": 1},
    }
    assert laid(tree).stated == {"epoch": 76, "best_prec1": 61.2, "args.lr": 0.1}
