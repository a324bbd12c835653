"""Trials of engines: chosen by their gain, results stored, verdicts unaffected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import noting
from torch import Tensor, nn

from robust_transfer import hardware, trials
from robust_transfer import run as run_module
from robust_transfer.attacks import PGD
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.compiling import VARIABLE
from robust_transfer.engine import Engine
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.trials import better, choose


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing has been tried out."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def batch() -> tuple[Tensor, Tensor]:
    return torch.rand(16, 3, 16, 16), torch.arange(16) % 5


def test_the_precision_that_was_asked_for_is_network_of() -> None:
    assert choose(network_of(), batch, Run(precision="float32")).precision == "float32"
    assert choose(network_of(), batch, Run(precision="bfloat16")).precision == "bfloat16"


def test_without_units_for_bfloat16_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "gains_by_bfloat16", lambda _: False)
    monkeypatch.setattr(trials, "better", None)
    assert choose(network_of(), batch, Run()).precision == "float32"


def test_with_them_it_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "gains_by_bfloat16", lambda _: True)
    asked: list[Any] = []
    monkeypatch.setattr(trials, "better", noting(asked, lambda *given: given[1]))
    network = network_of()
    assert choose(network, batch, Run()).precision == "bfloat16"
    assert asked[0][:3] == (Engine(), Engine(torch.bfloat16), network)


def network_of(name: str = "wrn_16_1", size: int = 16) -> Classifier:
    torch.manual_seed(0)
    return Classifier.build(NetworkSpec(name=name, num_classes=5, preprocessing=Preprocessing(size=size))).eval()


def photos(n: int = 64) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(3)), torch.arange(n) % 5


@pytest.mark.parametrize(
    ("passes", "a_step", "known", "asked"),
    [
        (1e6, 1e-2, False, True),  # 1e6 passes of 16 images with a gradient: 312 seconds
        (1e6, 9e-3, False, False),
        (1e6, 9e-3, True, True),  # compiled before: seconds pay
        (1e6, 4e-4, True, False),  # 12.5 seconds
        (3e3, 1.0, True, False),  # not worth timing
    ],
)
def test_what_takes_long_is_tried_compiled(
    monkeypatch: pytest.MonkeyPatch, memory: Path, passes: float, a_step: float, known: bool, asked: bool
) -> None:
    """Sooner where it has gained before; and tried all the same, as another network may have had that name."""
    tried: list[Any] = []
    monkeypatch.setattr(trials, "seconds_of", lambda *_: a_step)
    monkeypatch.setattr(trials, "better", noting(tried, lambda *given: given[1]))
    monkeypatch.setattr(trials._Trial, "_sizes", lambda *_: (16,))
    run, network = Run(device="cpu", precision="float32", quiet=True), network_of()
    if known:
        assert choose(network, photos, run, passes=1e9).compiled
        tried.clear()
    chosen = choose(network, photos, run, passes=passes)
    assert chosen.compiled == asked
    assert bool(tried) == asked
    other = choose(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), photos, run, passes=passes)
    assert not other.compiled


def test_what_gains_nothing_compiled_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(trials, "seconds_of", lambda *_: 1.0)
    monkeypatch.setattr(trials, "better", noting(tried, lambda *given: given[0]))
    run = Run(device="cpu", precision="float32", quiet=True)
    assert not any(choose(network_of(), photos, run, passes=1e6).compiled for _ in range(3))
    assert len(tried) == 1
    assert not choose(network_of("wrn_16_2"), photos, run, passes=1e6).compiled
    assert len(tried) == 2, "another network"


class Rowwise(nn.Module):
    """Linear logits, row by row: bits that no other row has a say in, whatever the kernels of this machine do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 768, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, None] * self.weight).sum(-1)


class Neighbourly(nn.Module):
    """Logits that depend on the number of images, from ``odd`` images on, in their last bits."""

    def __init__(self, odd: int) -> None:
        super().__init__()
        self.odd, self.rows = odd, Rowwise()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.rows(x)
        return logits * (1 + 2**-22) if len(x) in (self.odd,) else logits


def test_passes_have_the_sizes_that_agree_with_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "seconds_of", lambda *_: 1.0)
    monkeypatch.setattr(trials, "usual_chunk", lambda *_: 16)
    monkeypatch.setattr(trials, "full_chunk", lambda *_: 64)
    run = Run(device="cpu", precision="float32", quiet=True)
    for odd, sizes in ((1, (4, 8, 16, 32, 64)), (4, (8, 16, 32, 64)), (64, (4, 8, 16, 32)), (16, (16,))):
        assert choose(Neighbourly(odd), photos, run, passes=1e6).sizes == sizes, odd
    assert choose(Neighbourly(1), photos, run, passes=600).sizes == ()
    assert choose(Neighbourly(1), lambda: photos(8), run, passes=1e6).sizes == (), "fewer than a usual pass takes"


