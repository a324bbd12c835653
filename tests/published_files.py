"""Files as the public repositories write them: one function a layout, from a state to a file; nothing of the package.

Each takes the state of a network and a second, worse one of the same names (raw weights beside an average, the best epoch
beside the last), and says what a reader should find: where, after which prefix, and the normaliser that is stored.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]
Normaliser = tuple[Tensor, Tensor]  # means and deviations, one a channel
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])


@dataclass(frozen=True)
class Expected:
    """What a file is: format, the set of weights, the prefix of its names, whether a normaliser is stored."""

    form: str = "PyTorch zip"
    where: str = ""
    prefix: str = ""
    normalised: bool = False
    half: bool = False


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def norm(mean: str, std: str, shape: tuple[int, ...] = (1, 3, 1, 1), by: Normaliser = (MEAN, STD)) -> State:
    return {mean: by[0].view(shape), std: by[1].view(shape)}


def optimiser(state: State) -> dict[str, Any]:
    """What SGD's state dict looks like: momenta of the weights' shapes."""
    moments = {i: {"momentum_buffer": value.float() * 0} for i, value in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments), "nesterov": True}]}


def function_of_dill() -> Any:
    """A value whose pickle names ``dill._dill._create_function``, as that of a lambda in MadryLab's schedules does."""
    module = sys.modules.setdefault("dill._dill", ModuleType("dill._dill"))

    def _create_function(*_: Any) -> None:
        raise AssertionError("a name of the file was called")

    _create_function.__module__, _create_function.__qualname__ = "dill._dill", "_create_function"
    module._create_function = getattr(module, "_create_function", _create_function)  # type: ignore[attr-defined]

    class Stored:
        def __reduce__(self) -> Any:
            return module._create_function, (b"code", {"lr": 0.1}, "schedule")

    return Stored()


FIGURES = {"epoch": 90, "nat_prec1": np.float64(61.25), "adv_prec1": 35.5}


def madry(
    path: Path, state: State, other: State, by: Normaliser = (MEAN, STD), figures: Mapping[str, object] = FIGURES
) -> Expected:
    """robustness/train.py: AttackerModel in DataParallel, pickled by dill with optimiser and schedule."""
    inner = under("model.", state)
    copy = {**inner, **norm("normalize.new_mean", "normalize.new_std", (3, 1, 1), by)}
    whole = {**inner, **norm("normalizer.new_mean", "normalizer.new_std", (3, 1, 1), by), **under("attacker.", copy)}
    value = {
        "model": under("module.", whole),
        "optimizer": optimiser(state),
        "schedule": function_of_dill(),
    }
    torch.save({**value, "amp": None, **figures}, path)
    return Expected(where="model", prefix="module.model.", normalised=True)


def bare(path: Path, state: State, other: State) -> Expected:
    torch.save(OrderedDict(state), path)
    return Expected()


def data_parallel(path: Path, state: State, other: State) -> Expected:
    """AWP, HYDRA: figures beside the weights."""
    torch.save({"state_dict": under("module.", state), "test_robust_acc": 0.56, "test_acc": 0.85}, path)
    return Expected(where="state_dict", prefix="module.")


def legacy(path: Path, state: State, other: State) -> Expected:
    """PyTorch before 1.6."""
    torch.save({"net": under("module.", state), "acc": 86.1, "epoch": 76}, path, _use_new_zipfile_serialization=False)
    return Expected("PyTorch legacy", "net", "module.")


def averaged(path: Path, state: State, other: State) -> Expected:
    """imrahulr and DM-Improves-AT: the average first, the raw weights beside it, a Sequential's normaliser inside."""
    sets = {
        name: {**under("module.1.", each), **norm("module.0.mean", "module.0.std")}
        for name, each in (("unaveraged_model_state_dict", other), ("model_state_dict", state))
    }
    torch.save({**sets, "optimizer_state_dict": optimiser(state), "scheduler_state_dict": {}, "epoch": 400}, path)
    return Expected(where="model_state_dict", prefix="module.1.", normalised=True)


def last_and_best(path: Path, state: State, other: State) -> Expected:
    torch.save({"best": other, "last": state}, path)
    return Expected(where="last")


def robustbench(path: Path, state: State, other: State) -> Expected:
    """normalize_model: a buffer beside the network."""
    torch.save({**under("model.", state), **norm("normalize.mean", "normalize.std")}, path)
    return Expected(prefix="model.", normalised=True)


