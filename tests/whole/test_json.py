"""`--json`: one object on standard output, and nothing else there."""

from __future__ import annotations

import json
from pathlib import Path

from cli_helpers import DIGITS, Invoke

from robust_transfer.cli import catalogue


def test_what_is_listed(invoke: Invoke) -> None:
    status, out, _ = invoke("list", "strategies", "--json")
    assert status == 0
    assert json.loads(out) == {
        "strategies": {
            name: f"{line} ({paper})" if paper else line for name, line, paper in catalogue.catalogue("strategies")
        }
    }
    assert {"sources", "networks", "attacks", "recipes"} < set(json.loads(invoke("list", "--json")[1]))


def test_cards_and_a_verification(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    run, evaluated = tmp_path / "probe", tmp_path / "evaluated"
    words = ("--strategy", "linear-probe", "--shots", "10", "--out", run, "--json")
    status, out, _ = invoke("transfer", "--source", source, *DIGITS, *words)
    assert status == 0
    assert json.loads(out) == json.loads((run / "card.json").read_text())

    few = ("--attack", "fgsm", "--examples", "20", "--keep-deltas", "--red-flag-examples", "0")
    status, _, _ = invoke("evaluate", run, *DIGITS, *few, "--transfer-attack-examples", "0", "--out", evaluated)
    assert status == 0
    status, out, _ = invoke("verify", evaluated, run, *DIGITS, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["n"], found["problems"]) == (20, [])

    status, out, _ = invoke("import", run, "--out", tmp_path / "imported", "--json")
    assert status == 0
    assert json.loads(out)["weights_hash"] == json.loads((run / "card.json").read_text())["weights_hash"]
