"""LP-FT: the most accurate probe first, then all weights and a free head."""

from __future__ import annotations

import torch
from helpers import QUIET, make_source, same_state

from robust_transfer.data import Task
from robust_transfer.strategies import LPFT, FineTune, LinearProbe, transfer


def test_it_is_fine_tuning_from_the_most_accurate_probe_with_a_free_head(task: Task) -> None:
    source = make_source()
    found = transfer(source, task, LPFT(epochs=1, head="new"), run=QUIET)
    best = transfer(source, task, LinearProbe(choose="clean"), run=QUIET).card.metrics["l2"]
    same = FineTune(epochs=1, head="new", l2=best, hold_l2=False, batch_norm="train")
    wanted = transfer(source, task, same, run=QUIET).classifier
    for name, value in found.classifier.state_dict().items():  # a path's solves start from each other
        torch.testing.assert_close(value, wanted.state_dict()[name], rtol=0.02, atol=0.01)
    assert not same_state(
        found.classifier, transfer(source, task, FineTune(epochs=1, head="new"), run=QUIET).classifier
    )
