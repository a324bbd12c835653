"""Any module becomes a classifier with the same logits, or is refused with the reason; its results are saved and loaded."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import QUIET, make_digits, same_state
from torch import Tensor, nn

from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.errors import CheckpointError, ConfigError, NetworkError
from robust_transfer.networks import builders, register_builder
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.strategies import FineTune, LinearProbe

RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
EIGHT = Preprocessing(size=8, normalisation=RAW)
X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Finish = Callable[["Net", Tensor], Any]


class Net(nn.Module):
    """Two convolutions and a linear layer; ``finish`` makes the output of pooled features."""

    def __init__(self, width: int = 4, finish: Finish | None = None) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 5)  # before the layers that it comes after
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.finish = finish

    def forward(self, x: Tensor) -> Any:
        pooled = self.conv(self.stem(x)).mean((2, 3))
        return self.fc(pooled) if self.finish is None else self.finish(self, pooled)


def randomised(module: nn.Module) -> nn.Module:
    """Statistics of batch norm as after training."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(builders.BUILDERS)
    yield
    builders.BUILDERS.clear()
    builders.BUILDERS.update(before)


# ---------------------------------------------------------------- the same logits


@pytest.mark.parametrize(
    ("name", "size", "layer", "settings"),
    [
        ("resnet18", 32, "fc", {}),
        ("mobilenet_v3_small", 32, "classifier.3", {}),
        ("shufflenet_v2_x0_5", 32, "fc", {}),
    ],
)
def test_torchvisions_networks(name: str, size: int, layer: str, settings: dict[str, Any]) -> None:
    module = randomised(torchvision.models.get_model(name, weights=None, num_classes=7, **settings))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    classifier = Classifier.from_module(module, Preprocessing(size=size, normalisation=RAW))
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), module(x), rtol=1e-5, atol=1e-5)
    assert classifier.spec.settings["head_layer"] == layer
    assert classifier.num_classes == classifier.spec.num_classes == 7
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert isinstance(module.get_submodule(layer), nn.Linear), "the module is as it was"
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items()), "weights are shared"


def transformer(**settings: Any) -> nn.Module:
    """torchvision's vision transformer, a small one."""
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    made: nn.Module = torchvision.models.VisionTransformer(num_classes=7, **sizes, **settings)
    return made


def test_transformers_with_a_class_token_or_pooled_features() -> None:
    swin = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=7)
    for module in (transformer(), transformer(representation_size=12), swin):
        randomised(module)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        classifier = Classifier.from_module(module, Preprocessing(size=32, normalisation=RAW))
        x = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(classifier(x), module(x), rtol=1e-5, atol=1e-5)
        assert float(classifier(x).detach().std()) > 0.01, "all logits are the same: nothing was compared"


def test_features_are_what_the_layer_reads() -> None:
    module = randomised(Net())
    read = list[Tensor]()
    module.get_submodule("fc").register_forward_hook(lambda part, inputs, out: read.append(inputs[0]))
    module(X)
    expected = read[0]
    classifier = Classifier.from_module(randomised(Net()), EIGHT)
    classifier.body.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("fc.")})
    torch.testing.assert_close(classifier.features(X), expected)


def test_pixels_are_normalised_before_the_module() -> None:
    module = randomised(Net())
    how = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    classifier = Classifier.from_module(module, Preprocessing(size=8, normalisation=how))
    by_hand = (X - torch.tensor(how.mean).view(3, 1, 1)) / torch.tensor(how.std).view(3, 1, 1)
    torch.testing.assert_close(classifier(X), module(by_hand))


def test_half_precision_becomes_float32_and_frozen_weights_can_be_trained() -> None:
    module = randomised(Net()).double().requires_grad_(False)
    classifier = Classifier.from_module(module, EIGHT)
    torch.testing.assert_close(classifier(X), module(X.double()).float())
    assert {p.dtype for p in classifier.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in classifier.parameters())
    assert not classifier.training


