"""Last blocks: redrawn and trained, while the others do not move."""

from __future__ import annotations

import pytest
import torch
from helpers import QUIET, make_source
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import LastBlocks, transfer


def made(task: Task, k: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[tuple[str, ...]]]:
    """The source's state, the result's, and the blocks."""
    source = make_source(threat="linf:8/255")
    result = transfer(source, task, LastBlocks(blocks=k, epochs=1, augment=False), run=QUIET)
    assert result.card.metrics["blocks"] == k
    return source.classifier.state_dict(), result.classifier.state_dict(), source.classifier.blocks()


def test_what_is_kept_does_not_move_and_what_is_retrained_does(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)  # two steps teach little
    most = len(make_source().classifier.blocks())
    for k in range(1, most + 1):
        before, after, blocks = made(task, k)
        kept = [name for block in blocks[:-k] for name in block]
        trained = [name for block in blocks[-k:] for name in block]
        assert sorted([*kept, *trained]) == sorted(before)
        assert all(torch.equal(before[name], after[name]) for name in kept), k
        moved = [name for name in trained if not torch.equal(before[name], after[name])]
        assert moved == trained, "weights, and the statistics of batch norm in training mode"


def test_blocks_are_drawn_anew_by_the_seed_and_not_taken_from_the_source(task: Task) -> None:
    source = make_source()
    starts = [LastBlocks(blocks=2).start(source, task, Run(seed=seed, quiet=True)).classifier for seed in (0, 0, 1)]
    one, same, other = (start.state_dict() for start in starts)
    weights = [name for name in source.classifier.blocks()[-2] if name.endswith("conv1.weight")]
    assert weights
    for name in weights:
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])
        assert not torch.equal(one[name], source.classifier.state_dict()[name])
        deviation = one[name].std() / source.classifier.state_dict()[name].std()
        assert 0.5 < deviation < 2, "as a fresh network's"


def test_modes_are_those_of_the_two_kinds(task: Task) -> None:
    """Read from the network in training mode: retrained batch norm adapts, frozen batch norm does not."""
    classifier = LastBlocks(blocks=2).start(make_source(), task, QUIET).classifier.train()
    retrained = {name.rsplit(".", 1)[0] for name in classifier.blocks()[-2]}
    norms = {path: module for path, module in classifier.named_modules() if isinstance(module, _BatchNorm)}
    assert {path for path, module in norms.items() if module.training} == retrained & norms.keys()
    assert len(retrained & norms.keys()) < len(norms)


def test_too_many_or_too_few_blocks_are_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        LastBlocks(blocks=0)
    most = len(make_source().classifier.blocks())
    with pytest.raises(ConfigError, match=f"the network has {most} blocks, the head among them"):
        transfer(make_source(), task, LastBlocks(blocks=most + 1), run=QUIET)
