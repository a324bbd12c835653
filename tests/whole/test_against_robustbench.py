"""Networks of small images against the classes of RobustBench and MadryLab themselves, every family and variant of them.

``make slow`` installs both packages without what they require, into a folder of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families import FAMILIES, Architecture, recognised

pytestmark = pytest.mark.slow
PINS = {"robustbench": "robustbench==1.1.1", "robustness": "robustness==1.2.1.post2"}


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """Packages of others without their ``__init__``, which imports what is not here; afterwards they are forgotten."""
    before = dict(sys.modules)
    for package in PINS:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pytest.fail(
                f"{package} is not importable: run `make slow`, or install it by "
                f"`pip install --no-deps --target DIR {' '.join(PINS.values())}` and set PYTHONPATH=DIR"
            )
        root = Path(spec.submodule_search_locations[0])
        for name, folder in ((package, root), (f"{package}.model_zoo", root / "model_zoo")):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(folder)]
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in PINS and name not in before]:
        del sys.modules[name]


def zoo(name: str) -> ModuleType:
    return import_module(f"robustbench.model_zoo.architectures.{name}")


def madry(name: str) -> ModuleType:
    return import_module(f"robustness.cifar_models.{name}")


def randomised(model: nn.Module) -> nn.Module:
    """Norms get weights and statistics that differ from channel to channel."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, least in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                if tensor is not None:
                    nn.init.uniform_(tensor, least, least + 1)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.3)
        if type(module).__name__ == "MeanSparse":
            nn.init.normal_(module.get_buffer("running_mean"), std=0.3)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
            nn.init.constant_(module.get_buffer("threshold"), 0.3)
    return model.double().eval()


RAW = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # DeepMind's classes normalise by themselves, and do not store by what
Make = Callable[[], nn.Module]
OURS: dict[str, tuple[Make, dict[str, Any]]] = {
    "trades": (lambda: zoo("wide_resnet").WideResNet(depth=16, widen_factor=2), {}),
    "trades with the unused stage": (
        lambda: zoo("wide_resnet").WideResNet(depth=16, widen_factor=2, num_classes=100, sub_block1=True),
        {},
    ),
    "trades of width 1 without a bias": (
        lambda: zoo("wide_resnet").WideResNet(depth=10, widen_factor=1, bias_last=False),
        {"cosine": False},
    ),
    "deepmind, ReLU": (
        lambda: zoo("dm_wide_resnet").DMWideResNet(depth=16, width=2, activation_fn=nn.ReLU, **RAW),
        {"activation": "relu"},
    ),
    "deepmind, Swish": (
        lambda: zoo("dm_wide_resnet").DMWideResNet(
            depth=16, width=2, num_classes=100, activation_fn=zoo("dm_wide_resnet").Swish, **RAW
        ),
        {},
    ),
    "deepmind, SiLU, width 1": (
        lambda: zoo("dm_wide_resnet").DMWideResNet(depth=10, width=1, activation_fn=nn.SiLU, **RAW),
        {},
    ),
    "MeanSparse 94-16": (
        lambda: zoo("Meansparse_wrn_94_16").MeanSparse_DMWideResNet(depth=16, width=2, activation_fn=nn.SiLU, **RAW),
        {},
    ),
    "MeanSparse 70-16": (
        lambda: zoo("Meansparse_wrn_70_16").DMWideResNet(depth=16, width=2, activation_fn=nn.SiLU, **RAW),
        {},
    ),
    "deepmind preact 18, Swish": (
        lambda: zoo("dm_wide_resnet").DMPreActResNet(activation_fn=zoo("dm_wide_resnet").Swish, **RAW),
        {},
    ),
    "deepmind preact 34, ReLU": (
        lambda: zoo("dm_wide_resnet").DMPreActResNet(depth=34, activation_fn=nn.ReLU, **RAW),
        {"activation": "relu"},
    ),
    "Wong, Andriushchenko": (
        lambda: zoo("resnet").PreActResNet(zoo("resnet").PreActBlock, [2, 2, 2, 2]),
        {"shortcut": "input"},
    ),
    "Rice CIFAR-100": (
        lambda: zoo("resnet").PreActResNet(
            zoo("resnet").PreActBlock, [2, 2, 2, 2], num_classes=100, bn_before_fc=True, out_shortcut=True
        ),
        {"shortcut": "activated"},
    ),
    "Rice L2, Kireev, Addepalli": (
        lambda: zoo("resnet").PreActResNet(zoo("resnet").PreActBlockV2, [2, 2, 2, 2], bn_before_fc=True),
        {"shortcut": "activated"},
    ),
    "a last norm and bare shortcuts": (
        lambda: zoo("resnet").PreActResNet(zoo("resnet").PreActBlock, [2, 2, 2, 2], bn_before_fc=True),
        {"shortcut": "input"},
    ),
    "kuangliu 18": (lambda: zoo("resnet").ResNet18(), {}),
    "kuangliu 34": (lambda: zoo("resnet").ResNet34(), {}),
    "kuangliu 50": (lambda: zoo("resnet").ResNet50(), {}),
    "MadryLab 18": (lambda: madry("resnet").ResNet18(), {}),
    "MadryLab 18, half as wide": (
        lambda: madry("resnet").ResNet(madry("resnet").BasicBlock, [2, 2, 2, 2], num_classes=7, wm=0.5),
        {},
    ),
    "MadryLab 50": (lambda: madry("resnet").ResNet50(num_classes=100), {}),
}
LIKELIEST_IS_ANOTHER = {
    "trades of width 1 without a bias",
    "deepmind, ReLU",
    "deepmind preact 34, ReLU",
    "a last norm and bare shortcuts",
}


