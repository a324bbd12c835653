"""Classifier: pixels in, logits out; blocks cover all state; frozen means frozen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, same_state
from timm.models import register_model
from torch import Tensor, nn

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.heads import new_head, replacement_head_rng
from robust_transfer.modes import eval_mode, without_weight_gradients
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run
from robust_transfer.training import NaturalObjective, TrainingSettings, fit

# timm networks of every kind, small ones: their image size, settings, and number of blocks.
FOREIGN: dict[str, tuple[int, dict[str, Any], int]] = {
    "resnet18": (32, {}, 10),
    "vit_tiny_patch16_224": (32, {"depth": 3, "drop_rate": 0.1, "pos_drop_rate": 0.5}, 5),
    "convnext_atto": (64, {"drop_path_rate": 0.5}, 14),
    "efficientnet_b0": (32, {}, 18),
    "mobilenetv3_small_050": (32, {}, 15),
}
X = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def foreign(name: str) -> Classifier:
    size, settings, _ = FOREIGN[name]
    return make_classifier(name=name, size=size, **settings)


# ---------------------------------------------------------------- specification


def test_a_spec_that_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="at least 2 classes"):
        NetworkSpec(name="wrn_16_1", num_classes=1, preprocessing=Preprocessing(size=8))


# ---------------------------------------------------------------- forward


def test_logits_are_the_head_on_the_features() -> None:
    classifier = make_classifier().eval()
    features = classifier.features(X)
    assert features.shape == (8, classifier.num_features) == (8, 64)
    assert bool((features >= 0).all()), "features are taken after the last activation"
    logits = features @ classifier.get_parameter("head.weight").T + classifier.get_parameter("head.bias")
    torch.testing.assert_close(classifier(X), logits)
    assert classifier.num_classes == 10
    assert classifier.device == torch.device("cpu")


def test_head_and_logits_are_float32_under_mixed_precision() -> None:
    classifier = make_classifier().eval()
    with torch.autocast("cpu", torch.bfloat16):
        features = classifier.features(X)
        logits = classifier(X)
    assert features.dtype is logits.dtype is torch.float32
    assert torch.equal(
        logits, F.linear(features, classifier.get_parameter("head.weight"), classifier.get_parameter("head.bias"))
    )


@pytest.mark.parametrize("name", ["wrn_16_1", "resnet18_cifar"])
def test_features_do_not_depend_on_the_memory_format(name: str) -> None:
    classifier = make_classifier(name=name).eval()
    expected = classifier.features(X)
    assert torch.equal(classifier.features(X.contiguous(memory_format=torch.channels_last)), expected)
    loaded = make_classifier(1, name=name).eval()
    loaded.load_state_dict({k: v.contiguous() for k, v in classifier.state_dict().items()})
    assert torch.equal(loaded.features(X), expected)


def test_heads_are_drawn_from_their_own_seed() -> None:
    torch.manual_seed(5)
    first = new_head(400, 100, replacement_head_rng(3))
    torch.rand(7)
    assert torch.equal(first.weight, new_head(400, 100, replacement_head_rng(3)).weight)
    assert not torch.equal(first.weight, new_head(400, 100, replacement_head_rng(4)).weight)
    assert float(first.weight.detach().std()) == pytest.approx(400**-0.5, rel=0.02)
    assert float(first.bias.detach().abs().max()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_new_head_is_not_the_one_that_a_network_began_with(seed: int) -> None:
    # features keep the directions of the head that they were trained with: drawn again, it would know the classes
    torch.manual_seed(seed)
    began = Classifier.build(make_classifier().spec)
    new = began.with_head(began.head.out_features, seed=seed)
    both = torch.stack(
        [began.get_parameter("head.weight").flatten(), new.get_parameter("head.weight").flatten()]
    ).detach()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 4 * both.shape[1] ** -0.5


# ---------------------------------------------------------------- structure


@pytest.mark.parametrize("name", ["wrn_16_1", "preact_resnet18_w32", "resnet18_cifar", *FOREIGN])
def test_blocks_hold_all_state_once_and_in_order(name: str) -> None:
    classifier = foreign(name) if name in FOREIGN else make_classifier(name=name)
    blocks = classifier.blocks()
    state = list(classifier.state_dict())
    assert [n for block in blocks for n in block] == state
    assert blocks[-1] == ("head.weight", "head.bias")
    assert all(any(classifier.state_dict()[n].dim() > 1 for n in block) for block in blocks), "no block is a mere norm"
    assert len(blocks) == (FOREIGN[name][2] if name in FOREIGN else {"wrn_16_1": 8}.get(name, 10))


@pytest.mark.parametrize("name", FOREIGN)
def test_timm_networks_fit(name: str) -> None:
    classifier = foreign(name).eval()
    x = torch.rand(2, 3, classifier.spec.input_size, classifier.spec.input_size)
    assert classifier.features(x).shape == (2, classifier.num_features)
    assert classifier(x).shape == (2, 10)


def test_features_are_what_the_head_sees_not_what_the_trunk_makes() -> None:
    """MobileNetV3 has a layer between pooling and head: 288 channels become 1024 features."""
    classifier = foreign("mobilenetv3_small_050")
    assert classifier.num_features == classifier.body.head_hidden_size == 1024
    assert classifier.body.num_features == 288


def test_blocks_of_a_network_without_a_description_are_those_of_its_tree() -> None:
    spec = NetworkSpec(name="mine", num_classes=2, preprocessing=Preprocessing(size=8))
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 4))
    layers = [tuple(f"{part}.{what}" for what in ("weight", "bias")) for part in ("body.1", "body.3", "head")]
    assert Classifier(body, nn.Linear(4, 2), spec).blocks() == layers


class Odd(nn.Module):
    """A network whose output is whatever ``give`` makes of pooled features."""

    def __init__(self, give: str) -> None:
        super().__init__()
        self.give, self.weight = give, nn.Parameter(torch.ones(1))
        self.default_cfg: dict[str, object] = {"classifier": "head"}

    def forward(self, x: Tensor) -> object:
        pooled = x.mean((2, 3)) * self.weight
        return {"tuple": (pooled, pooled), "dict": {"out": pooled}, "map": x}[self.give]


@pytest.fixture
def odd() -> Iterator[None]:
    def odd_network(pretrained: bool = False, give: str = "tuple", **_: object) -> Odd:
        return Odd(give)

    odd_network.__module__ = __name__
    sys.modules[__name__].__all__ = []  # type: ignore[attr-defined]
    register_model(odd_network)
    yield
    from timm.models import _registry

    _registry._model_entrypoints.pop("odd_network")


@pytest.mark.parametrize(
    ("give", "message"),
    [
        ("tuple", "several outputs"),
        ("dict", "several outputs"),
        ("map", r"no pooled features: it gives \(2, 3, 8, 8\)"),
    ],
)
@pytest.mark.usefixtures("odd")
def test_networks_that_do_not_give_one_vector_are_refused(give: str, message: str) -> None:
    with pytest.raises(NetworkError, match=f"'odd_network' has {message}"):
        make_classifier(name="odd_network", give=give)


def test_networks_with_several_heads_are_refused() -> None:
    with pytest.raises(NetworkError, match="'deit_tiny_distilled_patch16_224' has several heads"):
        make_classifier(name="deit_tiny_distilled_patch16_224", size=32, depth=1)


def test_images_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"'convnext_atto' cannot read 16x16 images: .*input size"):
        make_classifier(name="convnext_atto", size=16)


@pytest.mark.parametrize("training", [True, False])
def test_copies_share_nothing(training: bool) -> None:
    classifier = make_classifier().train(training).freeze()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    exact, other = classifier.copy(), classifier.with_head(5, seed=1)
    assert same_state(exact, classifier)
    assert other.num_classes == other.spec.num_classes == 5
    assert classifier.spec.num_classes == 10
    assert torch.equal(other.get_parameter("head.weight"), new_head(64, 5, replacement_head_rng(1)).weight)
    for copied in (exact, other):
        assert all(p.requires_grad for p in copied.parameters()), "nothing is frozen in a copy"
        assert {m.training for m in copied.modules()} == {training}
        with torch.no_grad():
            for value in copied.state_dict().values():
                value.add_(1)
        assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())


def test_a_copy_is_where_the_original_is() -> None:
    there = make_classifier().to("meta")
    assert {b.device.type for b in there.copy().buffers()} == {"meta"}
    assert {b.device.type for b in there.with_head(3).buffers()} == {"meta"}


# ---------------------------------------------------------------- freezing


def train_a_little(classifier: Classifier, steps: int = 3) -> None:
    """What could move a frozen weight: gradients, weight decay, batch statistics, and somebody's ``.train()``."""
    size = classifier.spec.input_size
    trained = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, weight_decay=0.1)
    for seed in range(steps):
        classifier.eval()
        classifier.train()
        x = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(seed))
        F.cross_entropy(classifier(x), torch.arange(8)).backward()
        optimizer.step()