class Compiled(nn.Module):
    """What ``torch.compile`` returns, which takes seconds to load."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled])
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    module = randomised(Net())
    wrapped = wrap(module)
    classifier = Classifier.from_module(wrapped, EIGHT)
    torch.testing.assert_close(classifier(X), module(X))
    assert all(key.startswith(("body.conv", "body.stem", "head.")) for key in classifier.state_dict())


def test_a_layer_without_bias_gets_one_of_zeros() -> None:
    module = randomised(nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)))
    classifier = Classifier.from_module(module, EIGHT)
    torch.testing.assert_close(classifier(X), module(X))
    assert float(classifier.get_parameter("head.bias").detach().abs().max()) == 0


@pytest.mark.parametrize("pooled_first", [True, False])
def test_a_last_convolution_of_single_pixels_is_a_linear_layer(pooled_first: bool) -> None:
    pool, conv = nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1)
    end = [pool, conv] if pooled_first else [conv, pool]
    module = randomised(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *end, nn.Flatten()))
    classifier = Classifier.from_module(module, EIGHT)
    torch.testing.assert_close(classifier(X), module(X))
    assert classifier.head.weight.shape == (4, 6)
    assert classifier.num_features == 6


def test_a_layer_can_be_named() -> None:
    module = randomised(nn.Sequential(OrderedDict(flat=nn.Flatten(), a=nn.Linear(192, 8), b=nn.Linear(8, 3))))
    with pytest.raises(NetworkError, match="computes further after its last linear layer 'a'"):
        Classifier.from_module(module, EIGHT, head="a")
    assert Classifier.from_module(module, EIGHT, head="b").num_features == 8
    with pytest.raises(NetworkError, match=r"Sequential has no 'c': give the dotted name .* such as 'b'"):
        Classifier.from_module(module, EIGHT, head="c")
    with pytest.raises(NetworkError, match="Sequential 'flat' is Flatten, no linear layer"):
        Classifier.from_module(module, EIGHT, head="flat")


# ---------------------------------------------------------------- refused


class Out(NamedTuple):
    logits: Tensor
    aux: Tensor


def halved(net: Net, z: Tensor) -> Any:
    return net.fc(z).mul_(0.5)


AFTER = "Net computes further after its last linear layer 'fc'"
REFUSED: dict[str, tuple[Finish, str]] = {
    "softmax": (lambda net, z: net.fc(z).softmax(1), AFTER),
    "scaled": (lambda net, z: 2 * net.fc(z), AFTER),
    "scaled in place": (halved, AFTER),
    "ReLU": (lambda net, z: net.fc(z).relu(), AFTER),
    "soft cap": (lambda net, z: 1e4 * torch.tanh(net.fc(z) / 1e4), AFTER),
    "clipped": (lambda net, z: net.fc(z).clamp(-50, 50), AFTER),
    "centred": (lambda net, z: net.fc(z) - net.fc.bias, AFTER),
    "residual": (lambda net, z: net.fc(z) + z.sum(1, keepdim=True), AFTER),
    "twice": (lambda net, z: net.fc(z) + net.fc(2 * z), "uses its last linear layer 'fc' more than once"),
    "functional": (lambda net, z: F.linear(z, net.fc.weight), "has no linear layer that it calls as a module"),
    "tuple": (lambda net, z: (net.fc(z), z), "Net gives 2 outputs; a network with one output"),
    "dict": (lambda net, z: {"logits": net.fc(z)}, "Net gives 1 outputs"),
    "named": (lambda net, z: Out(net.fc(z), z), "Net gives 2 outputs"),
    "object": (lambda net, z: [net.fc(z)][0].numpy(), "Net gives an output of type ndarray"),
    "one row": (lambda net, z: net.fc(z)[0], r"Net gives \(5,\) for 2 images"),
    "auxiliary": (lambda net, z: (net.fc(z), z) if net.training else net.fc(z), "gives 2 outputs in training mode"),
    "noise": (lambda net, z: net.fc(F.dropout(z, training=True)), "gives other features every time"),
    "counted": (lambda net, z: net.fc(z).view(-1, 5), AFTER),
    "broken": (lambda net, z: net.fc(z[:, :3]), "Net cannot read 8x8 images of 3 channels: mat1 and mat2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_linear_layer_at_the_end_is_refused(what: str) -> None:
    finish, message = REFUSED[what]
    module = randomised(Net(finish=finish))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(NetworkError, match=message):
        Classifier.from_module(module, EIGHT)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not module.training


def test_squeezenet_is_refused_for_the_relu_after_its_last_convolution() -> None:
    module = torchvision.models.squeezenet1_1(weights=None, num_classes=6).eval()
    with pytest.raises(NetworkError, match=r"after its last convolution 'classifier\.1' \(softmax, scaling, ReLU"):
        Classifier.from_module(module, Preprocessing(size=64))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(192, 192), nn.Linear(192, 192)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x.flatten(1)))


def aliased() -> nn.Module:
    module = Net()
    module.classifier = module.fc
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Tied, "Tied uses its last linear layer 'b' more than once, or its weights for something else"),
        (aliased, "uses its last linear layer 'fc' more than once"),
        (lambda: nn.Flatten(), "Flatten has no linear layer"),
        (lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(192, 2))), "compiled to TorchScript"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(192, 2))),
            "the weights of .* last linear layer '1' are computed from others",
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 9), nn.Flatten(), nn.Linear(4, 2)), "cannot read 8x8 images"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
def test_modules_that_cannot_be_taken_apart(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        Classifier.from_module(make(), EIGHT)


def test_what_is_no_module() -> None:
    classifier = Classifier.from_module(Net(), EIGHT)
    with pytest.raises(ConfigError, match="no Classifier, not Classifier"):
        Classifier.from_module(classifier, EIGHT)
    with pytest.raises(ConfigError, match="not function"):
        Classifier.from_module(randomised, EIGHT)  # type: ignore[arg-type]


# ---------------------------------------------------------------- saved and loaded


def checkpoint(classifier: Classifier) -> Checkpoint:
    names = tuple(str(i) for i in range(classifier.num_classes))
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=names, method="made"))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("by_name", [False, True])
def test_results_are_saved_and_loaded_where_the_builder_is_registered(by_name: bool, tmp_path: Path) -> None:
    @register_builder("my-net")
    def make(width: int = 4) -> Net:
        return Net(width)

    module = (Net(6) if by_name else make(width=6)).eval()
    named: dict[str, Any] = {"builder": "my-net", "settings": {"width": 6}} if by_name else {}
    classifier = Classifier.from_module(module, EIGHT, **named)
    assert classifier.spec.settings == {"width": 6, "head_layer": "fc"}
    task = make_digits(train=64, val=32, test=8)
    for strategy in (LinearProbe(), FineTune(epochs=1)):
        out = tmp_path / type(strategy).__name__
        result = strategy(checkpoint(classifier), task, run=dataclasses.replace(QUIET, out=out, precision="float32"))
        loaded = load_checkpoint(out)
        assert same_state(result.classifier, loaded.classifier)
        assert torch.equal(result.classifier(X), loaded.classifier(X))
        assert loaded.classifier.num_classes == 10
    builders.BUILDERS.clear()
    with pytest.raises(CheckpointError, match=r"'my-net' is built by code that is not here: import the module"):
        load_checkpoint(tmp_path / "LinearProbe")


def test_what_nobody_could_build_again_is_not_saved(tmp_path: Path) -> None:
    source = checkpoint(Classifier.from_module(Net(), EIGHT))
    with pytest.raises(CheckpointError, match=r"'Net \(unregistered\)' cannot be saved: .*@register_builder"):
        source.save(tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot be saved"):
        LinearProbe()(source, make_digits(train=64), run=dataclasses.replace(QUIET, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists(), "refused before anything is written"
    assert LinearProbe()(source, make_digits(train=64, val=32), run=QUIET).classifier.num_classes == 10


@pytest.mark.usefixtures("registered")
def test_a_builder_that_makes_another_network_is_refused() -> None:
    @register_builder("my-net")
    def make(width: int = 4, slope: float = 0.0) -> Net:
        net = Net(width)
        net.stem[2] = nn.LeakyReLU(slope)
        return net

    module = randomised(make(slope=0.3))
    with pytest.raises(NetworkError, match=r"another network than the module: they differ in 'body\.conv\.bias'"):
        Classifier.from_module(module, EIGHT, builder="my-net", settings={"width": 5})
    with pytest.raises(NetworkError, match="with the same weights its logits are others"):
        Classifier.from_module(module, EIGHT, builder="my-net", settings={"slope": 0.0})
    with pytest.raises(NetworkError, match="'your-net' is built by code that is not here"):
        Classifier.from_module(module, EIGHT, builder="your-net")
