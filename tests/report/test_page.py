"""The page: what stands on it, for good runs and for poor ones, and that nothing in a name becomes part of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from report_helpers import NASTY, Page, evaluation, network, outcomes
from scipy.stats import binomtest

from robust_transfer.comparison import compare
from robust_transfer.cost import Cost
from robust_transfer.drawing.figures import front
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.curve import CurvePoint
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.report import details, write_report
from robust_transfer.report.pictures import MOST, Gallery, Picture, Verdict, picture_uri
from robust_transfer.statistics.intervals import wilson

LIMIT = 3_000_000
NAMES = tuple("abcde")


def made(folders: list[Path], out: Path, **more: Any) -> Page:
    return Page.of(write_report(folders, out, **{"pictures": False, **more}))


def save(
    folder: Path,
    table: pd.DataFrame,
    names: tuple[str, ...] = NAMES,
    *,
    card: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Run folder with a network (where it has a card) and an evaluation."""
    if card is not None:
        changes["model_hash"] = network(names, **card).save(folder).hash
    evaluation(table, names, **changes).save(folder)
    return folder


def interval(right: int, n: int) -> str:
    exact = binomtest(right, n).proportion_ci(method="wilson")
    return f"{100 * right / n:.1f} % (95 % interval {100 * exact.low:.1f} to {100 * exact.high:.1f} %)"


def short(right: int, n: int) -> str:
    exact = binomtest(right, n).proportion_ci(method="wilson")
    return f"{100 * right / n:.1f} % [{100 * exact.low:.1f}, {100 * exact.high:.1f}]"