def test_training_the_head_leaves_features_bit_identical(digits_task: Task) -> None:
    classifier = make_classifier().freeze()
    x = digits_task.test.images().float() / 255
    before = classifier.copy().eval().features(x)
    settings = TrainingSettings(epochs=1, batch_size=64, learning_rate=0.5, weight_decay=0.1, ema=0.5)
    result = fit(NaturalObjective(classifier, 400), digits_task.train, settings, Run(precision="float32", quiet=True))
    with classifier.eval_mode():
        assert torch.equal(classifier.features(x), before)
    assert torch.equal(classifier.train().features(x), before), "not even in training mode"
    assert torch.equal(result.classifier.features(x), before)
    assert not torch.equal(classifier.get_parameter("head.weight"), make_classifier().get_parameter("head.weight"))


@pytest.mark.parametrize("name", ["wrn_16_1", *FOREIGN])
@pytest.mark.parametrize("kept", [0.4, 0.8])
def test_a_partial_freeze_holds_exactly_those_blocks(name: str, kept: float) -> None:
    classifier = foreign(name) if name in FOREIGN else make_classifier()
    blocks = classifier.blocks()
    frozen = {n for block in blocks[: int(kept * len(blocks))] for n in block}
    classifier.freeze(frozen)
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    train_a_little(classifier)
    for key, value in classifier.state_dict().items():
        moves = not torch.equal(value, before[key])
        assert moves == (key not in frozen), key


