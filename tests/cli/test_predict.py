"""``predict`` on the command line: three formats, what it reads, what it says of what cannot be read."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Invoke
from helpers import make_source
from images import write_classes

from robust_transfer.prediction import predict
from robust_transfer.run import Run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "made"
    make_source(threat="linf:8/255").save(out)
    return out


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "images", {"cat": 2, "dog": 1})


def test_three_formats_say_the_same(model: Path, images: Path, invoke: Invoke) -> None:
    words = ("predict", model, images, "--top", "2", "--attack", "pgd-2", "--quiet")
    wanted = [
        one.to_dict()
        for one in predict(make_source(threat="linf:8/255"), images, top=2, attack="pgd-2", run=Run(quiet=True))
    ]
    status, out, err = invoke(*words, "--json")
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == wanted

    status, out, err = invoke(*words, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["file"] for row in rows] == [one["file"] for one in wanted]
    for row, one in zip(rows, wanted, strict=True):
        assert [row["class"], row["class_2"]] == [each["class"] for each in one["top"]]
        assert float(row["probability_2"]) == one["top"][1]["probability"]
        assert [float(row[name]) for name in ("linear_eps", "stood_at", "broken_at")] == [
            one["linear_eps"], one["stood_at"], one["broken_at"]
        ]  # fmt: skip
        assert (row["norm"], row["attack"], row["error"]) == ("linf", "pgd-2", "")

    status, out, err = invoke(*words)
    head, *lines = out.splitlines()
    assert head.split()[-7:] == ["linear", "linf", "stood", "at", "broken", "at", "file"]
    for line, one in zip(lines, wanted, strict=True):
        assert line.endswith(one["file"])
        assert f"{100 * one['top'][0]['probability']:.1f} %" in line
        for name in ("linear_eps", "stood_at", "broken_at"):
            assert f"{255 * one[name]:.1f}/255" in line
    status, out, err = invoke(*words[:3], "--threat", "l2:0.5")
    assert "an estimate that may be too large or too small" in err
    in_l2 = next(predict(make_source(), images, threat="l2:0.5")).linear_eps
    assert f" {in_l2:.2f} " in out


def test_paths_on_standard_input_and_files_that_cannot_be_read(
    model: Path, images: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = images / "bad.png", images / "cat" / "000.png"
    bad.write_bytes(b"no image")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{bad}\r\n\n{good}\n"))
    status, out, err = invoke("predict", model, "-", "--json", "--quiet")
    told = [json.loads(line) for line in out.splitlines()]
    assert status == 2
    assert [one["file"] for one in told] == [str(bad), str(good)]
    assert "error" in told[0]
    assert "error" not in told[1]
    assert err == "robust-transfer: 1 of 2 images could not be read or predicted: see above\n"
    status, out, err = invoke("predict", model, bad, good, "--quiet")
    assert status == 2
    assert str(bad) not in out
    assert str(good) in out
    assert err.startswith(f"robust-transfer: cannot decode {bad} (not an image of a known format)")
    status, out, err = invoke("predict", model, "-", "--quiet")
    assert (status, out) == (2, "")
    assert "there are no images" in err
    status, _, err = invoke("predict", model, good, "--csv", "--json", "--quiet")
    assert (status, "give one of them" in err) == (2, True)


def test_a_reader_may_leave(model: Path, images: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "robust_transfer.cli",
        "predict",
        str(model),
        *[str(images)] * 200,
        "--quiet",
        "--json",
    ]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    assert json.loads(child.stdout.readline())["top"]
    child.stdout.close()
    assert (child.wait(120), child.stderr.read()) == (0, "")
    child.stderr.close()


def test_no_name_is_a_formula_or_a_line_of_its_own(model: Path, images: Path, tmp_path: Path, invoke: Invoke) -> None:
    picture, tmp_path = next(images.rglob("*.png")).read_bytes(), tmp_path / "named"
    tmp_path.mkdir()
    for name in ("=1+1.png", "a\nb.png", "\x1b[2J.png"):
        (tmp_path / name).write_bytes(picture)
    names = sorted(each.name for each in tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        status, said, err = invoke("predict", model, *names, "--csv", "--quiet")
        assert (status, err) == (0, "")
        files = [row["file"] for row in csv.DictReader(io.StringIO(said))]
        assert sorted(files) == sorted(["'=1+1.png", "a\\nb.png", "\\x1b[2J.png"])
        status, said, err = invoke("predict", model, *names, "--quiet")
    assert len(said.splitlines()) == 4
    assert "\x1b" not in said