def test_figures_are_those_of_the_outcomes(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", outcomes(87))
    stored = pd.read_parquet(folder / "outcomes.parquet")
    found = made([folder], tmp_path / "r.html")
    clean, robust = int((stored["broken_by"] != "clean").sum()), int((stored["broken_by"] == "").sum())
    said = found.words()
    assert (
        f"Of 87 test images the network names {interval(clean, 87)} right as they are, and {interval(robust, 87)} also"
        in said
    )
    rows = found.table("class", "images", "clean")
    for name, n, level, *robust_at in rows:
        mine = stored[stored["label"] == NAMES.index(name)]
        assert n == str(len(mine))
        assert level == short(int((mine["broken_by"] != "clean").sum()), len(mine))
        exact = [int((mine["smallest_eps"] > k / 255 + 1e-9).sum()) for k in (1, 2, 4, 6)]
        assert robust_at == [short(k, len(mine)) for k in (*exact, int((mine["broken_by"] == "").sum()))]
    shares = [(stored[stored["label"] == k]["broken_by"] == "").mean() for k in range(5)]
    assert f"{100 * np.mean(shares):.1f} % under attack" in said
    matrix = [[int(cell) for cell in row[1:]] for row in found.table("true", *NAMES)]
    assert (
        matrix
        == pd.crosstab(stored["label"], stored["clean_prediction"])
        .reindex(columns=range(5), fill_value=0)
        .to_numpy()
        .tolist()
    )


def test_the_page_loads_nothing_and_lets_nothing_in(tmp_path: Path) -> None:
    found = made([save(tmp_path / "run", outcomes(), card={})], tmp_path / "r.html")
    for tag, attributes in found.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "srcset", "action", "data"):
                assert re.match(r"#|data:image/", value or ""), (tag, name, value)
    policy = next(m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    styles = "".join(re.findall(r"<style>(.*?)</style>", found.source, re.S))
    assert not re.search(r"url\(|@import|https?:", styles)


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    table = outcomes(60, len(NASTY))
    folder = tmp_path / "<i>run<"
    data = {"name": "<script>alert(3)</script>", "train": 5, "val": 0, "notes": ["<u>note</u>"]}
    save(
        folder, table, NASTY, card={"data": data},
        notes=["<em>told</em>"], flags=["<h1>flag</h1>"], untested=["</section>"], command="robust-transfer evaluate '<x>'",
    )  # fmt: skip
    found = made([folder], tmp_path / "r.html")
    assert [name for name, *_ in sorted(found.table("class", "images"))] == sorted(NASTY)
    for told in (*NASTY, "<i>run<", "<script>alert(3)</script>", "<u>note</u>", "<em>told</em>", "<h1>flag</h1>"):
        assert told in found.text
    assert "49" not in found.table("true", *NASTY)[-1][0]
    tags = [tag for tag, _ in found.tags]
    assert len(found.scripts) == tags.count("script") == 1
    assert not {"i", "u", "em", "b"} & set(tags)
    assert tags.count("h1") == 1
    assert all("alert" not in script for script in found.scripts)


def test_names_that_are_no_text_or_look_like_formulas(tmp_path: Path) -> None:
    wild = ["_a $\\frac{1$", "b\x1b[2J", os.fsdecode(b"c\xff"), "\u732b"]
    card = {"data": {"name": "x", "train": 50}, "cost": Cost(passes=10.0)}
    folders = [
        save(tmp_path / name, outcomes(seed=k), card={"seed": k, "settings": {"k": k}, **card})
        for k, name in enumerate(wild)
    ]
    found = made(folders, tmp_path / "r.html")
    shown = [row[0].partition(": ")[2] for row in found.table("result", "clean")]
    assert shown == ["_a $\\frac{1$", "b\\x1b[2J", "c\\udcff", "\u732b"]


def test_a_card_of_another_version_is_no_obstacle(tmp_path: Path) -> None:
    metrics = {"front": [{"kind": "new"}], "chosen": 3, "path": ["?"]}
    card = {"metrics": metrics, "data": {"name": 5, "train": "many", "val": "none"}, "cost": Cost(passes=10.0)}
    said = made([save(tmp_path / "run", outcomes(), card=card)], tmp_path / "r.html").words()
    assert "Points of a frontier: the card has some, in a form that this version does not read." in said


def test_all_is_said_without_scripts(tmp_path: Path) -> None:
    """What a script hides or shows is in the page before it runs: nothing is made by it but order and choice."""
    found = made([save(tmp_path / "run", outcomes(60))], tmp_path / "r.html")
    head = next(t[0] for t in found.tables if t[0][0].strip() == "class")
    assert [cell.strip() for cell in head[3:]] == [f"robust at linf:{k}/255" for k in (1, 2, 4, 6, 8)]
    assert found.words().count("when every colour value of an image may be changed") == 5
    for figure in [a for a in found.all("svg") if a.get("class") == "figure"]:
        assert figure["role"] == "img"
        ids = {a["id"] for _, a in found.tags if "id" in a}
        assert set((figure["aria-labelledby"] or "").split()) <= ids
    assert found.all("details")


def test_ids_are_unique(tmp_path: Path) -> None:
    folders = [
        save(tmp_path / name, outcomes(seed=k), card={"seed": k, "data": {"name": "x", "train": 50}})
        for k, name in enumerate("ab")
    ]
    found = made(folders, tmp_path / "r.html")
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in found.tags:
        target = attributes.get("href") or ""
        assert not target.startswith("#") or target[1:] in ids, target


def test_runs_on_different_data_are_never_compared_silently(tmp_path: Path) -> None:
    folders = [save(tmp_path / "a", outcomes()), save(tmp_path / "b", outcomes(), data_hash="e" * 16)]
    said = made(folders, tmp_path / "r.html").words()
    assert "These runs are not one comparison. Their evaluations differ in: images." in said
    assert said.count("Nothing else here was evaluated on the same images in the same way.") == 2
    assert "Pareto" not in said
    alike = made([save(tmp_path / "c", outcomes(seed=1)), folders[0]], tmp_path / "r.html").words()
    assert "not one comparison" not in alike
    assert "Pareto" in alike


def test_the_pareto_front_and_seeds_are_those_of_the_figures(tmp_path: Path) -> None:
    folders = [
        save(tmp_path / f"s{k}", outcomes(seed=k), card={"seed": k, "settings": {"l2": float(k > 2)}}) for k in range(5)
    ] + [save(tmp_path / "other", outcomes(seed=5), card={"settings": {"l2": 7.0}})]
    found = made(folders, tmp_path / "r.html")
    tables = [outcomes(seed=k) for k in range(6)]
    means = [
        tuple(float(np.mean([share(tables[k]) for k in some])) for share in (clean_of, robust_of))
        for some in ((0, 1, 2), (3, 4), (5,))
    ]
    best = ["no" if any(c >= a and d >= b and (c, d) != (a, b) for c, d in means) else "yes" for a, b in means]
    rows = found.table("result", "clean")
    assert [row[0] for row in rows] == ["1-3: s0 and 2 more seeds", "4, 5: s3 and 1 more seed", "6: other"]
    assert [row[-1] for row in rows] == best
    table = found.table("run", "clean", "robust", "red flags")
    for row, (clean, robust), won in zip(table, means, best, strict=True):
        assert row[1].startswith(f"{100 * clean:.1f} % [")
        assert row[2].startswith(f"{100 * robust:.1f} % [")
        assert ("★" in row[0]) == (won == "yes")
    robustest, cleanest = (max(means, key=lambda pair: (pair[k], pair[1 - k])) for k in (1, 0))
    assert (
        f"Most robust: {'s0' if robustest is means[0] else 's3' if robustest is means[1] else 'other'}" in found.words()
    )
    assert f"{100 * cleanest[0]:.1f} % [" in found.words().partition("Most accurate: ")[2][:80]
    assert [row[1] for row in found.table("run", "seed")] == ["0", "1", "2", "3", "4", "0"]


def clean_of(table: pd.DataFrame) -> float:
    return float((table["broken_by"] != "clean").mean())


def robust_of(table: pd.DataFrame) -> float:
    return float((table["broken_by"] == "").mean())


def test_costs_tell_what_is_measured_from_what_is_estimated(tmp_path: Path) -> None:
    card = {"data": {"name": "x", "train": 1000, "val": 10}, "cost": Cost(passes=2500.0, seconds=3.0)}
    found = made([save(tmp_path / "run", outcomes(), card=card)], tmp_path / "r.html")
    measured, estimated = found.table("network", "image passes")
    assert measured == ["1: run", "2,500", "measured"]
    whole = 1000 - 1000 % 128  # minibatches of 128, thirty epochs, a step 3 passes and seven attack steps 2 each
    assert estimated == ["PGD on 1,000 images", f"{30 * whole * (3 + 2 * 7):,}", "estimated"]


def test_every_generation_is_told(tmp_path: Path) -> None:
    first = Provenance(method="pretrain:fast", data="cifar100", weights="1" * 16)
    source = Provenance(method="transfer:lwf", data="flowers", weights="2" * 16, source=Mixture(a=first, b=first))
    said = made([save(tmp_path / "run", outcomes(), card={"source": source})], tmp_path / "r.html").words()
    assert "transfer:lwf on flowers, weights 2222" in said
    assert said.count("pretrain:fast on cifar100, weights 1111") == 2
    theirs = Provenance(method="import", data="net.pt", weights="3" * 16)
    said = made([save(tmp_path / "other", outcomes(), card={"source": theirs})], tmp_path / "other.html").words()
    assert "From: imported from net.pt, weights 3333" in said


def test_a_network_that_was_never_evaluated(tmp_path: Path) -> None:
    network(NAMES, data={"name": "x", "train": 50, "val": 0}).save(tmp_path / "run")
    found = made([tmp_path / "run"], tmp_path / "r.html")
    said = found.words()
    assert "Clean and robust accuracy are not known: this network was never evaluated." in said
    assert "robust-transfer evaluate run --data DATA" in said
    assert "there was no val split" in said
    assert "Red flag" not in said


def test_other_peoples_weights(tmp_path: Path) -> None:
    origin = {"address": "https://example.org/<x>", "threat": "not stated"}
    network(NAMES, origin=origin, method="import").save(tmp_path / "run")
    said = made([tmp_path / "run"], tmp_path / "r.html").words()
    assert "How it was trained, and what that took: these are other people's weights" in said
    assert "What came before is not known." in said
    assert "https://example.org/<x>" in said
    assert "no val split" not in said
    assert "not known: other people's weights" in said


def test_a_half_written_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0.5, "loss": 2.0}\n{"step": 2, "epoch": 1.0, "loss": 1.0}\n{"st'
    )
    found = made([tmp_path / "run"], tmp_path / "r.html")
    said = found.words()
    assert "There is no result: the run was interrupted" in said
    assert "Nothing is known of how it was made" in said
    assert found.table("what", "value") == [["loss, epoch 0.5", "2"], ["loss, epoch 1", "1"]]


