"""LoRA: its training against plain PyTorch, updates merged into the weights, which layers take them."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, folder_of, make_classifier, make_source, same_state
from torch import Tensor, nn

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.strategies import LoRA, lora, transfer
from robust_transfer.strategies.lora import layers, merge
from robust_transfer.training import NaturalObjective, batch_order

FEW: dict[str, Any] = {"epochs": 1, "head": "new", "l2": 0.1, "batch_size": 32, "rank": 2, "alpha": 3.0}


def updated(source: Checkpoint, task: Task, **settings: Any) -> Any:
    """Network with updates that are not 0, unmerged."""
    classifier = LoRA(**{**FEW, **settings}).start(source, task, QUIET).classifier
    with torch.no_grad():
        for name, p in classifier.named_parameters():
            if ".lora_B" in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return classifier.eval()


def test_merged_and_unmerged_compute_the_same(source: Checkpoint, task: Task) -> None:
    classifier = updated(source, task)
    x = to_pixels(task.train.images())
    with torch.no_grad():
        unmerged, before = classifier(x), source.classifier.features(x)
        assert float((classifier.features(x) - before).abs().max()) > 1e-2  # they do something
        merge(classifier.body)
        torch.testing.assert_close(classifier(x), unmerged, rtol=1e-5, atol=1e-5)
    assert classifier.state_dict().keys() == source.classifier.state_dict().keys()
    assert {type(m) for m in classifier.body.modules()} == {type(m) for m in source.classifier.body.modules()}


def test_an_update_is_the_product_of_its_factors(source: Checkpoint, task: Task) -> None:
    """alpha / rank * B A, of a convolution with A's kernels: each output channel is a sum of A's."""
    classifier = updated(source, task)
    layer = classifier.body.get_submodule("units.3.conv1")
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    update = 3.0 / 2 * torch.einsum("or,rihw->oihw", b[:, :, 0, 0], a)
    before = source.classifier.get_parameter("body.units.3.conv1.weight").detach()
    merge(classifier.body)
    torch.testing.assert_close(classifier.body.get_submodule("units.3.conv1").weight.detach(), before + update)
    matrix = update.flatten(1)
    assert int(torch.linalg.matrix_rank(matrix)) == 2


def test_every_step_is_a_plain_loops(source: Checkpoint, task: Task) -> None:
    """SGD on the factors and the head with everything else as the source has it, written by hand in float64; then merged."""
    strategy = LoRA(**{**FEW, "batch_size": 64}, learning_rate=1e-2, schedule="constant", hold_l2=False)
    start = strategy.start(source, task, QUIET)
    factors = {n: p.detach().double() for n, p in start.classifier.named_parameters() if ".lora_" in n}
    names = layers(source.classifier.body)
    plain: Any = source.classifier.with_layers(start.classifier.copy().head).double().eval()
    a, b = ({n: factors[f"body.{n}.lora_{which}.default.weight"].requires_grad_(True) for n in names} for which in "AB")
    base = {n: plain.get_parameter(f"body.{n}.weight").detach() for n in names}
    head = [p.requires_grad_(True) for p in plain.head.parameters()]

    def weights() -> dict[str, Tensor]:
        found = {}
        for n in names:
            product = torch.einsum("or,r...->o...", b[n].flatten(1), a[n])
            found[f"{n}.weight"] = base[n] + 1.5 * product
        return found

    def logits(x: Tensor) -> Tensor:
        z = torch.func.functional_call(plain.body, weights(), (plain.normalise(x),))
        return F.linear(z, plain.head.weight, plain.head.bias)

    optimizer = torch.optim.SGD([*a.values(), *b.values(), *head], lr=1e-2, momentum=0.9, weight_decay=2e-4)
    x, y = to_pixels(task.train.images()).double(), task.train.labels
    for step in range(2):  # the first moves B alone, which begins at 0, the second both
        rows = batch_order(0, 0, 128)[step * 64 : step * 64 + 64]
        loss = F.cross_entropy(logits(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    result = transfer(source, task, strategy, run=QUIET)
    with torch.no_grad():
        found, wanted, before = result.classifier(x.float()), logits(x).float(), start.classifier.eval()(x.float())
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
        assert float((wanted - before).abs().max()) > 1e-2


def test_what_is_trained_and_what_is_not(source: Checkpoint, task: Task) -> None:
    start = LoRA(**FEW).start(source, task, QUIET)
    trained = [n for n, p in start.classifier.named_parameters() if p.requires_grad]
    assert all(n.startswith("head.") or ".lora_" in n for n in trained)
    assert start.metrics["adapted_layers"] == len(layers(source.classifier.body)) > 10
    counted = sum(start.classifier.get_parameter(n).numel() for n in trained)
    assert start.metrics["trained_parameters"] == counted
    result = transfer(source, task, LoRA(**FEW), run=QUIET)
    before, after = source.classifier.state_dict(), result.classifier.state_dict()
    moved = {n for n in before if not n.startswith("head.") and not torch.equal(before[n], after[n])}
    assert moved == {f"body.{n}.weight" for n in layers(source.classifier.body)}


def test_dropout_is_of_training_alone(source: Checkpoint, task: Task) -> None:
    classifier = updated(source, task, dropout=0.5)
    x = to_pixels(task.train.images())[:8]
    with torch.no_grad():
        assert torch.equal(classifier(x), classifier(x))
        classifier.train()
        assert not torch.equal(classifier(x), classifier(x))


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_statistics_adapt_where_asked(batch_norm: Any, source: Checkpoint, task: Task) -> None:
    result = transfer(source, task, LoRA(**FEW, batch_norm=batch_norm), run=QUIET)
    before, after = (c.classifier.state_dict()["body.last.0.running_mean"] for c in (source, result))
    assert torch.equal(before, after) == (batch_norm == "eval")


def test_a_saved_result_is_an_ordinary_network(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, LoRA(**FEW, select="robust"), run=run)
    loaded = load_checkpoint(folder_of(run))
    assert same_state(loaded.classifier, result.classifier)
    assert loaded.classifier.state_dict().keys() == source.classifier.state_dict().keys()
    again = transfer(loaded, task, LoRA(**FEW), run=QUIET)
    assert again.card.source is not None


def test_layers_that_compute_otherwise_take_no_update() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2 * x)

    body = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        Scaled(4, 4, 3),
        nn.Linear(4, 4),
        nn.MultiheadAttention(4, 2),
    )
    assert layers(body) == ["0", "5"]


def test_a_network_without_layers_is_refused(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "layers", lambda body: [])
    with pytest.raises(ConfigError, match="no plain linear layer or convolution in a 'wrn_16_1'"):
        LoRA(**FEW).check(make_source(), task)


def test_a_merge_that_computes_something_else_is_refused(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_done(body: nn.Module) -> None:
        merge(body)
        with torch.no_grad():
            body.get_parameter("conv1.weight").mul_(1.1)

    monkeypatch.setattr(lora, "merge", half_done)
    with pytest.raises(NetworkError, match="computes something else with lora's updates merged"):
        transfer(source, task, LoRA(**FEW), run=QUIET)


def test_without_peft_the_extra_is_named(source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("peft") is not None
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"which is an extra: pip install 'robust-transfer\[lora\]'"):
        transfer(source, task, LoRA(**FEW), run=QUIET)


def test_a_killed_run_resumes_to_the_same_bits(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = LoRA(**{**FEW, "epochs": 3, "dropout": 0.0})
    whole = transfer(source, task, strategy, run=QUIET)
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    forward = NaturalObjective.forward

    def killed(self: NaturalObjective, batch: Any) -> Any:
        if batch.step == 6:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(NaturalObjective, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, strategy, run=run)
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert same_state(resumed.classifier, whole.classifier)


@pytest.mark.parametrize(
    ("settings", "message"), [({"rank": 0}, "rank"), ({"alpha": 0.0}, "alpha"), ({"dropout": 1.0}, "dropout")]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoRA.from_settings(settings)


def test_other_networks_merge_as_well(task: Task) -> None:
    """A residual network with batch norm after its convolutions, whose attack copies fold them."""
    x = to_pixels(task.train.images())
    classifier: Any = make_classifier(name="resnet18_cifar").eval()
    names = layers(classifier.body)
    LoRA(**FEW)._inject(classifier, names)
    with torch.no_grad():
        for name, p in classifier.named_parameters():
            if ".lora_B" in name:
                p.fill_(0.01)
        wanted = classifier.eval()(x)
        merge(classifier.body)
        torch.testing.assert_close(classifier(x), wanted, rtol=1e-4, atol=1e-4)
