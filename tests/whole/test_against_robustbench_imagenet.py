"""Networks of photos against RobustBench's own classes: ConvStem of Singh et al., XCiT with smaller patches, swapped names.

``make slow`` installs RobustBench without what it requires, into a folder of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from foreign_helpers import loaded, randomised, same
from torch import Tensor, nn

pytestmark = pytest.mark.slow
PIN = "robustbench==1.1.1"


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """RobustBench without its ``__init__``, which imports what is not here; afterwards it is forgotten."""
    before = dict(sys.modules)
    spec = find_spec("robustbench")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail(
            "robustbench is not importable: run `make slow`, or install it by "
            f"`pip install --no-deps --target DIR {PIN}` and set PYTHONPATH=DIR"
        )
    root = Path(spec.submodule_search_locations[0])
    for name, folder in (("robustbench", root), ("robustbench.model_zoo", root / "model_zoo")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    registry: Any = ModuleType("timm.models.registry")  # where an older timm had it; what is registered is not used
    registry.register_model = lambda make: make
    sys.modules["timm.models.registry"] = registry
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "robustbench" or name.endswith("s.registry")]:
        del sys.modules[name]
        if name in before:
            sys.modules[name] = before[name]


def zoo(name: str) -> ModuleType:
    return import_module(f"robustbench.model_zoo.architectures.{name}")


def without(prefix: str, model: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """A part of a model, and its state under its own names."""
    part = model.get_submodule(prefix) if prefix else model
    return part, dict(part.state_dict())


@pytest.mark.parametrize(
    ("name", "prefix", "size"),
    [
        ("convnext_t_cvst", "", 64),
        ("convnext_s_cvst", "", 64),
        ("convnext_b_cvst", "", 64),
        ("vit_s_cvst", "model", 224),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_convstem(name: str, prefix: str, size: int) -> None:
    torch.manual_seed(0)
    model = randomised(zoo("convstem_models").get_convstem_models(name))
    part, state = without(prefix, model)
    x = torch.rand(1, 3, size, size)
    with torch.no_grad():
        same(loaded(state, "convstem", size=size)(x), part(x))


@pytest.mark.parametrize("patch", [8, 4])
@pytest.mark.filterwarnings("ignore")
def test_xcit(patch: int) -> None:
    xcit = zoo("xcit")
    torch.manual_seed(0)
    model = timm.create_model("xcit_small_12_p16_224", num_classes=10)
    model = randomised(xcit.adapt_model_patches(model, patch))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        same(loaded(dict(model.state_dict()), "xcit", size=32, patch=patch)(x), model(x))