def logits(state: dict[str, Tensor], x: Tensor, **chosen: Any) -> tuple[Tensor, Architecture]:
    """What our network computes with the state, loaded strictly."""
    known = recognised(state)
    assert known is not None
    family, found = known
    likeliest = {setting: values[0] for setting, values in found.variants.items()}
    settings = found.settings | likeliest | chosen
    body = networks.create(found.network, num_classes=0, input_size=32, **settings).double().eval()
    layer = FAMILIES.get(family)().head(state, found, settings)
    assert layer is not None
    used = {key: value for key, value in state.items() if key not in found.unused}
    body.load_state_dict({key: value for key, value in used.items() if not key.startswith(f"{found.head}.")})
    return nn.functional.linear(body(x), *layer), found


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_logits_are_theirs(name: str) -> None:
    make, chosen = OURS[name]
    model = randomised(make())
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = model(x)
    mine, found = logits(model.state_dict(), x, **chosen)
    torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-9)
    assert found.num_classes == expected.shape[1]
    guessed, _ = logits(model.state_dict(), x)
    spread = float(expected.std())
    assert (float((guessed - expected).abs().max()) > 0.01 * spread) == (name in LIKELIEST_IS_ANOTHER)


@torch.no_grad()
def test_hypersphere_embeddings() -> None:
    model = randomised(zoo("boosting_wide_resnet").BoostingWideResNet(depth=16, widen_factor=2))
    state = {key: value.clone() for key, value in model.state_dict().items() if key not in ("mu", "sigma")}
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    mine, _ = logits(state, (x - model.get_buffer("mu")) / model.get_buffer("sigma"))
    torch.testing.assert_close(mine, model(x), rtol=1e-9, atol=1e-9)
    assert float(mine.abs().max()) < 1


RA: dict[str, Any] = {"stem_width": 16, "depth": [2, 2, 2], "stage_width": [16, 32, 64], "groups": [1, 1, 1]}
RA |= {"activation_fn": nn.SiLU, "se_ratio": 0.25, "se_activation": nn.ReLU, "se_order": 2}
OTHERS: dict[str, Make] = {
    "RobustWideResNet": lambda: zoo("robust_wide_resnet").RobustWideResNet(channel_configs=[16, 16, 32, 64]),
    "parametric SiLU": lambda: zoo("paf_wide_resnet").pssilu_wrn_28_10(),
    "CARD": lambda: zoo("CARD_resnet").LRR_ResNet(width=16),
    "CARD, binary": lambda: zoo("CARD_resnet").WidePreActResNet(),
    "WRN-A4": lambda: zoo("robust_resnet").get_model("WRN-A4"),
    "ResNeXt": lambda: zoo("resnext").CifarResNeXt(zoo("resnext").ResNeXtBottleneck, 29, 4, 32, 10),
    "pre-activation bottlenecks of Chen": lambda: zoo("resnet").ResNet(
        zoo("resnet").BottleneckChen2020AdversarialNet, [3, 4, 6, 3]
    ),
    "RaWRN": lambda: zoo("Meansparse_ra_wrn_70_16").NormalizedWideResNet(**RAW, **RA),
    "MadryLab's VGG": lambda: madry("vgg").VGG("VGG11"),
    "MadryLab's DenseNet": lambda: madry("densenet").DenseNet121(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_never_misread(name: str) -> None:
    with torch.device("meta"):
        state = OTHERS[name]().state_dict()
    for entry in FAMILIES:
        if entry.name in ("trades-wrn", "dm-wrn", "dm-preact-resnet", "rice-preact-resnet", "kuangliu-resnet"):
            try:
                found = entry.cls().recognise(state)
            except CheckpointError:
                continue
            assert found is None, entry.name
