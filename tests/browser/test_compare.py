"""compare.html, and the section on methods, in headless Chromium: barriers, phone, dark, paper, no requests."""

import json
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import colliding_texts, keep_page, needs_browser
from tests.browser.test_report import A4, media, script
from tests.unit.study_results import realistic
from tests.unit.tuner.report.test_methods import study
from tuner.report.build import report_files
from tuner.report.comparison import RunComparison, comparison_files

pytestmark = [pytest.mark.slow, pytest.mark.browser, needs_browser]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """compare.html of three runs, the last of another protocol, and the report of a study of three methods."""
    folder = tmp_path_factory.mktemp("pages")
    runs = []
    for i, name in enumerate(("aoe_sigma-20261130-101010", "aoe_sigma-20261130-111111", "third")):
        made = realistic(seed=i)
        arms = tuple(replace(a, seeds=(1, 2, 3, 4, 5)) for a in made.arms)
        runs.append(replace(made, plan=replace(made.plan, run_name=name), arms=arms))
    other = {**runs[2].plan.confirm, "steps": 99}
    runs[2] = replace(runs[2], plan=replace(runs[2].plan, confirm=other, closer=other))
    for name, text in comparison_files(RunComparison(runs)).items():
        (folder / name).write_text(text, "utf-8")
    (folder / "methods.html").write_text(report_files(study())["report.html"], "utf-8")
    return folder


def show(browser: Any, folder: Path, name: str, width: int = 1280) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(f"file://{folder / name}")


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_its_window_and_asks_for_nothing(browser: Any, pages: Path, width: int) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    show(browser, pages, "compare.html", width)
    assert script(browser, "return document.documentElement.scrollWidth") <= width
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [f"file://{pages / 'compare.html'}"]
    assert browser.get_log("browser") == []
    assert colliding_texts(browser) == []
    keep_page(browser, f"compare-{width}")


@pytest.mark.parametrize("width", [1280, 801, 390])
def test_no_text_of_a_plot_of_methods_lies_on_another(browser: Any, pages: Path, width: int) -> None:
    show(browser, pages, "methods.html", width)
    assert colliding_texts(browser) == []


def test_on_paper_nothing_is_cut(browser: Any, pages: Path) -> None:
    show(browser, pages, "compare.html", A4)
    media(browser, "print")
    code = """return [...document.querySelectorAll('main *:not(svg *)')].filter((x) => {
      const box = x.getBoundingClientRect();
      return box.width && box.right > innerWidth + 1;
    }).map((x) => x.outerHTML.slice(0, 80))"""
    cut = script(browser, code)
    media(browser)
    assert cut == []


@pytest.mark.skipif(find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["compare.html", "methods.html"])
def test_no_barriers(browser: Any, pages: Path, name: str, scheme: str) -> None:
    media(browser, scheme=scheme)
    show(browser, pages, name)
    script(browser, files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run(document).then(done)")
    keep_page(browser, f"{name.partition('.')[0]}-{scheme}")
    media(browser)
    assert len(found["passes"]) > 20
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found["violations"]] == []