def test_red_flags_are_explained(tmp_path: Path) -> None:
    said = made(
        [save(tmp_path / "run", outcomes(), flags=["constant classifier is more robust"])], tmp_path / "r.html"
    ).words()
    assert "Red flag: constant classifier is more robust Saying the most frequent class always" in said
    assert "What to do: Do not call the network robust." in said
    unlooked = made([save(tmp_path / "other", outcomes())], tmp_path / "r.html").words()
    assert "No red flag was raised, but most were not looked for." in unlooked


def test_robust_accuracy_zero_and_one_image(tmp_path: Path) -> None:
    nothing = made([save(tmp_path / "zero", outcomes(50, standing=0.0))], tmp_path / "r.html").words()
    assert interval(0, 50) in nothing
    alone = made([save(tmp_path / "one", outcomes(1, 1), ("only",))], tmp_path / "r.html").words()
    assert "Of the one test image" in alone
    assert "Nothing is confused." in alone or "taken for" in alone


def test_a_thousand_classes_fit(tmp_path: Path) -> None:
    names = tuple(f"class number {k}, which has a rather long name" for k in range(1000))
    target = write_report([save(tmp_path / "run", outcomes(5000, 1000), names)], tmp_path / "r.html", pictures=False)
    assert target.stat().st_size < LIMIT
    found = Page.of(target)
    assert len(found.table("class", "images")) == 1000
    assert "would have 1,000,000 cells" in found.words()
    assert max(len(row) for table in found.tables for row in table) < 20


