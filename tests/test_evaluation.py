"""Evaluation: figures that are known exactly, what is written and read back, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.attacks import FGSM, PGD, Attack
from robust_transfer.attacks import outcomes as outcomes_module
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DataError, OutputError, ThreatError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.intervals import wilson
from robust_transfer.run import Run

KEYS = """schema clean_accuracy robust_accuracy constant_accuracy by_attack by_class curve transferred untested threat
attack split input_size precision seed flags seconds passes data_hash model_hash source_hash versions hardware command
disagreement checked compiled"""
COLUMNS = ["index", "label", "clean_prediction", "adversarial_prediction", "broken_by", "margin"]
QUIET = Run(quiet=True, device="cpu", precision="float32")
EPS = 20 / 255


class Brightness(nn.Module):
    """Class 1 where the image is brighter than the threshold: a grey image is broken iff it is within eps of that."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(127.5 / 255))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        value = 20 * (x.flatten(1).mean(1) - self.threshold)
        return F.pad(torch.stack([-value, value], 1), (0, self.classes - 2), value=-50.0)


class Same(nn.Module):
    """Says class 1, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0]).repeat(len(x), 1)


def grey(values: list[int], labels: list[int], names: tuple[str, ...] = ("dark", "bright"), first_id: int = 0) -> Split:
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 4, 4)
    return Split.in_memory(images, torch.tensor(labels), names, ids=torch.arange(len(values)) + first_id)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def split() -> Split:
    """Values 40 to 215 with their true class; the first two labels are wrong. |value - 127.5| < 20 is breakable."""
    values = list(range(40, 216, 5))
    labels = [int(v > 127.5) for v in values]
    return grey(values, [1 - labels[0], 1 - labels[1], *labels[2:]], first_id=100)


VALUES = torch.arange(40, 216, 5)
BREAKABLE = int(((VALUES - 127.5).abs() < 20).sum())
N = len(VALUES)


def checkpoint(classes: int = 10, threat: str | None = "linf:4/255", size: int = 8) -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = NetworkSpec(name="wrn_16_1", num_classes=classes, input_size=size)
        card = Card(network=spec, class_names=tuple(f"c{i}" for i in range(classes)), method="test", threat=threat)
        return Checkpoint(Classifier.build(spec).eval(), card)


def noise(n: int, size: int = 8, classes: int = 10) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return Split.in_memory(images, torch.arange(n) % classes, tuple(f"c{i}" for i in range(classes)))


# ---------------------------------------------------------------- figures


def test_figures_of_a_model_that_is_understood(split: Split) -> None:
    found = evaluate(Brightness(), split, threat=f"linf:{EPS * 255:g}/255", attack="fgsm+pgd-5", run=QUIET)
    assert found.clean_accuracy == wilson(N - 2, N)
    assert found.robust_accuracy == wilson(N - 2 - BREAKABLE, N)
    assert found.constant_accuracy == max(split.labels.bincount()).item() / N
    assert found.by_attack == {"fgsm": (N - 2 - BREAKABLE) / N, "pgd-5": (N - 2 - BREAKABLE) / N}
    assert (found.threat, found.attack, found.split) == ("linf:20/255", "fgsm+pgd-5", "test")
    assert (found.input_size, found.precision, found.seed, found.flags) == (4, "float32", 0, [])

    table = found.outcomes
    assert list(table.columns) == COLUMNS
    assert table["index"].tolist() == list(range(100, 100 + N))
    assert table["label"].tolist() == split.labels.tolist()
    near = torch.abs(VALUES - 127.5) < 20
    assert table["broken_by"].tolist() == ["clean", "clean", *("fgsm" if hit else "" for hit in near.tolist()[2:])]
    assert table["clean_prediction"].tolist() == (VALUES > 127.5).int().tolist()
    flipped = (VALUES > 127.5) != near
    assert table["adversarial_prediction"].tolist() == flipped.int().tolist()
    # an attack moves every pixel by eps towards the threshold; what is wrong when clean is left alone
    exact = 40 * (EPS - (VALUES - 127.5).abs() / 255)
    exact[:2] = 40 * (127.5 - VALUES[:2]) / 255
    assert table["margin"].tolist() == pytest.approx(exact.tolist(), abs=1e-4)


def test_by_attack_is_cumulative_and_later_attacks_get_what_is_left(split: Split) -> None:
    weak = FGSM(step=0.5)
    found = evaluate(Brightness(), split, threat="linf:20/255", attack=[weak, FGSM()], run=QUIET)
    first = int(((VALUES - 127.5).abs() < 10).sum())
    assert found.by_attack == {"fgsm:step=0.5": (N - 2 - first) / N, "fgsm": (N - 2 - BREAKABLE) / N}
    counts = found.outcomes["broken_by"].value_counts()
    assert (counts["clean"], counts["fgsm:step=0.5"], counts["fgsm"]) == (2, first, BREAKABLE - first)
    assert found.robust_accuracy.value == found.by_attack["fgsm"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_budget_robust_is_clean(norm: str) -> None:
    model, data = checkpoint(), noise(40)
    found = evaluate(model, data, checked=0, threat=f"{norm}:0", run=QUIET)
    assert found.robust_accuracy == found.clean_accuracy
    assert set(found.outcomes["broken_by"]) <= {"", "clean"}


def test_a_constant_classifier_is_flagged(split: Split) -> None:
    found = evaluate(Same(), split, run=QUIET)
    assert found.robust_accuracy.value == found.clean_accuracy.value == found.constant_accuracy
    assert found.flags[:2] == ["all predictions are one class", "constant classifier is more robust"]
    assert any("the gradient is zero" in flag for flag in found.flags[:-2])
    one_class = split.subset((split.labels == 1).nonzero()[2:, 0])
    assert "all predictions are one class" not in evaluate(Brightness(), one_class, run=QUIET).flags


def test_a_model_below_the_constant_classifier_is_flagged(split: Split) -> None:
    found = evaluate(Brightness(), split, threat="linf:80/255", attack="fgsm", run=QUIET)
    assert found.robust_accuracy.value < found.constant_accuracy
    assert found.flags == ["constant classifier is more robust"]


def test_other_class_names_are_flagged() -> None:
    model, data = checkpoint(), noise(20)
    assert not any("names" in flag for flag in evaluate(model, data, checked=0, run=QUIET, attack="fgsm").flags)
    renamed = Split.in_memory(data.images(), data.labels, tuple("abcdefghij"))
    assert any("other names" in flag for flag in evaluate(model, renamed, run=QUIET, attack="fgsm").flags)


def test_the_text_says_what_was_found(split: Split) -> None:
    text = str(evaluate(Brightness(), split, threat="linf:80/255", attack="fgsm+pgd-2", run=QUIET))
    assert "clean accuracy   94.4 % [81.9, 98.5]  (36 images, test)" in text
    assert "(linf:80/255, fgsm+pgd-2)" in text
    assert "after pgd-2" in text
    assert "doubt            constant classifier is more robust" in text


def test_a_plain_run_does_not_depend_on_batches_or_the_callers_mode(split: Split) -> None:
    model, data = checkpoint(), noise(50)
    whole = evaluate(model, data, checked=0, run=QUIET, attack="pgd-3", batch_size=50)
    model.classifier.train()
    with torch.inference_mode():
        parts = evaluate(model, data, checked=0, run=QUIET, attack="pgd-3", batch_size=7)
    assert model.classifier.training
    pd.testing.assert_frame_equal(whole.outcomes, parts.outcomes)
    assert whole.passes == parts.passes > 50
    assert whole.data_hash == parts.data_hash == data.hash
    assert whole.model_hash == model.hash


def test_seeds_matter() -> None:
    model, data = checkpoint(), noise(50)
    margins = [
        evaluate(model, data, checked=0, run=Run(quiet=True, seed=seed), attack="pgd-1").outcomes["margin"].tolist()
        for seed in (0, 1)
    ]
    assert margins[0] != margins[1]


# ---------------------------------------------------------------- what is evaluated on


def test_a_subset_is_stratified_seeded_and_keeps_its_ids() -> None:
    labels = [0] * 50 + [1] * 30 + [2] * 15 + [3] * 5
    data = grey([100] * 100, labels, ("a", "b", "c", "d"), first_id=1000)

    def chosen(examples: int, seed: int = 0) -> pd.DataFrame:
        run = Run(quiet=True, seed=seed)
        return evaluate(Brightness(4), data, examples=examples, run=run, attack="fgsm").outcomes

    # shares of 13 are 6.5, 3.9, 1.95 and 0.65: the remainders go to c, b and d
    assert chosen(13)["label"].value_counts().to_dict() == {0: 6, 1: 4, 2: 2, 3: 1}
    assert chosen(20)["label"].value_counts().to_dict() == {0: 10, 1: 6, 2: 3, 3: 1}
    first = chosen(20)
    assert first["index"].is_monotonic_increasing
    assert [labels[i - 1000] for i in first["index"]] == first["label"].tolist()
    assert first["index"].tolist() == chosen(20)["index"].tolist()
    assert first["index"].tolist() != chosen(20, seed=1)["index"].tolist()
    assert len(chosen(1)) == 1
    assert len(chosen(100)) == len(chosen(5000)) == 100


def test_images_come_at_the_models_size_and_the_threat_from_its_card() -> None:
    model = checkpoint(size=12)
    found = evaluate(model, noise(20, size=8), run=QUIET, attack="fgsm")
    assert found.input_size == 12
    assert found.threat == "linf:4/255"
    assert evaluate(model.classifier, noise(20), run=QUIET, attack="fgsm").threat == "linf:8/255"
    assert evaluate(checkpoint(threat=None), noise(20), run=QUIET, attack="fgsm").threat == "linf:8/255"
    assert evaluate(model, noise(20), threat="l2:1", run=QUIET, attack="fgsm").threat == "l2:1"


def test_the_hash_of_a_plain_module_is_that_of_its_weights(split: Split) -> None:
    def hash_of(model: nn.Module) -> str:
        return evaluate(model, split, checked=0, threat="linf:0", run=QUIET).model_hash

    moved = Brightness()
    with torch.no_grad():
        moved.threshold += 0.01
    assert hash_of(Brightness()) == hash_of(Brightness())
    others = [hash_of(model) for model in (Brightness(), moved, Brightness().bfloat16(), Same())]
    assert len(set(others)) == 4


def sized(split: Split, size: int | None) -> Split:
    return Split(split.reader, split.positions, split.labels, split.ids, split.class_names, size)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"examples": 0}, ConfigError, "examples must be at least 1, not 0"),
        ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ({"attack": "stronger"}, ConfigError, "did you mean 'strong'"),
        ({"attack": "source-features"}, ConfigError, "give --source"),
        ({"threat": "linf:8"}, ThreatError, "did you mean linf:8/255"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    split: Split, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        evaluate(Brightness(), split, run=QUIET, **settings)


def test_data_that_does_not_fit_is_refused(split: Split) -> None:
    with pytest.raises(DataError, match="the split is empty"):
        evaluate(Brightness(), split.subset(torch.arange(0)), run=QUIET)
    with pytest.raises(DataError, match="different sizes"):
        evaluate(Brightness(), sized(split, None), run=QUIET)
    with pytest.raises(DataError, match="10 classes apart and the data has 2"):
        evaluate(checkpoint(), split, run=QUIET)


def test_progress_goes_to_standard_error_alone(split: Split, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(Brightness(), split, run=Run(), attack="fgsm")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{N}/{N}" in shown.err
    evaluate(Brightness(), split, run=QUIET, attack="fgsm")
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- what is written


def run_to(out: Path, **settings: Any) -> Run:
    return Run(out=out, quiet=True, device="cpu", precision="float32", **settings)


def test_what_is_written_is_read_back(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = evaluate(Brightness(), split, threat="linf:20/255", attack="quick", run=run_to(out), split_name="val")
    assert sorted(p.name for p in out.iterdir()) == ["evaluation.json", "outcomes.parquet"]
    raw = json.loads((out / "evaluation.json").read_text())
    assert raw == found.to_dict()
    assert list(raw) == KEYS.split()
    assert raw["robust_accuracy"].keys() == {"value", "low", "high", "n"}
    assert raw["split"] == "val"
    table = pd.read_parquet(out / "outcomes.parquet")
    assert list(table.columns) == COLUMNS
    assert table["margin"].dtype == "float32"
    loaded = load_evaluation(out)
    assert loaded.to_dict() == raw
    pd.testing.assert_frame_equal(loaded.outcomes, found.outcomes)
    assert str(loaded) == str(found)


def cut_short(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Kill the evaluation in the batch after so many."""
    real, calls = outcomes_module.attack_block, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(outcomes_module, "attack_block", killed)


