"""The command line end to end, on real digits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cli_helpers import DIGITS, Invoke, one_sentence
from report_helpers import evaluation, outcomes

KEYS = {
    "schema", "clean_accuracy", "robust_accuracy", "constant_accuracy", "by_attack", "threat", "attack", "split", "input_size",
    "precision", "seed", "flags", "seconds", "data_hash", "model_hash", "versions", "command",
}  # fmt: skip


# -------------------------------------------------------------------- the road


def test_the_road(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "probe"
    status, out, _ = invoke(
        "transfer", "--source", source, *DIGITS, "--strategy", "linear-probe", "--shots", "20", "--out", run, "--quiet"
    )
    assert (status, out) == (0, "")
    assert {"model.safetensors", "card.json", "config.yaml", "README.md", "path.safetensors"} <= set(os.listdir(run))

    evaluated = tmp_path / "evaluated"
    words = ("evaluate", run, *DIGITS, "--attack", "pgd-5", "--examples", "100", "--json", "--quiet")
    status, out, _ = invoke(*words, "--out", evaluated)
    found = json.loads(out)
    assert status == 0
    assert set(found) >= KEYS
    assert found == json.loads((evaluated / "evaluation.json").read_text())
    for key in ("clean_accuracy", "robust_accuracy"):
        assert found[key]["n"] == 100
        assert found[key]["low"] <= found[key]["value"] <= found[key]["high"]
    assert found["robust_accuracy"]["value"] <= found["clean_accuracy"]["value"]
    assert found["clean_accuracy"]["value"] > 0.5
    assert found["threat"] == "linf:16/255"  # inherited from the source's card
    outcomes = pd.read_parquet(evaluated / "outcomes.parquet")
    assert len(outcomes) == 100
    assert (outcomes["broken_by"] == "").mean() == found["robust_accuracy"]["value"]

    status, out, _ = invoke(*words, "--threat", "linf:0")
    zero = json.loads(out)
    assert zero["robust_accuracy"]["value"] == zero["clean_accuracy"]["value"] == found["clean_accuracy"]["value"]

    status, out, _ = invoke("compare", evaluated, evaluated, "--json")
    assert status == 0
    assert "robust" in out


def test_everything_about_an_evaluation_and_its_verification(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "probe", tmp_path / "evaluated"
    shots = ("--shots", "20")
    invoke("transfer", "--source", source, *DIGITS, "--strategy", "linear-probe", *shots, "--out", run, "--quiet")
    words = ("evaluate", run, *DIGITS, "--source", source, "--attack", "fgsm+pgd-3", "--examples", "60",
             "--transfer-attack-examples", "8", "--red-flag-examples", "8", "--out", out, "--keep-deltas",
             "--quiet", "--json")  # fmt: skip
    status, text, err = invoke(*words, "--time-limit", "1h")
    assert status == 0, err
    found = json.loads(text)
    assert found["untested"] == []
    assert found["transferred"]["n"] == found["transferred"]["source_features"]["n"] == 8
    assert found["red_flag_examples"] == 8
    assert found["curve"] is None
    assert len(found["by_class"]) == 10

    more = ("--resume", "--per-class", "--curve", "4/255,16/255,32/255", "--smallest-eps")
    status, text, err = invoke(*words, *more)
    assert status == 0, err
    added = json.loads(text)
    assert added["by_class"] == found["by_class"]
    assert added["per_class"] > found["per_class"]
    assert [level["threat"] for level in added["curve"]] == ["linf:4/255", "linf:16/255", "linf:32/255"]
    assert added["curve"][1]["robust_accuracy"] == found["robust_accuracy"]
    assert "smallest_eps" in pd.read_parquet(out / "outcomes.parquet")

    status, text, err = invoke(*words, "--resume", "--certify", "smoothing:n=60,n0=20,examples=20")
    assert status == 0, err
    [certificate] = json.loads(text)["certificates"]
    assert (certificate["n"], certificate["settings"]["n"], certificate["norm"]) == (20, 60, "l2")
    assert 0 <= certificate["own"]["certified_accuracy"]["value"] <= certificate["clean_accuracy"]["value"]

    status, text, err = invoke("verify", out, *DIGITS, run)
    assert status == 0, err
    assert "60 of 565 images" in text
    assert "the claim stands" in text
    table = pd.read_parquet(out / "outcomes.parquet")
    table.loc[table.index[table["broken_by"] == ""][0], "broken_by"] = "fgsm"
    table.to_parquet(out / "outcomes.parquet", index=False)
    status, _, err = invoke("verify", out, *DIGITS, run, "--quiet")
    assert status == 2
    one_sentence(err)


def test_data_are_looked_through(invoke: Invoke, tmp_path: Path) -> None:
    status, out, err = invoke("data", "builtin:digits", "--json", "--quiet", "--contact-sheet", tmp_path / "sheet.png")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["splits"]["train"]["images"] == 1797
    assert sum(found["splits"]["train"]["classes"].values()) == 1797
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    status, out, err = invoke("data", "builtin:digits", "--examples", "100")
    assert status == 0
    assert "1797 images, 100 of them looked at" in out
    status, out, err = invoke("data", tmp_path / "none")
    assert (status, out) == (2, "")
    one_sentence(err)


def test_classes_may_count_the_same(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    words = ("transfer", "--source", source, *DIGITS, "--strategy", "linear-probe", "--shots", "20", "--quiet")
    assert invoke(*words, "--out", tmp_path / "run", "--class-weights", "balanced")[0] == 0
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["data"]["weights"] == "balanced"
    assert card["criterion"] == "best weighted val log-loss over the L2 path"
    status, _, err = invoke(*words, "--out", tmp_path / "other", "--class-weights", "even")
    assert status == 2
    assert "balanced" in err


def test_help_and_errors_in_settings_import_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['robust-transfer', '--help']\n"
        "from robust_transfer import cli\n"
        "try: cli.main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("list", "pretrain", "transfer", "evaluate", "compare", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize("what", ["sources", "networks", "data", "pretraining", "strategies", "attacks"])
def test_list_names_what_is_registered(invoke: Invoke, what: str) -> None:
    expected = {
        "sources": "bundled", "networks": "wrn_28_10", "data": "builtin:digits", "pretraining": "pgd-at",
        "strategies": "linear-probe", "attacks": "pgd",
    }  # fmt: skip
    status, out, _ = invoke("list", what)
    assert status == 0
    assert expected[what] in out


def test_a_demo_that_cannot_be_made_leaves_the_old_page(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    for name in ("index.html", "table.json"):
        (out / name).write_text("{}")
    for wrong, told in ((("--examples", "0"), "examples must be at least 1"),
                        (("--control", source), "the control was trained for linf:16/255")):  # fmt: skip
        status, _, err = invoke("demo", "--source", source, *wrong, "--out", out, "--overwrite")
        assert status == 2
        assert told in one_sentence(err)
    assert (out / "index.html").read_text() == "{}"


@pytest.mark.parametrize("words", [("--data", "x" * 300), ("--data", "builtin:digits", "--source", "y" * 300)])
def test_names_that_are_too_long_are_told_in_a_sentence(
    invoke: Invoke, source: Path, tmp_path: Path, words: list[str]
) -> None:
    given = ("--source", source, *words) if "--source" not in words else words
    status, _, err = invoke("transfer", *given, "--strategy", "linear-probe", "--out", tmp_path / "o")
    assert status == 2
    assert "name too long" in err.lower()


def test_demo_makes_a_page_from_what_it_measured(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    out, twin = tmp_path / "demo", tmp_path / "twin"
    made = ("--network", "wrn-16-1", "--method", "natural", "--epochs", "1", "--out", twin, "--quiet")
    assert invoke("pretrain", "--data", "builtin:digits", *made)[0] == 0
    words = ("--source", source, "--control", twin, "--shots", "20", "--examples", "60", "--out", out, "--quiet")
    status, _, err = invoke("demo", *words)
    assert status == 0, err
    page, table = (out / "index.html").read_text(), json.loads((out / "table.json").read_text())
    strategies = ["linear-probe", "fine-tune", "lwf"]
    assert [row["name"] for row in table["rows"] if row["group"] == "source"] == strategies
    assert [row["name"] for row in table["rows"] if row["group"] == "control"] == strategies
    rivals = {row["name"]: row["adversarial_examples"] for row in table["rows"] if row["group"] == "scratch"}
    assert rivals.keys() | table["failed"].keys() == {"natural training", "adversarial training"}
    assert rivals.get("natural training", 0) == 0
    assert {row["adversarial_examples"] for row in table["rows"] if row["group"] != "scratch"} == {0}
    assert all(name in page for name in table["failed"])
    for row in table["rows"]:
        assert f"{100 * row['robust']['value']:.1f}" in page
    assert "constant classifier" in page
    parts = {row["group"] for row in table["rows"]}
    assert page.count("data:image/png;base64") == 5 * (1 + 2 * len(parts))
    assert page.count('<svg class="bar"') == 2 * len(table["rows"])
    assert not re.search(r"(src|href)=.http|url\(.?http|<script|@import", page)  # self-contained


def test_a_report_is_one_file_and_a_comparison_can_have_one(invoke: Invoke, tmp_path: Path) -> None:
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "pages" / "r.html"
    for seed, folder in enumerate((a, b)):
        evaluation(outcomes(60, seed=seed), tuple("abcde")).save(folder)
    status, told, err = invoke("report", tmp_path, "--out", out, "--no-pictures")
    assert (status, told) == (0, f"the page: {out}\n"), err
    assert "asked for without them (--no-pictures)" in out.read_text()
    status, told, err = invoke("compare", a, b, "--page", tmp_path / "compared.html")
    assert status == 0, err
    robust = next(line for line in told.splitlines() if line.startswith("robust"))
    difference = re.search(r"difference (.*): ", robust)
    assert difference is not None
    assert difference[1] in (tmp_path / "compared.html").read_text()
    status, _, err = invoke("report", tmp_path / "nothing", "--out", out)
    assert status == 2
    assert "is no folder" in one_sentence(err)