def test_a_network_whose_neighbours_show_gets_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalisation by the batch: no pass of another size agrees, wherever a row stands."""

    class Normed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)[:, :5]
            return flat - flat.mean(0)

    monkeypatch.setattr(trials, "seconds_of", lambda *_: 1.0)
    run = Run(device="cpu", precision="float32", quiet=True)
    assert choose(Normed(), photos, run, passes=1e6).sizes == (16,)


def test_another_network_of_that_name_is_tried_out_itself(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    """A wrapper of one class around the same classifier, with and without a part in which neighbours show."""

    class Wrapped(nn.Module):
        def __init__(self, coupled: bool) -> None:
            super().__init__()
            self.coupled, self.inner = coupled, network_of()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x)
            return logits - logits.mean(0) if self.coupled else logits

    monkeypatch.setattr(trials, "seconds_of", lambda *_: 0.02)  # too short for compiling
    monkeypatch.setattr(trials, "usual_chunk", lambda *_: 16)
    monkeypatch.setattr(trials, "full_chunk", lambda *_: 64)
    run = Run(device="cpu", precision="float32", quiet=True)
    assert len(choose(Wrapped(coupled=False), photos, run, passes=4e4).sizes) > 1
    assert choose(Wrapped(coupled=True), photos, run, passes=4e4).sizes == (16,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sizes_have_no_say_in_what_an_attack_finds(
    monkeypatch: pytest.MonkeyPatch, memory: Path, dtype: torch.dtype
) -> None:
    """Adversarial images, bit for bit, in passes of the usual size and in those that were found to agree."""
    monkeypatch.setattr(trials, "seconds_of", lambda *_: 0.02)  # too short for compiling
    precision = str(dtype).removeprefix("torch.")
    run = Run(device="cpu", precision=precision, quiet=True)  # type: ignore[arg-type]
    network: nn.Module = network_of("preact_resnet18_w32")
    engine = choose(network, lambda: photos(64), run, passes=4e4)
    if len(engine.sizes) == 1:  # kernels of this machine show the size of a batch
        network = Rowwise()
        engine = choose(network, lambda: photos(64), run, passes=4e4)
    x, labels = photos(45)
    labels = network(x).argmax(1)
    assert engine.sizes[-1] == (64 if dtype is torch.bfloat16 else 16)
    assert len(engine.sizes) > 1
    ids, threat = torch.arange(45), Threat.parse("linf:0.01")
    found = [
        PGD(steps=3)(network, x, labels, ids, threat, engine=Engine(dtype, sizes=sizes)) for sizes in ((), engine.sizes)
    ]
    assert torch.equal(found[0].adversarial, found[1].adversarial)
    assert torch.equal(found[0].margin, found[1].margin)
    assert found[0].passes == found[1].passes
    known = choose(network, lambda: photos(64), run, passes=4e4)
    assert known.sizes == engine.sizes


class Clock:
    """Seconds that pass as the network under way says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "process_time", lambda: self.now)


class Slow(nn.Module):
    """Takes as many seconds as its precision does; ``noise`` is what bfloat16 adds to its gradient."""

    def __init__(self, clock: Clock, bfloat16: float, noise: float = 0.0) -> None:
        super().__init__()
        self.clock, self.seconds, self.noise = clock, bfloat16, noise
        self.weight = nn.Parameter(torch.randn(5, 768, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        low = torch.is_autocast_enabled("cpu")
        self.clock.now += self.seconds if low else 1.0
        weight: Tensor = self.weight
        if low and self.noise:
            weight = weight + self.noise * torch.randn(5, 768, generator=torch.Generator().manual_seed(1))
        return x.flatten(1).float() @ weight.T.float()


@pytest.mark.parametrize(
    ("seconds", "noise", "chosen"), [(0.5, 0.0, "bfloat16"), (0.95, 0.0, "float32"), (0.5, 3.0, "float32")]
)
def test_bfloat16_is_used_where_it_gains_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, seconds: float, noise: float, chosen: str
) -> None:
    network = Slow(Clock(monkeypatch), seconds, noise)
    assert better(Engine(), Engine(torch.bfloat16), network, *batch()).precision == chosen
    assert network.weight.requires_grad


@pytest.mark.parametrize(("units", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_matrix_units_are_trusted_unless_they_are_clearly_slower(
    monkeypatch: pytest.MonkeyPatch, units: bool, chosen: str
) -> None:
    monkeypatch.setattr(run_module, "gains_by_bfloat16", lambda _: True)
    monkeypatch.setattr(hardware, "has_matrix_units", lambda _: units)
    clock = Clock(monkeypatch)
    assert choose(Slow(clock, 1.03), batch, Run(device="cpu", quiet=True)).precision == chosen
    assert choose(Slow(clock, 1.5), batch, Run(device="cpu", quiet=True)).precision == "float32"


def test_a_module_that_does_not_fit_is_left_to_the_attack() -> None:
    for out in (lambda x: (x, x), lambda x: x.flatten(1)[:, :3], lambda x: x):

        class Odd(nn.Module):
            def forward(self, x: Tensor, out=out) -> Tensor:  # type: ignore[no-untyped-def]
                return out(x)  # type: ignore[no-any-return]

        assert better(Engine(), Engine(torch.bfloat16), Odd(), *batch()).precision == "float32"


def test_a_network_that_cannot_compute_in_bfloat16_is_not_made_to() -> None:
    class Strict(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("expected scalar type Float but found BFloat16")
            return x.flatten(1)

    assert better(Engine(), Engine(torch.bfloat16), Strict(), *batch()).precision == "float32"
