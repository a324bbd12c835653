"""Further threats on the page: a row each beside the evaluated one, and what stands within all."""

from __future__ import annotations

from pathlib import Path

from report_helpers import Page, evaluation, outcomes

from robust_transfer.evaluation.further import UnderThreat
from robust_transfer.report import write_report
from robust_transfer.report.further import further
from robust_transfer.statistics.intervals import wilson


def test_a_row_for_each_threat_and_one_for_all(tmp_path: Path) -> None:
    more = [
        UnderThreat("l2:0.5", wilson(20, 60), wilson(15, 60), 48, 480, 1.0),
        UnderThreat("linf:4/255", wilson(40, 60), wilson(14, 60), 24, 240, 0.5),
    ]
    found = evaluation(outcomes(60), tuple("abcde"), further=more)
    found.save(tmp_path / "run")
    page = Page.of(write_report([tmp_path / "run"], tmp_path / "r.html", pictures=False))
    assert page.table("threat", "robust accuracy") == [
        ["linf:8/255 (evaluated)", str(found.robust_accuracy)],
        ["l2:0.5", str(wilson(20, 60))],
        ["linf:4/255", str(wilson(40, 60))],
        ["within each of them", str(wilson(14, 60))],
    ]
    assert "24 images attacked, 240 image passes in 0.5 s" in page.words()


def test_one_threat_alone_is_no_table() -> None:
    assert further(evaluation(outcomes(60), tuple("abcde"))) is None
