"""The command line end to end: the road on real digits, and every kind of bad input."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import robust_transfer
from robust_transfer import cli

DIGITS = ("--data", "builtin:digits")
KEYS = {
    "schema", "clean_accuracy", "robust_accuracy", "constant_accuracy", "by_attack", "threat", "attack", "split", "input_size",
    "precision", "seed", "flags", "seconds", "data_hash", "model_hash", "versions", "command",
}  # fmt: skip


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Call the command line in this process: ``(exit status, standard output, standard error)``."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robust-transfer", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A source for 8x8 digits, made by the command line itself."""
    out = tmp_path_factory.mktemp("source") / "source"
    words = [
        "pretrain",
        *DIGITS,
        "--network",
        "wrn-16-1",
        "--threat",
        "linf:16/255",
        "--epochs",
        "2",
        "--out",
        str(out),
        "--quiet",
    ]
    more = ["--set", "flip=false", "--set", "pad=0", "--set", "learning_rate=0.1", "--batch-size", "64"]
    saved, sys.argv = sys.argv, ["robust-transfer", *words, *more]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        sys.argv = saved
    assert not exit_.value.code
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of two classes of real pixels, 12 images a class, train and test."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 4)):
        for label, mean in (("dark", 60), ("light", 190)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(n):
                pixels = np.clip(generator.normal(mean, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def one_sentence(err: str) -> str:
    """The error text: a line or two to read, and no traceback."""
    assert "Traceback" not in err
    assert 10 < len(err.strip()) < 400, err
    return err


# -------------------------------------------------------------------- the road


def test_the_road(invoke, source, tmp_path):
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


def test_everything_about_an_evaluation_and_its_verification(invoke, source, tmp_path):
    run, out = tmp_path / "probe", tmp_path / "evaluated"
    shots = ("--shots", "20")
    invoke("transfer", "--source", source, *DIGITS, "--strategy", "linear-probe", *shots, "--out", run, "--quiet")
    words = ("evaluate", run, *DIGITS, "--source", source, "--attack", "fgsm+pgd-3", "--examples", "60", "--beyond", "8",
             "--checks", "8", "--out", out, "--keep-deltas", "--quiet", "--json")  # fmt: skip
    status, text, err = invoke(*words, "--budget", "1h")
    assert status == 0, err
    found = json.loads(text)
    assert found["untested"] == []
    assert found["transferred"]["n"] == found["transferred"]["source_features"]["n"] == 8
    assert found["checked"] == 8
    assert found["by_class"] is found["curve"] is None

    more = ("--resume", "--per-class", "--curve", "4/255,16/255,32/255", "--smallest-eps")
    status, text, err = invoke(*words, *more)
    assert status == 0, err
    added = json.loads(text)
    assert len(added["by_class"]) == 10
    assert [level["threat"] for level in added["curve"]] == ["linf:4/255", "linf:16/255", "linf:32/255"]
    assert added["curve"][1]["robust_accuracy"] == found["robust_accuracy"]
    assert "smallest_eps" in pd.read_parquet(out / "outcomes.parquet")

    status, text, err = invoke("verify", out, *DIGITS, run)
    assert status == 0, err
    assert "60 of 599 images" in text
    assert "the claim stands" in text
    table = pd.read_parquet(out / "outcomes.parquet")
    table.loc[table.index[table["broken_by"] == ""][0], "broken_by"] = "fgsm"
    table.to_parquet(out / "outcomes.parquet", index=False)
    status, _, err = invoke("verify", out, *DIGITS, run)
    assert status == 2
    one_sentence(err)


def test_help_and_errors_in_settings_import_no_torch():
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
def test_list_names_what_is_registered(invoke, what):
    expected = {
        "sources": "bundled", "networks": "wrn_28_10", "data": "builtin:digits", "pretraining": "pgd-at",
        "strategies": "linear-probe", "attacks": "pgd",
    }  # fmt: skip
    status, out, _ = invoke("list", what)
    assert status == 0
    assert expected[what] in out


def test_a_demo_that_cannot_be_made_leaves_the_old_page(invoke, source, tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    for name in ("index.html", "table.json"):
        (out / name).write_text("{}")
    status, _, err = invoke("demo", "--source", source, "--examples", "0", "--out", out, "--overwrite")
    assert status == 2
    assert "examples must be at least 1" in one_sentence(err)
    assert (out / "index.html").read_text() == "{}"


@pytest.mark.parametrize("words", [("--data", "x" * 300), ("--data", "builtin:digits", "--source", "y" * 300)])
def test_names_that_are_too_long_are_told_in_a_sentence(invoke, source, tmp_path, words):
    given = ("--source", source, *words) if "--source" not in words else words
    status, _, err = invoke("transfer", *given, "--strategy", "linear-probe", "--out", tmp_path / "o")
    assert status == 2
    assert "name too long" in err.lower()


def test_demo_makes_a_page_from_what_it_measured(invoke, source, tmp_path):
    out = tmp_path / "demo"
    status, _, _ = invoke("demo", "--source", source, "--shots", "20", "--examples", "60", "--out", out, "--quiet")
    assert status == 0
    page, table = (out / "index.html").read_text(), json.loads((out / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["linear-probe", "fine-tune", "lwf"]
    for row in table["rows"]:
        assert f"{100 * row['robust']['value']:.1f}" in page
    assert "constant classifier" in page
    assert "<svg" in page
    assert page.count("data:image/png;base64") == 5 * (1 + 2 * 3)
    assert not re.search(r"(src|href)=.http|url\(.?http|<script|@import", page)  # self-contained


# -------------------------------------------------------------------- bad input


def test_unknown_names_tell_the_nearest(invoke, source, tmp_path):
    out = tmp_path / "never"
    for words, hint in (
        (("transfer", "--source", source, *DIGITS, "--strategy", "linear-prob", "--out", out), "linear-probe"),
        (
            ("transfer", "--source", source, *DIGITS, "--strategy", "lwf", "--set", "feature_wieght=1", "--out", out),
            "feature_weight",
        ),
        (("pretrain", *DIGITS, "--method", "fats", "--out", out), "fast"),
        (("pretrain", *DIGITS, "--network", "wrn-16-22", "--out", out), "wrn_16_2"),
        (("evaluate", source, *DIGITS, "--attack", "pdg-20"), "pgd"),
        (("evaluate", source, *DIGITS, "--attack", "pgd-20:restart=3"), "restarts"),
        (("evaluate", source, *DIGITS, "--split", "tset"), "test"),
        (("evaluate", "bundeld", *DIGITS), "bundled"),
        (("evaluate", source, "--data", "builtin:digit"), "builtin:digits"),
    ):
        status, _, err = invoke(*words)
        assert status == 2, words
        assert hint in one_sentence(err), words
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threat", "linf:8"), "8/255"),
        (("--threat", "linf:-1/255"), "budget"),
        (("--threat", "lmax:8/255"), "linf"),
        (("--device", "gpu"), "device"),
        (("--precision", "float8"), "precision"),
        (("--examples", "0"), "examples"),
        (("--seed", "-1"), "seed"),
        (("--threads", "0"), "threads"),
        (("--resume", "--overwrite"), "--resume"),
    ],
)
def test_wrong_options(invoke, source, words, said):
    status, out, err = invoke("evaluate", source, *DIGITS, *words)
    assert (status, out) == (2, "")
    assert said in one_sentence(err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("transfer", "--nope"), "--nope"),
        (("frobnicate",), "frobnicate"),
        (("evaluate", "bundled", "--data", "builtin:digits", "--seed", "one"), "--seed"),
        (("evaluate", "bundled"), "--data"),
    ],
)
def test_wrong_usage(invoke, words, said):
    status, out, err = invoke(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_help_and_version(invoke):
    assert invoke("--version") == (0, f"robust-transfer {robust_transfer.__version__}\n", "")
    status, out, err = invoke("--help")
    assert (status, err) == (0, "")
    assert "compare" in out
    assert invoke()[0] == 2  # without a command: the help


def test_an_interruption_says_how_to_go_on(invoke, source, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robust_transfer.evaluation.evaluate", interrupted)
    status, out, err = invoke("evaluate", source, *DIGITS)
    assert (status, out) == (130, "")
    assert "--resume" in one_sentence(err)


def test_a_wrong_path_is_told(invoke, source, tmp_path):
    for words in (("evaluate", tmp_path / "nothing", *DIGITS), ("evaluate", source, "--data", tmp_path / "nothing")):
        status, _, err = invoke(*words)
        assert status == 2
        assert "nothing" in one_sentence(err)


def test_an_undecodable_image_is_named(invoke, source, images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "train" / "dark" / "3.png").write_bytes(b"not an image at all")
    status, _, err = invoke(
        "transfer", "--source", source, "--data", folder, "--strategy", "linear-probe", "--out", tmp_path / "o"
    )
    assert status == 2
    assert "3.png" in one_sentence(err)
    assert not (tmp_path / "o").exists()


def test_a_class_with_one_image_is_named(invoke, source, images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    for index in range(1, 12):
        (folder / "train" / "dark" / f"{index}.png").unlink()
    status, _, err = invoke(
        "transfer", "--source", source, "--data", folder, "--strategy", "linear-probe", "--out", tmp_path / "o"
    )
    assert status == 2
    assert "dark" in one_sentence(err)


def probe_words(source, images, out):
    """A transfer that takes a moment."""
    words = ("--source", source, "--data", images, "--strategy", "linear-probe", "--val", "0")
    return ("transfer", *words, "--out", out, "--quiet")


def test_an_output_folder_is_not_overwritten_unasked(invoke, source, images, tmp_path):
    out = tmp_path / "full"
    out.mkdir()
    (out / "thesis.txt").write_text("do not lose")
    words = probe_words(source, images, out)
    status, _, err = invoke(*words)
    assert status == 2
    assert "not empty" in one_sentence(err)
    status, _, err = invoke(*words, "--overwrite")  # not a run folder: not emptied even when asked
    assert status == 2
    assert (out / "thesis.txt").read_text() == "do not lose"

    run = tmp_path / "run"
    words = probe_words(source, images, run)
    assert invoke(*words)[0] == 0
    before = (run / "card.json").read_text()
    assert invoke(*words)[0] == 2
    assert (run / "card.json").read_text() == before
    assert invoke(*words, "--overwrite")[0] == 0


def test_evaluating_into_the_run_folder_keeps_the_model(invoke, source, images, tmp_path):
    run = tmp_path / "run"
    assert invoke(*probe_words(source, images, run))[0] == 0
    words = ("evaluate", run, "--data", images, "--quiet", "--attack", "pgd-2", "--checks", "0", "--out", run)
    assert invoke(*words)[0] == 0
    assert (run / "evaluation.json").exists()
    status, _, err = invoke(*words)
    assert status == 2
    assert "--overwrite" in one_sentence(err)
    assert invoke(*words, "--overwrite")[0] == 0
    assert (run / "model.safetensors").exists()


def test_a_full_disk_leaves_nothing_half_written(invoke, source, images, tmp_path, monkeypatch):
    out = tmp_path / "out"
    real = os.replace

    def full(src, dst, **more):
        if "model.safetensors" in str(dst):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(src, dst, **more)

    monkeypatch.setattr(os, "replace", full)
    words = probe_words(source, images, out)
    status, _, err = invoke(*words)
    assert status == 2
    assert "disk is full" in one_sentence(err)
    assert not (out / "model.safetensors").exists()
    assert not list(out.glob(".*"))  # no temporary files


def test_a_checkpoint_of_another_network_is_refused(invoke, source, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(source, other)
    card = json.loads((other / "card.json").read_text())
    card["network"]["name"] = "wrn_16_2"
    (other / "card.json").write_text(json.dumps(card))
    status, _, err = invoke("evaluate", other, *DIGITS)
    assert status == 2
    assert "another network" in one_sentence(err)

    tensors = load_file(other / "model.safetensors")
    tensors.pop("head.bias")
    save_file(tensors, other / "model.safetensors")
    card["network"]["name"] = "wrn_16_1"
    card["weights_hash"] = hashlib.sha256((other / "model.safetensors").read_bytes()).hexdigest()
    (other / "card.json").write_text(json.dumps(card))
    status, _, err = invoke("evaluate", other, *DIGITS)
    assert status == 2
    assert "head.bias" in one_sentence(err)


def test_a_pickle_does_not_run(invoke, source, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    card = json.loads((other / "card.json").read_text())
    card["weights_hash"] = hashlib.sha256(pickle.dumps(Trap())).hexdigest()
    (other / "card.json").write_text(json.dumps(card))
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Trap()))
    for source_ in (other, tmp_path / "weights.pt"):
        status, _, err = invoke("evaluate", source_, *DIGITS)
        assert status == 2
        assert "safetensors" in one_sentence(err)
    assert not (tmp_path / "trapped").exists()


def test_other_classes_than_the_models_are_refused(invoke, source, images):
    status, _, err = invoke("evaluate", source, "--data", images)
    assert status == 2
    assert "classes" in one_sentence(err)


def test_divergence_ends_with_status_3_and_saves_nothing(invoke, source, tmp_path):
    out = tmp_path / "wild"
    status, _, err = invoke(
        "transfer", "--source", source, *DIGITS, "--strategy", "fine-tune", "--shots", "20", "--out", out, "--quiet",
        "--set", "head=new", "--set", "learning_rate=1e12",
    )  # fmt: skip
    assert status == 3
    assert "diverged" in one_sentence(err)
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("20", 20)])
def test_budgets_of_time(text, seconds):
    assert cli.measuring._seconds(text) == seconds


def test_a_budget_that_is_none_is_refused(invoke, source):
    status, _, err = invoke("evaluate", source, *DIGITS, "--budget", "soon")
    assert status == 2
    assert "write 90s, 5m or 1h" in one_sentence(err)