def activations(classifier: Classifier, path: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = classifier.get_submodule(path).register_forward_hook(lambda module, inputs, out: seen.append(out))
    classifier(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "last_frozen"),
    [
        ("vit_tiny_patch16_224", "body.blocks.0"),
        ("convnext_atto", "body.stages.2"),
        ("efficientnet_b0", "body.blocks.3"),
    ],
)
def test_dropout_between_frozen_modules_is_off(name: str, last_frozen: str) -> None:
    """Position dropout and stochastic depth included: the frozen part is a function."""
    classifier = foreign(name)
    state = list(classifier.state_dict())
    end = max(i for i, n in enumerate(state) if n.startswith(f"{last_frozen}."))
    classifier.freeze(state[: end + 1]).train()
    size = classifier.spec.input_size
    x = torch.rand(4, 3, size, size)
    assert torch.equal(activations(classifier, last_frozen, x), activations(classifier, last_frozen, x))
    assert classifier.body.training, "the rest still trains"


def test_dropout_in_trained_modules_stays_on() -> None:
    classifier = foreign("vit_tiny_patch16_224")
    classifier.freeze([n for n in classifier.state_dict() if n.startswith("body.blocks.2")]).train()
    assert classifier.get_submodule("body.pos_drop").training
    assert classifier.get_submodule("body.blocks.1").training
    assert not classifier.get_submodule("body.blocks.2").training
    assert not classifier.get_submodule("body.blocks.2.mlp.drop1").training


def test_frozen_statistics_alone_are_held() -> None:
    classifier = make_classifier().freeze(["body.last.0.running_mean", "body.last.0.running_var"])
    norm = classifier.get_submodule("body.last.0")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    before = norm.running_mean.clone(), norm.weight.detach().clone()
    train_a_little(classifier)
    assert torch.equal(norm.running_mean, before[0])
    assert not torch.equal(norm.weight, before[1])


def test_freezing_adds_up_and_survives_every_mode() -> None:
    classifier = make_classifier().eval()
    classifier.freeze(["body.conv1.weight"]).freeze(["head.bias"])
    assert not classifier.training
    classifier.train()
    assert not classifier.get_submodule("body.conv1").training
    assert classifier.head.training
    assert [n for n, p in classifier.named_parameters() if not p.requires_grad] == ["body.conv1.weight", "head.bias"]


def test_names_to_freeze_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"cannot freeze 'body\.conv7\.weight': the network has no such weights"):
        make_classifier().freeze(["body.conv7.weight", "head.bias"])


def test_held_batch_norm_trains_its_weights_but_not_its_statistics() -> None:
    classifier = make_classifier()
    classifier.hold_batch_norm = True
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    train_a_little(classifier)
    for key, value in classifier.state_dict().items():
        is_statistic = "running" in key or "num_batches" in key
        assert torch.equal(value, before[key]) == is_statistic, key


# ---------------------------------------------------------------- modes


def test_eval_mode_restores_each_submodule() -> None:
    classifier = make_classifier().train()
    classifier.get_submodule("body.units.1").eval()
    modes = {n: m.training for n, m in classifier.named_modules()}
    with classifier.eval_mode():
        assert not any(m.training for m in classifier.modules())
    assert {n: m.training for n, m in classifier.named_modules()} == modes
    with pytest.raises(ZeroDivisionError), eval_mode(classifier):
        _ = 1 / 0
    assert {n: m.training for n, m in classifier.named_modules()} == modes


def test_without_weight_gradients_restores_what_was_trained() -> None:
    classifier = make_classifier().freeze(["body.conv1.weight"])
    wanted = {n: p.requires_grad for n, p in classifier.named_parameters()}
    with without_weight_gradients(classifier):
        assert not any(p.requires_grad for p in classifier.parameters())
    assert {n: p.requires_grad for n, p in classifier.named_parameters()} == wanted
    with pytest.raises(ZeroDivisionError), without_weight_gradients(classifier):
        _ = 1 / 0
    assert {n: p.requires_grad for n, p in classifier.named_parameters()} == wanted
