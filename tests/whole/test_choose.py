"""``choose`` on the command line: what it leaves is a run folder, and val is large enough to choose by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import DIGITS, Invoke, one_sentence

from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.choosing import chooser, judging
from robust_transfer.cli.choose import _task
from robust_transfer.data.formats import ColumnNames
from robust_transfer.evaluation import load_evaluation


def test_what_is_chosen_is_a_run_like_any_other(
    invoke: Invoke, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (chooser, judging):
        monkeypatch.setattr(each, "FINAL", "pgd-5")
    run = tmp_path / "chosen"
    words = ("choose", "--source", source, *DIGITS, "--shots", "8", "--time-limit", "8s", "--out", run)
    status, out, err = invoke(*words, "--json")
    assert status == 0
    found = json.loads(out)
    assert found == json.loads((run / "choice.json").read_text())
    assert found["threat"] == "linf:16/255"  # the source's
    assert found["chosen"] in [one["name"] for one in found["tried"]]
    assert "images of train are set aside as test" in err
    assert found["chosen"] in err
    assert load_checkpoint(run).card.method.startswith("transfer:")
    assert load_evaluation(run).split == "test"
    status, out, _ = invoke("inspect", run)
    assert status == 0
    status, _, err = invoke(*words)
    assert status == 2
    assert "is not empty" in one_sentence(err)


def test_val_is_large_enough_to_choose_by(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    columns = ColumnNames(None, None)
    usual = _task("builtin:digits", columns, None, 0, 0.1)
    assert len(_task("builtin:digits", columns, None, 0, None).val) == len(usual.val) > 100
    capsys.readouterr()
    few = _task(str(images), columns, None, 0, None)
    whole = len(few.train) + len(few.val)
    assert len(few.val) == len(_task(str(images), columns, None, 0, 0.2).val) > 0.1 * whole
    assert f"val is {len(few.val)} images, 20 % of train" in capsys.readouterr().err
    asked = _task(str(images), columns, None, 0, 0.1)
    assert len(asked.val) < len(few.val)
