"""Reports of runs and studies: true, whole, escaped, readable in a browser."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Chromium, chromium
from command_line import Command, runner
from rich.console import Console
from small_run import small_run
from small_study import small_study

from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.grid import grid
from qhybrid.experiments.grid_comparison import compare_runs
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.report.page import Page, Section, Statement, Table, render, write_page
from qhybrid.report.run_data import read_run
from qhybrid.report.run_report import run_page
from qhybrid.statistics import accuracy_equivalence_of_counts, classification_metrics
from qhybrid.storage import read_arrays, read_json, write_json

HOSTILE = "<script>alert(1)</script>\"'>&$x_1"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


class Ids(HTMLParser):
    """Collects ids, what refers to them, and addresses that would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            value = value or ""
            if key == "id":
                self.ids.append(value)
            elif key in ("href", "xlink:href", "src") and value.startswith("#"):
                self.references.append(value[1:])
            elif key in ("href", "xlink:href", "src") and not value.startswith("data:"):
                self.loaded.append(value)
            elif key == "aria-labelledby":
                self.references += value.split()
            self.references += re.findall(r"url\(#([^)]+)\)", value)


def quiet() -> Console:
    return Console(quiet=True)


def compared(
    run: Run, shots: tuple[int, ...] = (100, 1000), noise: tuple[str | None, ...] = (None, "ibm_torino")
) -> str:
    cells, _ = grid(["qhybrid.density"], noise, [1.0, 2.0], shots, repeats=3)
    return compare_runs([run], cells, console=quiet()).path.stem


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = small_run(tmp_path_factory.mktemp("runs"))
    described = read_json(made.path / "data.json") | {
        "class_names": [HOSTILE, "positive"],
        "source": "folder:" + HOSTILE,
    }
    write_json(made.path / "data.json", described)
    stored = made.features("test")
    ids = np.array([f"{HOSTILE}/{name}" for name in stored.ids])
    made.write_features("test", Features(stored.features, stored.labels, ids))
    made = Run(made.path, made.spec)
    evaluate(made, console=quiet())
    compared(made)
    return made