def test_an_evaluation_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, out = checkpoint(), noise(50), tmp_path / "run"
    whole = evaluate(model, data, checked=0, run=QUIET, attack="pgd-2")
    with monkeypatch.context() as patch:
        cut_short(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, data, checked=0, run=run_to(out), attack="pgd-2", batch_size=8)
    assert not (out / "evaluation.json").exists()
    with pytest.raises(OutputError, match="not empty"):
        evaluate(model, data, checked=0, run=run_to(out), attack="pgd-2")
    with pytest.raises(OutputError, match="has seed 0, this one 3"):
        evaluate(model, data, checked=0, run=run_to(out, resume=True, seed=3), attack="pgd-2")
    seen: list[int] = []
    with monkeypatch.context() as patch:
        real = outcomes_module.attack_block
        patch.setattr(outcomes_module, "attack_block", lambda *a, **k: seen.extend(a[4].tolist()) or real(*a, **k))
        resumed = evaluate(model, data, checked=0, run=run_to(out, resume=True), attack="pgd-2", batch_size=20)
    assert seen == list(range(16, 50))
    pd.testing.assert_frame_equal(resumed.outcomes, whole.outcomes)
    assert resumed.passes == whole.passes
    assert resumed.robust_accuracy == whole.robust_accuracy
    assert sorted(p.name for p in out.iterdir()) == ["evaluation.json", "outcomes.parquet"]


