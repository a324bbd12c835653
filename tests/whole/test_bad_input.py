"""Every kind of bad input ends in one sentence and exit status 2."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import DIGITS, Invoke, one_sentence
from filelock import FileLock
from safetensors.torch import load_file, save_file

import robust_transfer
from robust_transfer import cli
from robust_transfer.errors import ConfigError
from robust_transfer.manifest import LOCK

# -------------------------------------------------------------------- bad input


def test_unknown_names_tell_the_nearest(invoke: Invoke, source: Path, tmp_path: Path) -> None:
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
        (("--threat", "linf:-1/255"), "cannot read the eps"),
        (("--threat", "lmax:8/255"), "linf"),
        (("--device", "gpu"), "device"),
        (("--precision", "float8"), "precision"),
        (("--examples", "0"), "examples"),
        (("--seed", "-1"), "seed"),
        (("--threads", "0"), "threads"),
        (("--resume", "--overwrite"), "--resume"),
    ],
)
def test_wrong_options(invoke: Invoke, source: Path, words: list[str], said: str) -> None:
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
def test_wrong_usage(invoke: Invoke, words: list[str], said: str) -> None:
    status, out, err = invoke(*words)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_help_and_version(invoke: Invoke) -> None:
    assert invoke("--version") == (0, f"robust-transfer {robust_transfer.__version__}\n", "")
    status, out, err = invoke("--help")
    assert (status, err) == (0, "")
    assert "compare" in out
    assert invoke()[0] == 2  # without a command: the help


def test_an_interruption_says_how_to_go_on(invoke: Invoke, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robust_transfer.evaluation.evaluate", interrupted)
    status, out, err = invoke("evaluate", source, *DIGITS)
    assert (status, out) == (130, "")
    assert "--resume" in one_sentence(err)


def test_a_wrong_path_is_told(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    for words in (("evaluate", tmp_path / "nothing", *DIGITS), ("evaluate", source, "--data", tmp_path / "nothing")):
        status, _, err = invoke(*words)
        assert status == 2
        assert "nothing" in one_sentence(err)


def test_an_undecodable_image_is_named(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "train" / "dark" / "3.png").write_bytes(b"not an image at all")
    status, _, err = invoke(
        "transfer", "--source", source, "--data", folder, "--strategy", "linear-probe", "--out", tmp_path / "o"
    )
    assert status == 2
    assert "3.png" in one_sentence(err)
    assert not (tmp_path / "o").exists()


def test_a_class_with_one_image_stays_in_train_and_is_named(
    invoke: Invoke, source: Path, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    for index in range(1, 12):
        (folder / "train" / "dark" / f"{index}.png").unlink()
    status, _, err = invoke(
        "transfer", "--source", source, "--data", folder, "--strategy", "linear-probe", "--out", tmp_path / "o"
    )
    assert status == 0
    assert re.search("note: .*dark", err)


def probe_words(source: Path, images: Path, out: Path) -> list[Any]:
    """A transfer that takes a moment."""
    words = ("--source", source, "--data", images, "--strategy", "linear-probe", "--val", "0")
    return ["transfer", *words, "--out", out, "--quiet"]


def test_an_output_folder_is_not_overwritten_unasked(
    invoke: Invoke, source: Path, images: Path, tmp_path: Path
) -> None:
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


def test_evaluating_into_the_run_folder_keeps_the_model(
    invoke: Invoke, source: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert invoke(*probe_words(source, images, run))[0] == 0
    words = (
        "evaluate",
        run,
        "--data",
        images,
        "--quiet",
        "--attack",
        "pgd-2",
        "--red-flag-examples",
        "0",
        "--out",
        run,
    )
    assert invoke(*words)[0] == 0
    assert (run / "evaluation.json").exists()
    status, _, err = invoke(*words)
    assert status == 2
    assert "--overwrite" in one_sentence(err)
    assert invoke(*words, "--overwrite")[0] == 0
    assert (run / "model.safetensors").exists()


def test_a_full_disk_leaves_nothing_half_written(
    invoke: Invoke, source: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real = os.replace

    def full(src: Any, dst: Any, **more: Any) -> None:
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


def test_a_checkpoint_of_another_network_is_refused(invoke: Invoke, source: Path, tmp_path: Path) -> None:
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


def test_a_pickle_does_not_run(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "trapped"),)

    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    card = json.loads((other / "card.json").read_text())
    card["weights_hash"] = hashlib.sha256(pickle.dumps(Trap())).hexdigest()
    (other / "card.json").write_text(json.dumps(card))
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Trap()))
    for source_, said in (
        (other, "store weights as safetensors"),
        (tmp_path / "weights.pt", "no dictionary of tensors in it"),
    ):
        status, _, err = invoke("evaluate", source_, *DIGITS)
        assert status == 2
        assert said in one_sentence(err)
    assert not (tmp_path / "trapped").exists()


def test_other_classes_than_the_models_are_refused(invoke: Invoke, source: Path, images: Path) -> None:
    status, _, err = invoke("evaluate", source, "--data", images)
    assert status == 2
    assert "classes" in one_sentence(err)


def test_divergence_ends_with_status_3_and_saves_nothing(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "wild"
    status, _, err = invoke(
        "transfer", "--source", source, *DIGITS, "--strategy", "fine-tune", "--shots", "20", "--out", out, "--quiet",
        "--set", "head=new", "--set", "learning_rate=1e12",
    )  # fmt: skip
    assert status == 3
    assert "diverged" in one_sentence(err)
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("20", 20)])
def test_time_limits(text: str, seconds: float) -> None:
    assert cli.options.seconds_of(text) == seconds


def test_old_options_are_taken_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    renamed = cli.evaluate._renamed
    assert renamed("--checks", None, "--red-flag-examples", 5) == 5
    assert capsys.readouterr() == ("", "")
    assert renamed("--checks", 0, "--red-flag-examples", None) == 0
    assert capsys.readouterr().err.startswith("robust-transfer: --checks is now called --red-flag-examples;")
    with pytest.raises(ConfigError, match="give --red-flag-examples only"):
        renamed("--checks", 0, "--red-flag-examples", 5)


def test_a_time_limit_that_is_none_is_refused(invoke: Invoke, source: Path) -> None:
    status, _, err = invoke("evaluate", source, *DIGITS, "--time-limit", "soon")
    assert status == 2
    assert "write 90s, 5m or 1h" in one_sentence(err)


def test_batches_of_one_are_refused_where_batch_norm_needs_more(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    words = ("transfer", "--source", source, *DIGITS, "--strategy", "mlp-head", "--set", "layer_batch_norm=true")
    status, _, err = invoke(
        *words, "--shots", "4", "--batch-size", "1", "--epochs", "1", "--out", tmp_path / "x", "--quiet"
    )
    assert status == 2
    assert "give a batch_size of at least 2" in one_sentence(err)


def test_a_terminal_that_lacks_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["robust-transfer", "list", "data"])
    with pytest.raises(SystemExit):
        cli.main()
    print("\u732b caf\xe9")
    stream.flush()
    assert stream.buffer.getvalue().decode("cp1252").endswith("\\u732b caf\xe9\n")


def test_the_home_folder_in_an_option(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for words in (("transfer", "--source", "bundled", *DIGITS, "--strategy", "linear-probe"), ("pretrain", *DIGITS)):
        status, _, err = invoke(*words, "--out=~/full", "--quiet")
        assert status == 2
        assert f"the output folder {tmp_path / 'full'} is not empty" in err


@pytest.mark.parametrize(
    "command",
    [
        ("pretrain", "--epochs", "1"),
        ("transfer", "--source", "bundled", "--strategy", "linear-probe"),
        ("demo",),
    ],
    ids=lambda command: command[0],
)
def test_a_folder_that_another_process_writes_to_is_refused(
    invoke: Invoke, tmp_path: Path, command: tuple[str, ...]
) -> None:
    tmp_path.joinpath("run").mkdir()
    with FileLock(tmp_path / "run" / LOCK):
        status, _, err = invoke(*command, *DIGITS, "--out", tmp_path / "run", "--quiet")
    assert status == 2
    assert "another process is writing to" in one_sentence(err)
