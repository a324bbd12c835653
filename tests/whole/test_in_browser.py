"""The report in a real browser: accessible by axe, in both colour schemes and at two widths; used by keyboard alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from report_helpers import EPS, NASTY, evaluation, network, outcomes, study

from robust_transfer.cost import Cost
from robust_transfer.drawing.plots import png
from robust_transfer.report import details, write_report
from robust_transfer.report.pictures import Gallery, Picture, Verdict

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = "chromium is not installed: apt-get install chromium, and pip install 'robust-transfer[browser]'"
Open = Callable[..., Any]  # (path, width=, scheme=, scripts=) to a page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason=MISSING)
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    contexts = []

    def call(path: Path, *, width: int = 1280, scheme: str = "light", scripts: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts, bypass_csp=False
        )
        contexts.append(context)
        tab = context.new_page()
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on(
            "request",
            lambda request: tab.problems.append(request.url) if request.url[:5] not in ("file:", "data:") else None,
        )
        tab.goto(path.as_uri())
        return tab

    yield call
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with everything that a page can show, hostile names among it, and one that was never evaluated."""
    out = tmp_path_factory.mktemp("browser")
    names = NASTY
    for seed in (0, 1):
        card: dict[str, Any] = {
            "data": {"name": "x", "train": 500, "val": 20},
            "cost": Cost(passes=900.0),
            "threat": "linf:8/255",
        }
        made = network(names, seed=seed, **card).save(out / f"run{seed}")
        (out / f"run{seed}" / "metrics.jsonl").write_text(
            "".join(
                f'{{"step": {k}, "epoch": {k}.0, "loss": {3 / k}, "val_clean_accuracy": 0.5}}\n' for k in range(1, 6)
            )
        )
        flags = ["constant classifier is more robust", "all predictions are one class"]
        made_evaluation = evaluation(outcomes(60, len(names), seed=seed), names, model_hash=made.hash, flags=flags)
        made_evaluation.save(out / f"run{seed}")
    network(names, seed=2).save(out / "never")
    grey = png(torch.full((3, 8, 8), 0.5))
    said = Verdict(names[0], 0.9, True), Verdict(names[1], 0.6, False)
    some = tuple(
        Picture(k, names[0], 8, grey, grey, grey, *said, True, smallest)
        for k, smallest in enumerate((0.0, 1.5 / 255, 5 / 255, float("inf")))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(details, "gallery", lambda *_, **__: Gallery(some, ("Four images.",), 10))
        return write_report([out], out / "report.html")


@pytest.fixture(scope="module")
def of_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with claims, plots and red flags; its title is hostile."""
    out = tmp_path_factory.mktemp("study")
    return write_report([study(out / "s", title=NASTY[1])], out / "report.html", pictures=False)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["report", "of_study"])
def test_axe_finds_nothing_serious(
    opened: Open, which: str, scheme: str, width: int, request: pytest.FixtureRequest
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=MISSING)
    tab = opened(request.getfixturevalue(which), width=width, scheme=scheme)
    tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    found = axe.Axe().run(tab).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []
    assert tab.problems == []


def test_axe_would_find_it(opened: Open, report: Path) -> None:
    """What the tests above could miss: that axe looks at contrast and names at all."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=MISSING)
    tab = opened(report)
    tab.evaluate("document.querySelector('img').removeAttribute('alt')")
    pale = "p.setAttribute('class', 'bar'), p.attributeStyleMap.set('color', '#dddddd')"
    tab.evaluate(f"for (const p of document.querySelectorAll('.says')) {pale}")
    found = {v["id"] for v in axe.Axe().run(tab).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("which", ["report", "of_study"])
def test_nothing_is_wider_than_the_screen(opened: Open, which: str, width: int, request: pytest.FixtureRequest) -> None:
    tab = opened(request.getfixturevalue(which), width=width)
    tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def classes(tab: Any, column: int) -> list[str]:
    rows = tab.locator("#run-2 table.sortable").first.locator("tbody tr")
    return [row.locator("th, td").nth(column).inner_text() for row in rows.all()]


def test_tables_are_sorted_by_keyboard(opened: Open, report: Path) -> None:
    tab = opened(report)
    table = tab.locator("#run-2 table.sortable").first
    button = table.locator("thead button").first
    button.focus()
    tab.keyboard.press("Enter")
    assert table.locator("thead th").first.get_attribute("aria-sort") == "ascending"
    rising = classes(tab, 0)
    assert sorted(rising) == sorted(NASTY)
    tab.keyboard.press("Space")
    assert classes(tab, 0) == rising[::-1]
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    clean = [float(text.split(" ")[0]) for text in classes(tab, 2)]
    assert clean == sorted(clean)
    assert table.locator("thead th").first.get_attribute("aria-sort") is None


def test_a_studys_settings_are_sorted_by_keyboard(opened: Open, of_study: Path) -> None:
    tab = opened(of_study)
    table = tab.locator("table.sortable").first
    table.locator("thead button").nth(2).focus()
    tab.keyboard.press("Enter")
    names = [row.locator("th").inner_text() for row in table.locator("tbody tr").all()]
    assert [name[:1] for name in names] == ["3", "4", "2", "1"]  # by robust accuracy


def test_another_budget_is_chosen_by_keyboard(opened: Open, report: Path) -> None:
    tab = opened(report)
    select = tab.locator(".run select").first
    number = select.get_attribute("data-for")
    says = tab.locator(f'.run[data-run="{number}"] .says:visible')
    fates = tab.locator(f"#run-{number} .fate:visible")
    assert "8 of its 255 steps" in says.inner_text()
    assert fates.all_inner_texts() == [f"at linf:8/255: {word}" for word in ("flips", "flips", "flips", "stands")]
    select.focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowDown")
    assert "2 of its 255 steps" in says.inner_text()
    assert says.count() == 1
    assert fates.all_inner_texts() == [f"at linf:2/255: {word}" for word in ("flips", "flips", "stands", "stands")]
    heads = tab.locator(f"#run-{number} table.sortable thead th:visible")
    assert heads.all_inner_texts()[-1] == "robust at linf:2/255"
    assert heads.count() == 4
    assert pytest.approx(8 / 255) == EPS


def test_a_point_says_its_values(opened: Open, report: Path) -> None:
    tab = opened(report)
    mark = tab.locator("svg.figure [data-words]").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert mark.get_attribute("data-words") in tab.locator(".tip:visible").all_inner_texts()


def test_it_can_be_read_without_scripts(opened: Open, report: Path) -> None:
    tab = opened(report, scripts=False)
    assert tab.locator("h1").is_visible()
    assert tab.locator(".choose:visible").count() == 0
    assert tab.locator("thead button").count() == 0
    assert tab.locator("#run-2 table.sortable thead th:visible").count() == 8  # all budgets side by side
    assert tab.locator("svg.figure:visible").count() >= 4


def test_hostile_names_run_nothing(opened: Open, report: Path) -> None:
    tab = opened(report)
    alerts: list[Any] = []

    def refuse(dialog: Any) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", refuse)
    tab.reload()
    assert alerts == []
    assert tab.locator("script").count() == 1
    assert NASTY[1] in tab.locator("#run-2 table.sortable").first.inner_text()