def test_many_runs_stay_within_the_limit_and_say_what_is_left_out(tmp_path: Path) -> None:
    names = tuple(f"class {k}" for k in range(200))
    folders = [save(tmp_path / f"run{k:02}", outcomes(400, 200, seed=k), names) for k in range(26)]
    target = write_report(folders, tmp_path / "r.html", pictures=False)
    assert target.stat().st_size < LIMIT
    assert "The details of 2 more runs are left out" in Page.of(target).words()


def test_24_images_of_224_pixels_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    first, change, last = (picture_uri(image, 2_200_000 // 72) for image in (noise, noise.round(), noise))
    said = Verdict("a", 0.5, True)
    some = tuple(Picture(k, "a", 224, first, change, last, said, said, True, None) for k in range(MOST))
    monkeypatch.setattr(details, "gallery", lambda *_, **__: Gallery(some))
    target = write_report([save(tmp_path / "run", outcomes())], tmp_path / "r.html")
    found = Page.of(target)
    assert len(found.all("img")) == 3 * MOST
    assert all(image["alt"] for image in found.all("img"))
    assert target.stat().st_size < LIMIT


def test_frontier_and_what_was_tried_on_val(tmp_path: Path) -> None:
    points = [
        {"kind": kind, "l2": 0.1, "strength": strength, "val_clean_accuracy": clean, "val_robust_accuracy": robust}
        for kind, strength, clean, robust in (("linear-probe", None, 0.8, 0.5), ("lwf", 1.0, 0.9, 0.4))
    ]
    path = [{"l2": 1.0, "val_loss": 0.7}, {"l2": 0.1, "val_loss": 0.5}]
    metrics = {"front": points, "chosen": points[1], "path": path, "l2": 0.1}
    card = {"metrics": metrics, "data": {"name": "x", "train": 80, "val": 20}, "threat": "linf:8/255"}
    found = made([save(tmp_path / "run", outcomes(), card=card)], tmp_path / "r.html")
    assert found.table("point", "clean on val") == [
        ["linear-probe, l2 = 0.1", short(16, 20), short(10, 20), ""],
        ["lwf, l2 = 0.1, strength = 1", short(18, 20), short(8, 20), "chosen"],
    ]
    assert found.table("l2", "", "val loss") == [["1", "", "0.7"], ["0.1", "chosen", "0.5"]]
    mixed = [
        {"kind": kind, **more, "val_clean_accuracy": 0.9, "val_robust_accuracy": 0.4}
        for kind, more in (("source", {"l2": None}), ("merge", {"kappa": 4.0, "share": 0.5}))
    ]
    card = {"metrics": {"front": mixed, "chosen": mixed[1]}, "data": {"name": "x", "train": 80, "val": 4000}}
    other = made([save(tmp_path / "other", outcomes(), card=card)], tmp_path / "o.html")
    assert other.table("point", "clean on val") == [  # val is 4,000 images, and 1,000 of them are measured
        ["source", short(900, 1000), short(400, 1000), ""],
        ["merge, kappa = 4, share = 0.5", short(900, 1000), short(400, 1000), "chosen"],
    ]


def test_the_frontier_says_what_val_was_attacked_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def listening(*args: Any, threat: str, **how: Any) -> Any:
        told.append(threat)
        return front(*args, threat=threat, **how)

    monkeypatch.setattr("robust_transfer.report.figures.front", listening)
    point = {"kind": "mix", "share": 0.5, "val_clean_accuracy": 0.9, "val_robust_accuracy": 0.4}
    for number, more in enumerate(({}, {"val_attack": "PGD-10, mixtures also through both networks"})):
        card = {"metrics": {"front": [point], "chosen": point, **more}, "data": {"val": 20}, "threat": "linf:8/255"}
        made([save(tmp_path / str(number), outcomes(), card=card)], tmp_path / "r.html")
    assert told == [
        "linf:8/255, PGD-10, 20 val images",
        "linf:8/255, PGD-10, mixtures also through both networks, 20 val images",
    ]


def test_a_curve_is_drawn_and_tabled(tmp_path: Path) -> None:
    points = [CurvePoint("linf:2/255", wilson(40, 60)), CurvePoint("linf:16/255", wilson(3, 60))]
    found = made([save(tmp_path / "run", outcomes(60, smallest=False), curve=points)], tmp_path / "r.html")
    rows = found.table("at", "robust accuracy")
    assert ["attacked at each eps: linf:16/255", short(3, 60)] in rows
    assert "By class, nothing is known at linf:2/255, linf:16/255." in found.words()


def test_a_comparison_stands_on_the_page(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a", outcomes()), save(tmp_path / "b", outcomes(seed=1))
    result = compare(a, b)
    found = made([a, b], tmp_path / "r.html", comparison=result)
    rows = found.table("accuracy", "A", "B")
    assert rows[1][3] == str(result.robust.difference)


def test_a_folder_in_the_pages_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a file"):
        write_report([save(tmp_path / "a", outcomes())], tmp_path)
