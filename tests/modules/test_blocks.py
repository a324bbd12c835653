"""Blocks of modules without a description, in the order of computation; norms and dropout among frozen ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import QUIET, make_digits
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.networks import builders, register_builder
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.strategies import LastBlocks


def blocks_of(module: nn.Module, size: int = 32) -> list[tuple[str, ...]]:
    classifier = Classifier.from_module(module, Preprocessing(size=size))
    blocks = classifier.blocks()
    assert sorted(n for block in blocks for n in block) == sorted(classifier.state_dict()), "all state, once"
    return [tuple(dict.fromkeys(n.removeprefix("body.") for n in block)) for block in blocks]


def starts(blocks: list[tuple[str, ...]]) -> list[str]:
    return [block[0].rpartition(".")[0] for block in blocks]


# ---------------------------------------------------------------- blocks


def test_a_residual_network_of_torchvisions() -> None:
    found = blocks_of(torchvision.models.resnet18(weights=None, num_classes=3))
    units = [f"layer{stage}.{unit}.conv1" for stage in (1, 2, 3, 4) for unit in (0, 1)]
    assert starts(found) == ["conv1", *units, "head"]
    assert "bn1.running_var" in found[0], "a norm belongs to what it normalises"
    assert "layer2.0.downsample.1.bias" in found[3]


def test_a_transformer_of_torchvisions() -> None:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    found = blocks_of(torchvision.models.VisionTransformer(num_classes=7, **sizes))
    assert len(found) == 5
    assert set(found[0]) == {"class_token", "conv_proj.weight", "conv_proj.bias", "encoder.pos_embedding"}
    assert all(name.startswith("encoder.layers.encoder_layer_1.") for name in found[2])
    assert found[3][-2:] == ("encoder.ln.weight", "encoder.ln.bias")


def test_stages_that_are_modules_of_their_own() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.units = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            for unit in self.units:
                x = unit(x)
            return x

    found = blocks_of(nn.Sequential(Stage(), Stage(), nn.Flatten(), nn.Linear(192, 4)), 8)
    assert starts(found) == ["0.units.0.0", "0.units.1.0", "1.units.0.0", "1.units.1.0", "head"]


def test_a_wrapper_is_no_block() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    inner = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 2))
    assert starts(blocks_of(Wrapper(inner), 8)) == ["inner.1", "head"]


class Backwards(nn.Module):
    """Layers that do not stand in the order in which they compute, and dropout that is used between two of them."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.drop = nn.Dropout2d(0.5)
        self.third = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), norm(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), norm(4), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm(4), nn.ReLU())
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Any:
        x = self.drop(self.first(x))
        return self.fc(self.third(self.second(x)).mean((2, 3)))


def test_blocks_are_in_the_order_of_computation() -> None:
    assert starts(blocks_of(Backwards(), 8)) == ["first.0", "unused", "second.0", "third.0", "head"]


# ---------------------------------------------------------------- norms, frozen and trained


def group(width: int) -> nn.Module:
    return nn.GroupNorm(2, width)


def instance(width: int) -> nn.Module:
    return nn.InstanceNorm2d(width, affine=True, track_running_stats=True)


def layer(width: int) -> nn.Module:
    return nn.LayerNorm([width, 8, 8])


class Own(nn.Module):
    """Batch norm as people write it themselves: no subclass of PyTorch's."""

    running_mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))
        self.register_buffer("running_mean", torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean.lerp_(x.detach().mean((0, 2, 3)).view(-1, 1, 1), 0.1)
        return (x - self.running_mean) * self.weight


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "group": group,
    "layer": layer,
    "instance": instance,
    "frozen batch": FrozenBatchNorm2d,
    "own": Own,
}


def train_a_little(classifier: Classifier) -> None:
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for seed in range(3):
        classifier.eval().train()
        x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        F.cross_entropy(classifier(x), torch.arange(8)).backward()
        optimizer.step()


def with_norm(name: str) -> Classifier:
    made = Classifier.from_module(Backwards(NORMS[name]), Preprocessing(size=8))
    for key, value in made.state_dict().items():
        if "running_" in key:
            value.uniform_(0.5, 1.0).mul_(-1 if "mean" in key else 1)  # no ReLU after it is dead
    return made


