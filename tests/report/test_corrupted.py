"""Corruptions on the page: every share with its interval, the darker the more is right, and what they do not say."""

from __future__ import annotations

from pathlib import Path

from report_helpers import Page, evaluation, outcomes

from robust_transfer.evaluation.corrupted import Corrupted, Kind
from robust_transfer.report import write_report
from robust_transfer.report.corrupted import corrupted
from robust_transfer.statistics.intervals import wilson

COUNTS = {"snow": (60, 45, 30, 15, 0), "jpeg_compression": (60, 60, 59, 31, 8)}


def made() -> Corrupted:
    kinds = {name: Kind(wilson(30, 60), [wilson(count, 60) for count in counts]) for name, counts in COUNTS.items()}
    return Corrupted(60, 32, 0, wilson(33, 60), kinds, 4500, 12.5, {"imagecorruptions-imaug": "9.9"})


def test_the_table_has_every_share_shaded_by_its_size(tmp_path: Path) -> None:
    evaluation(outcomes(60), tuple("abcde"), corrupted=made()).save(tmp_path / "run")
    page = Page.of(write_report([tmp_path / "run"], tmp_path / "r.html", pictures=False))
    rows = page.table("corruption", "1", "2", "3", "4", "5", "mean")
    assert [row[0] for row in rows] == ["snow", "JPEG compression"]
    for row, counts in zip(rows, COUNTS.values(), strict=True):
        for cell, share in zip(row[1:], [*(wilson(count, 60) for count in counts), wilson(30, 60)], strict=True):
            assert " ".join(cell.split()) == str(share)
    shades = [tag["class"] for tag in page.all("td") if (tag.get("class") or "").startswith("h")]
    matrix = len(shades) - 10
    assert shades[-10:] == ["h8", "h6", "h4", "h2", "h0", "h8", "h8", "h7", "h4", "h1"], matrix
    for words in (
        "55.0 % [42.5, 66.9]",
        "of the same 60 images of 32 x 32 pixels",
        "No mCE",
        "CIFAR-10-C has milder ones",
        "4,500 image passes in 12.5 s, seed 0, made by imagecorruptions-imaug 9.9",
    ):
        assert words in page.words()


def test_without_corruptions_there_is_no_table(tmp_path: Path) -> None:
    plain = evaluation(outcomes(60), tuple("abcde"))
    assert corrupted(plain) is None
    plain.save(tmp_path / "run")
    assert "Corruptions" not in Page.of(write_report([tmp_path / "run"], tmp_path / "r.html", pictures=False)).words()