def test_a_damaged_state_is_refused_and_overwritten(split: Split, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / "state").mkdir(parents=True)
    (out / "state" / "outcomes.parquet").write_text("{")
    with pytest.raises(OutputError, match=r"damaged .*--overwrite"):
        evaluate(Brightness(), split, run=run_to(out, resume=True), attack="fgsm")
    evaluate(Brightness(), split, run=run_to(out, overwrite=True), attack="fgsm")
    assert load_evaluation(out).attack == "fgsm"


def test_a_finished_evaluation_is_not_run_again(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    found = evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    with pytest.raises(OutputError, match="not empty"):
        evaluate(Brightness(), split, run=run_to(out), attack="fgsm")
    cut_short(monkeypatch, after=0)
    again = evaluate(Brightness(), split, run=run_to(out, resume=True), attack="fgsm")
    assert again.to_dict() == found.to_dict()
    with pytest.raises(OutputError, match="has attack 'fgsm', this one 'pgd-1'"):
        evaluate(Brightness(), split, run=run_to(out, resume=True), attack="pgd-1")


def test_a_models_own_folder_keeps_the_model(tmp_path: Path) -> None:
    out, data = tmp_path / "run", noise(20)
    model = checkpoint().save(out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    evaluate(model, data, checked=0, run=run_to(out), attack="fgsm")
    with pytest.raises(OutputError, match="already holds an evaluation"):
        evaluate(model, data, checked=0, run=run_to(out), attack="pgd-1")
    assert load_evaluation(out).attack == "fgsm"
    evaluate(model, data, checked=0, run=run_to(out, overwrite=True), attack="pgd-1")
    assert load_evaluation(out).attack == "pgd-1"
    after = {p.name: p.read_bytes() for p in out.iterdir()}
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"evaluation.json", "outcomes.parquet"}


def test_another_models_folder_is_not_written_to(tmp_path: Path) -> None:
    mine, data = checkpoint().save(tmp_path / "mine"), noise(20)
    torch.manual_seed(1)
    other = Checkpoint(Classifier.build(mine.classifier.spec), mine.card).save(tmp_path / "other")
    before = {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()}
    for model in (other, mine.classifier):
        with pytest.raises(OutputError, match="is not empty"):
            evaluate(model, data, checked=0, run=run_to(tmp_path / "mine"), attack="fgsm")
    assert {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()} == before


@pytest.mark.parametrize("wrong", [{"curve": ["8"]}, {"curve": ["x"]}, {"checked": -1}, {"beyond": -1}])
def test_what_is_asked_beside_it_is_looked_at_before_anything_is_touched(tmp_path: Path, wrong: dict[str, Any]) -> None:
    model, out = checkpoint(), tmp_path / "run"
    evaluate(model, noise(20), checked=0, run=run_to(out), attack="fgsm")
    with pytest.raises((ConfigError, ThreatError)):
        evaluate(model, noise(20), run=run_to(out, overwrite=True), attack="fgsm", **wrong)
    assert load_evaluation(out).attack == "fgsm"


def test_the_model_goes_back_where_it_was(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[torch.device] = []
    model = Brightness()
    monkeypatch.setattr(model, "to", lambda device: moves.append(device) or model)
    monkeypatch.setattr(Run, "torch_device", lambda self: torch.device("cpu", 0))
    cut_short(monkeypatch, after=0)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, split, checked=0, run=QUIET, attack="fgsm")
    assert moves == [torch.device("cpu", 0), torch.device("cpu")]


def spoil_json(out: Path) -> None:
    (out / "evaluation.json").write_text("{")


def spoil_schema(out: Path) -> None:
    raw = json.loads((out / "evaluation.json").read_text())
    (out / "evaluation.json").write_text(json.dumps({**raw, "schema": 99}))


def spoil_key(out: Path) -> None:
    raw = json.loads((out / "evaluation.json").read_text())
    del raw["by_attack"]
    (out / "evaluation.json").write_text(json.dumps(raw))


def spoil_parquet(out: Path) -> None:
    (out / "outcomes.parquet").write_bytes(b"no parquet")


def spoil_rows(out: Path) -> None:
    pd.read_parquet(out / "outcomes.parquet")[:-1].to_parquet(out / "outcomes.parquet")


def spoil_verdicts(out: Path) -> None:
    pd.read_parquet(out / "outcomes.parquet").assign(broken_by="").to_parquet(out / "outcomes.parquet")


def remove_parquet(out: Path) -> None:
    (out / "outcomes.parquet").unlink()


def remove_json(out: Path) -> None:
    (out / "evaluation.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_json, "cannot be read"),
        (spoil_schema, "schema 99"),
        (spoil_key, "cannot be read"),
        (spoil_parquet, "cannot be read"),
        (spoil_rows, "different evaluations"),
        (spoil_verdicts, "different evaluations"),
        (remove_parquet, "cannot be read"),
        (remove_json, "holds no evaluation"),
    ],
)
def test_a_spoilt_evaluation_is_refused(split: Split, tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    evaluate(Brightness(), split, run=run_to(tmp_path / "run"), attack="fgsm")
    spoil(tmp_path / "run")
    with pytest.raises(DataError, match=said):
        load_evaluation(tmp_path / "run")


def test_an_attack_object_serves_as_well_as_its_name(split: Split) -> None:
    attack: Attack = PGD(steps=3, loss="margin")
    named, given = (evaluate(Brightness(), split, run=QUIET, attack=a) for a in (str(attack), attack))
    assert isinstance(given, Evaluation)
    assert given.attack == named.attack == "pgd-3:loss=margin"
    pd.testing.assert_frame_equal(given.outcomes, named.outcomes)