def is_statistic(name: str) -> bool:
    return "running_" in name or "num_batches" in name


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("frozen_blocks", [1, 3, 4])
def test_frozen_blocks_stand_still_and_the_others_move(norm: str, frozen_blocks: int) -> None:
    classifier = with_norm(norm)
    frozen = {name for block in classifier.blocks()[:frozen_blocks] for name in block}
    classifier.freeze(frozen)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    train_a_little(classifier)
    for key, value in classifier.state_dict().items():
        stands = key in frozen or _never_moves(key, norm)
        assert torch.equal(value, before[key]) == stands, key


def _never_moves(key: str, norm: str) -> bool:
    if norm == "instance" and "num_batches" in key:  # it has a counter, and does not count
        return True
    return key.startswith("body.unused") or (norm == "frozen batch" and ".1." in key)


@pytest.mark.parametrize("norm", NORMS)
def test_held_norms_train_their_weights_but_not_their_statistics(norm: str) -> None:
    classifier = with_norm(norm)
    classifier.hold_batch_norm = True
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    train_a_little(classifier)
    for key, value in classifier.state_dict().items():
        stands = is_statistic(key) or _never_moves(key, norm)
        assert torch.equal(value, before[key]) == stands, key


@pytest.mark.parametrize("norm", NORMS)
def test_last_blocks_are_drawn_anew_and_the_others_kept(norm: str) -> None:
    before = dict(builders.BUILDERS)
    try:
        make = register_builder("backwards")(lambda: Backwards(NORMS[norm]))
        classifier = Classifier.from_module(make(), Preprocessing(size=8))
        names = tuple(str(i) for i in range(8))
        source = Checkpoint(classifier, Card(network=classifier.spec, class_names=names, method="made"))
        start = LastBlocks(blocks=2).start(source, make_digits(train=32, val=8, test=8), QUIET)
    finally:
        builders.BUILDERS.clear()
        builders.BUILDERS.update(before)
    for key, value in classifier.state_dict().items():
        if key.endswith("0.weight"):
            assert torch.equal(value, start.classifier.state_dict()[key]) != key.startswith("body.third"), key
    kept = {name for name, parameter in start.classifier.named_parameters() if not parameter.requires_grad}
    assert not any(name.startswith(("head", "body.third")) for name in kept)
    assert {"body.first.0.weight", "body.second.0.bias"} <= kept


def test_dropout_between_frozen_blocks_is_off_wherever_it_stands() -> None:
    classifier = Classifier.from_module(Backwards(), Preprocessing(size=8))
    blocks = classifier.blocks()
    classifier.freeze(blocks[0]).train()
    assert classifier.get_submodule("body.drop").training, "between a frozen and a trained block"
    classifier.freeze([name for block in blocks[1:3] for name in block]).train()
    assert not classifier.get_submodule("body.drop").training
    assert classifier.get_submodule("body.third").training
    seen = list[Tensor]()
    classifier.get_submodule("body.second").register_forward_hook(lambda part, inputs, out: seen.append(out))
    x = torch.rand(4, 3, 8, 8)
    classifier(x)
    classifier(x)
    assert torch.equal(seen[0], seen[1])


def test_dropout_inside_attention_is_off_in_frozen_layers_and_on_in_trained_ones() -> None:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    module = torchvision.models.VisionTransformer(num_classes=7, dropout=0.5, attention_dropout=0.5, **sizes)
    classifier = Classifier.from_module(module, Preprocessing(size=32))
    classifier.freeze([name for block in classifier.blocks()[:3] for name in block]).train()
    layers = classifier.get_submodule("body.encoder.layers")
    seen = dict[str, list[Tensor]]()
    for path, part in layers.named_children():
        part.register_forward_hook(lambda part, inputs, out, path=path: seen.setdefault(path, []).append(out))
    x = torch.rand(2, 3, 32, 32)
    classifier(x)
    classifier(x)
    assert torch.equal(*seen["encoder_layer_1"])
    assert not torch.equal(*seen["encoder_layer_2"])