def singh(path: Path, state: State, other: State) -> Expected:
    torch.save(under("base_model.", {**under("model.", state), **norm("normalize.mean", "normalize.std")}), path)
    return Expected(prefix="base_model.model.", normalised=True)


def advertorch(path: Path, state: State, other: State) -> Expected:
    """NormalizeByChannelMeanStd in DataParallel."""
    inner = {**under("model.", state), **norm("normalize.mean", "normalize.std", (3,))}
    torch.save({"state_dict": under("module.", inner), "epoch": 3}, path)
    return Expected(where="state_dict", prefix="module.model.", normalised=True)


def mu_and_sigma(path: Path, state: State, other: State) -> Expected:
    torch.save({**state, **norm("mu", "sigma")}, path)
    return Expected(normalised=True)


def lightning(path: Path, state: State, other: State) -> Expected:
    value = {
        "epoch": 9, "pytorch-lightning_version": "1.9", "state_dict": under("model.", state), "loops": {"a": {}},
        "callbacks": {"EarlyStopping": {"best": torch.ones(2, 2)}}, "optimizer_states": [optimiser(state)],
        "hyper_parameters": argparse.Namespace(lr=0.1, arch="r18"),
    }  # fmt: skip
    torch.save(value, path)
    return Expected(where="state_dict", prefix="model.")


def timm(path: Path, state: State, other: State) -> Expected:
    """timm's saver: the average beside the weights."""
    value = {"epoch": 9, "arch": "xcit", "state_dict": other, "optimizer": optimiser(state), "version": 2}
    torch.save({**value, "args": argparse.Namespace(mean=[0.5]), "state_dict_ema": state, "metric": 41.7}, path)
    return Expected(where="state_dict_ema")


def compiled(path: Path, state: State, other: State) -> Expected:
    torch.save({"model": under("_orig_mod.module.", state)}, path)
    return Expected(where="model", prefix="_orig_mod.module.")


def half(path: Path, state: State, other: State) -> Expected:
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)
    return Expected(half=True)


def plain_pickle(path: Path, state: State, other: State) -> Expected:
    path.write_bytes(pickle.dumps({"params": dict(state), "accuracy": np.float32(0.5), "by": argparse.Namespace()}))
    return Expected("pickle", "params")


def numpy(path: Path, state: State, other: State) -> Expected:
    with path.open("wb") as file:
        np.savez(file, **{key: value.numpy() for key, value in state.items()})  # type: ignore[arg-type]
    return Expected("NumPy archive")


def safetensors(path: Path, state: State, other: State) -> Expected:
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata={"format": "pt"})
    return Expected("safetensors")


def sharded(path: Path, state: State, other: State) -> Expected:
    """As huggingface_hub writes weights in several files."""
    keys, places = list(state), dict[str, str]()
    for i, part in enumerate((keys[::2], keys[1::2]), start=1):
        name = f"model-0000{i}-of-00002.safetensors"
        save_file({key: state[key].contiguous() for key in part}, path.parent / name)
        places |= dict.fromkeys(part, name)
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return Expected("safetensors")


Write = Callable[[Path, State, State], Expected]
WRITERS: dict[str, Write] = {
    each.__name__: each
    for each in (
        madry, bare, data_parallel, legacy, averaged, last_and_best, robustbench, singh, advertorch, mu_and_sigma,
        lightning, timm, compiled, half, plain_pickle, numpy, safetensors, sharded,
    )
}  # fmt: skip
NAMES = {
    "madry": "net.pt", "legacy": "net.t7", "averaged": "weights-best.pt", "singh": "net_cvst_robust.pt",
    "data_parallel": "net.pth", "last_and_best": "net.pth", "half": "net.pth", "advertorch": "net.pth.tar",
    "lightning": "net.ckpt", "timm": "model_best.pth.tar", "compiled": "net.bin", "plain_pickle": "net.pkl",
    "numpy": "net.npz", "safetensors": "model.safetensors", "sharded": "model.safetensors.index.json",
}  # fmt: skip


def write(name: str, folder: Path, state: State, other: State) -> tuple[Path, Expected]:
    """Path of the file that was written, and what it is."""
    path = folder / NAMES.get(name, "net.pt")
    return path, WRITERS[name](path, state, other)