@pytest.fixture(scope="module")
def report(run: Run) -> Path:
    page = run.path / "report" / "index.html"
    write_page(run_page(run), page)
    return page


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return runner(monkeypatch, capfd, tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


def test_a_page_loads_nothing_and_every_reference_is_there_once(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    found = Ids()
    found.feed(text)
    assert found.loaded == []
    assert len(found.ids) == len(set(found.ids))
    assert set(found.references) <= set(found.ids)
    assert len(text) < 3_000_000
    assert "@import" not in text
    assert "<script" not in text


def test_what_a_user_named_is_escaped(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<script>alert" not in text
    # In words, in tables, and in the text of figures.
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5


def test_figures_are_files_beside_the_page(report: Path) -> None:
    files = {file.name for file in (report.parent / "figures").iterdir()}
    wanted = "confusion roc metrics violins heat-map loss-accuracy loss-auc accuracy-shots auc-noise-scale parts-1"
    for name in [*wanted.split(), "expectation-values", "layout-1", "training"]:
        assert {f"{name}.svg", f"{name}.png"} <= files
    assert (report.parent / "figures" / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_every_table_has_a_caption_and_heads_with_scope(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    tables = re.findall(r"<table>.*?</table>", text, re.S)
    assert len(tables) > 20
    for table in tables:
        assert "<caption><span>" in table
        rows = re.findall(r"<tr>.*?</tr>", table, re.S)
        heads = rows[0].count('<th scope="col"')
        for row in rows[1:]:
            assert row.count('<th scope="row"') == 1
            assert row.count("<td") + 1 == heads


def test_every_figure_has_a_text_alternative_and_its_numbers(report: Path) -> None:
    figures = re.findall(r"<figure.*?</figure>", report.read_text(encoding="utf-8"), re.S)
    assert len(figures) > 12
    for figure in figures:
        assert 'role="img"' in figure
        assert re.search(r"<title id=[^>]+>[^<]+</title><desc id=[^>]+>[^<]+</desc>", figure)
        assert "<details><summary>" in figure


def test_the_verdict_says_what_the_predictions_say(run: Run) -> None:
    page = run_page(run)
    stored = next(iter((run.path / "predictions").glob("*.npz")))
    arrays = read_arrays(stored, ("labels", "probabilities"))
    said = arrays["probabilities"].argmax(axis=1)
    hits = int(((said == 1) & (arrays["labels"] == 1)).sum())
    area = classification_metrics(arrays["labels"], arrays["probabilities"])["auc"]
    assert f"recognises {hits} of the 30 of class “positive”: {100 * hits / 30:.0f} in 100" in page.verdict[0].text
    assert f"ROC curve is {area:.3f}" in page.verdict[0].text
    assert any("60 images are too few" in each.text and "133 would be needed" in each.text for each in page.verdict)
    assert any("small (30 of" in caution for caution in page.cautions)
    assert any("crosstalk" in caution for caution in page.cautions)


def test_a_loss_is_ruled_out_only_where_enough_images_say_so(run: Run) -> None:
    for condition in read_run(run).conditions:
        right = condition.arrays["repeated_probabilities"].argmax(axis=2) == condition.arrays["labels"]
        before = condition.arrays["reference_probabilities"].argmax(axis=1) == condition.arrays["labels"]
        gained, lost = (right & ~before).mean(axis=0).sum(), (~right & before).mean(axis=0).sum()
        assert condition.equivalence.difference == pytest.approx((gained - lost) / 60)
        assert not condition.ruled_out  # 60 images cannot
        assert condition.needed == 133
    assert not accuracy_equivalence_of_counts(0, 0, 132, 0.02, claim="non-inferior").shown
    assert accuracy_equivalence_of_counts(0, 0, 133, 0.02, claim="non-inferior").shown


def test_generated_images_are_named_as_such(tmp_path: Path) -> None:
    made = small_run(tmp_path)
    write_json(made.path / "data.json", read_json(made.path / "data.json") | {"source": "angiography"})
    made = Run(made.path, made.spec)
    evaluate(made, console=quiet())
    page = run_page(made)
    assert "60 generated images" in page.verdict[0].text
    assert any("nothing about patients" in caution for caution in page.cautions)


def test_without_a_comparison_the_page_says_which_command_adds_one(tmp_path: Path, command: Command) -> None:
    made = small_run(tmp_path / "runs")
    evaluate(made, console=quiet())
    answer = command("report", str(made.path), "--out", "elsewhere/page.html", "--json")
    assert answer.returncode == 0
    written = json.loads(answer.stdout)
    page = tmp_path / "elsewhere" / "page.html"
    assert (tmp_path / written["page"]) == page
    assert f"<code>qhybrid compare {html.escape(str(made.path))}" in page.read_text(encoding="utf-8")
    assert not (made.path / "report").exists()


def test_a_comparison_can_be_chosen(tmp_path: Path, command: Command) -> None:
    made = small_run(tmp_path / "runs")
    evaluate(made, console=quiet())
    first, _ = compared(made, (100,), (None,)), compared(made, (1000,), (None,))
    assert {each.cell["cell"]["shots"] for each in read_run(made).conditions} == {1000}
    assert {each.cell["cell"]["shots"] for each in read_run(made, comparison=first).conditions} == {100}
    answer = command("report", str(made.path), "--comparison", first[:-1] + "x")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert f"has no comparison '{first[:-1]}x'; did you mean '{first}'" in answer.stderr
    assert command("report", str(made.path), "--comparison", f"{first}.json").returncode == 0


@pytest.mark.parametrize("head", ["quantum", "linear"])
def test_classes_and_heads_of_any_kind_have_a_report(head: str, tmp_path: Path) -> None:
    made = small_run(tmp_path, n_classes=4, model__head=head)
    evaluate(made, console=quiet())
    page = run_page(made)
    text = "\n".join(statement.text for statement in page.verdict)
    assert "names the class of" in text
    assert "It is worst on class “class " in text
    assert ("no quantum device changes its diagnoses" in text) == (head == "linear")
    write_page(page, tmp_path / "page.html")
    assert "class 3" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_images_that_have_gone_are_left_out_and_said_so(run: Run, report: Path) -> None:
    del run
    assert "The images themselves are left out" in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["incomplete", "no evaluation", "damaged", "unknown split", "not a run"])
def test_bad_input_is_one_line_and_writes_nothing(what: str, tmp_path: Path, command: Command) -> None:
    made = small_run(tmp_path / "runs")
    asked = [str(made.path)]
    if what == "incomplete":
        made.set_state("running")
    elif what == "damaged":
        evaluate(made, console=quiet())
        next((made.path / "predictions").glob("*.npz")).write_bytes(b"PK")
    elif what == "unknown split":
        asked += ["--split", "tests"]
    elif what == "not a run":
        shutil.rmtree(made.path)
    answer = command("report", *asked)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert not (made.path / "report").exists()


def test_a_study_has_a_report(tmp_path: Path, command: Command) -> None:
    study = small_study(tmp_path / "study", {HOSTILE: "quantum", "linear head": "linear"})
    answer = command("report", str(study.path))
    assert answer.returncode == 0, answer.stderr
    text = (study.path / "report" / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    for number in range(1, 7):
        assert f"(Fig. {number})" in text
    mean = study.results["arms"][1]["metrics"]["accuracy"]["mean"]
    assert f"{mean:.3f} (“linear head”)" in html.unescape(text)
    for sentence in study.results["verdict"]:
        assert sentence in html.unescape(text)


def test_an_incomplete_study_is_one_line(tmp_path: Path, command: Command) -> None:
    study = small_study(tmp_path / "study", {"a": "linear", "b": "mlp"}, seeds=(0,))
    write_json(study.path / "progress.json", {"state": "running"})
    answer = command("report", str(study.path))
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert not (study.path / "report").exists()


def test_all_texts_of_a_page_are_escaped() -> None:
    table = Table(HOSTILE, [HOSTILE], [[HOSTILE]])
    section = Section("s", HOSTILE, [HOSTILE, "`<b>`"], [table], (), [table], [HOSTILE])
    page = Page(HOSTILE, HOSTILE, [Statement(HOSTILE, "open")], [HOSTILE], [section])
    text = render(page, {})
    assert "<script" not in text
    assert "<code>&lt;b&gt;</code>" in text


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_chromium_shows_the_page_without_a_word(
    width: int, dark: bool, report: Path, browser: Chromium, tmp_path: Path
) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.console == []
    assert browser.dialogs == []
    assert browser.requests == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # only tables and wide figures scroll
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 24, 28)" if dark else "rgb(255, 255, 255)")
    ink = browser.evaluate("getComputedStyle(document.querySelector('#roc-axes_1 text')).fill")
    assert ink == ("rgb(231, 234, 237)" if dark else "rgb(34, 34, 34)")
    wide = "[...document.querySelectorAll('figure:not(.wide) svg')].every(s => s.getBoundingClientRect().right <= {})"
    assert browser.evaluate(wide.format(width))
    browser.show(width=700, dark=dark, media="print")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 700
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.screenshot(tmp_path / "page.png", height=400)
    assert (tmp_path / "page.png").stat().st_size > 10_000


@needs_chromium
def test_no_text_leaves_its_figure(report: Path, browser: Chromium) -> None:
    browser.open(report)
    outside = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
        const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const own = text.getBoundingClientRect();
            return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1
                || own.bottom > box.bottom + 1;
        }).map(text => svg.querySelector('title').textContent + ': ' + text.textContent);
    })"""
    assert browser.evaluate(outside) == []


@needs_chromium
def test_script_that_ran_would_be_seen(browser: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>alert(1); console.error('oh'); missing()</script>", encoding="utf-8")
    browser.open(page)
    assert browser.dialogs == ["1"]
    assert any("oh" in message for message in browser.console)
    assert len(browser.console) >= 2
    browser.console.clear()
    browser.dialogs.clear()
