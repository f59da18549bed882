"""report.html in headless Chromium: linked plots, phone, dark, paper, no scripts, keyboard, barriers, no requests."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import colliding_texts, keep, keep_page, keep_pdf, needs_browser
from tests.unit.study_results import realistic
from tuner.report.build import write_report
from tuner.report.charts_explore import CELLS, SHADES

pytestmark = [pytest.mark.slow, pytest.mark.browser, needs_browser]
TRIALS = 40
A4 = 703  # CSS pixels between the margins


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    write_report(realistic(TRIALS), made)
    return made


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The report in a window of 1280 by 900, with everything that a test may emulate undone."""
    show(browser, folder)
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def show(browser: Any, folder: Path, width: int = 1280) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(f"file://{folder / 'report.html'}")


def media(browser: Any, media: str = "", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def find(browser: Any, selector: str) -> Any:
    """Return an element in the middle of the window, where nothing covers it."""
    found = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def script(browser: Any, code: str) -> Any:
    return browser.execute_script(code)


def settle(browser: Any) -> None:
    """Wait until what was chosen is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def rows_shown(browser: Any) -> list[str]:
    code = "return [...document.querySelectorAll('#all-trials tbody tr:not([hidden]) th')].map((x) => x.textContent)"
    return list(script(browser, code))


def paths(browser: Any) -> list[dict[str, str]]:
    """Return the class and the path of every line and dot of the trials, plot by plot."""
    code = """const pair = (path) => [path.getAttribute('class'), path.getAttribute('d') || ''];
      const plots = [...document.querySelectorAll('.scatter, .curves, .parallel')];
      return plots.map((plot) => Object.fromEntries([...plot.querySelectorAll('.inner path')].map(pair)))"""
    return list(script(browser, code))


def cells(plot: dict[str, str]) -> dict[tuple[int, int], int]:
    """Return {(row, column): shade} of a field, whether its runs of cells are one path or many."""
    found, size = {}, 1000 / CELLS
    for shade in range(SHADES):
        for left, top, wide in re.findall(r"M(\d+) (\d+)h(\d+)", plot.get(f"h{shade}", "")):
            first, row = round(int(left) / size), round(int(top) / size)
            for column in range(first, first + max(1, round((int(wide) - 2) / size))):
                found[row, column] = shade
    return found


def test_script_and_static_page_draw_the_same(browser: Any, folder: Path, page: Any) -> None:
    drawn = paths(browser)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    show(browser, folder)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    static = paths(browser)
    assert len(static) == len(drawn) > 20
    for one, other in zip(static, drawn, strict=True):
        for name, d in one.items():
            if not re.fullmatch(r"h\d", name):
                ours, theirs = (list(map(int, re.findall(r"-?\d+", x))) for x in (d, other[name]))
                assert len(ours) == len(theirs), name
                assert all(abs(a - b) <= 1 for a, b in zip(ours, theirs, strict=True)), name
    ours, theirs = (next(cells(p) for p in plots if p.get("h5")) for plots in (static, drawn))
    assert ours.keys() == theirs.keys()
    same = sum(ours[at] == theirs[at] for at in ours)
    assert same >= 0.99 * len(ours) > 0  # the script's values have six digits


def test_nothing_is_requested_and_nothing_is_logged(page: Any, folder: Path) -> None:
    page.get_log("performance")
    page.get_log("browser")
    show(page, folder)
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [f"file://{folder / 'report.html'}"]
    assert page.get_log("browser") == []


def test_a_brush_chooses_the_same_trials_everywhere(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    assert len(rows_shown(page)) == TRIALS
    before = paths(page)
    handle = find(page, ".upright[data-key='outliers.sigma'] .handle")
    ActionChains(page).move_to_element_with_offset(handle, 0, -120).click_and_hold().move_by_offset(
        0, 90
    ).release().perform()
    settle(page)
    shown = rows_shown(page)
    assert 0 < len(shown) < TRIALS
    assert find(page, "#filters .status").text == f"{len(shown)} of {TRIALS} trials"
    sigma = script(
        page, "return JSON.parse(document.getElementById('data').textContent).trials.values['outliers.sigma']"
    )
    axis = script(
        page, "return JSON.parse(document.getElementById('data').textContent).axes['outliers.sigma']"
    )
    inside = sorted(sigma[int(number)] for number in shown)
    outside = sorted(value for number, value in enumerate(sigma) if str(number) not in shown)
    assert not [value for value in outside if inside[0] < value < inside[-1]]  # one stretch of the axis
    assert axis["low"] < inside[0]
    for old, new in zip(before, paths(page), strict=True):
        assert old["off"] == ""
        count = {
            name: d.count("M")
            for name, d in new.items()
            if not re.fullmatch(r"h\d|halo|win|median|best|front|hot", name)
        }
        assert sum(count.values()) == sum(d.count("M") for name, d in old.items() if name in count)
        assert count["off"] > 0
    keep(page, "report-brushed")
    find(page, "#filters button").click()
    settle(page)
    assert len(rows_shown(page)) == TRIALS


def test_the_keyboard_does_what_a_brush_does(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    find(page, "#filters summary").send_keys(Keys.ENTER)
    low = find(page, "#filters input[aria-label='outliers.sigma, at least']")
    low.send_keys("2", Keys.TAB)
    settle(page)
    sigma = script(
        page, "return JSON.parse(document.getElementById('data').textContent).trials.values['outliers.sigma']"
    )
    assert sorted(rows_shown(page), key=int) == [str(n) for n, value in enumerate(sigma) if value >= 2]
    find(page, "#filters input[type=search]").send_keys("failed")
    settle(page)
    assert set(rows_shown(page)) <= {"7", "20", "33"}  # every thirteenth fails
    find(page, "#filters button").send_keys(Keys.ENTER)
    find(page, "#filters input.short").send_keys("16")
    assert script(page, "return document.querySelector('#all-trials tr.hot th').textContent") == "16"
    assert all(plot["hot"] for plot in paths(page) if "s0" in plot)


def test_pointing_at_a_trial_tells_and_marks_it(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    plot = find(page, "#slices .plot")
    ring = page.find_element("css selector", "#slices .ring")
    ActionChains(page).move_to_element(ring).perform()
    number = script(page, "return JSON.parse(document.getElementById('data').textContent).winner")
    assert find(page, ".tip strong").text == f"Trial {number}"
    ActionChains(page).move_to_element(ring).click().perform()
    ActionChains(page).move_to_element_with_offset(plot, 0, -140).perform()
    assert script(page, "return document.querySelector('#all-trials tr.hot th').textContent") == str(number)


def test_axes_can_be_changed(page: Any) -> None:
    from selenium.webdriver.support.select import Select

    before = paths(page)
    Select(find(page, "figure:has(#slices) select")).select_by_value("val/accuracy/clean")
    Select(find(page, "figure:has(#contour) select")).select_by_value("lr")
    settle(page)
    changed = [i for i, (a, b) in enumerate(zip(before, paths(page), strict=True)) if a != b]
    assert len(changed) == 6 + 1  # the slices and the contour
    assert script(page, "return document.querySelector('#contour .xl').textContent") == "lr"
    keep(page, "report-other-axes")


def test_the_table_sorts_both_ways_and_hides_columns(page: Any) -> None:
    def column(number: int) -> list[float]:
        code = f"return [...document.querySelectorAll('#all-trials td:nth-child({number})')].map((x) => x.textContent)"
        return [float(text.removesuffix(" %")) for text in script(page, code) if text != "-"]

    head = "#all-trials thead th:nth-child(7)"
    for ordered in (sorted, lambda values: sorted(values, reverse=True)):
        find(page, f"{head} button").click()
        values = column(7)
        assert values == ordered(values)
        assert len(values) == TRIALS
    assert find(page, head).get_attribute("aria-sort") == "descending"
    find(page, ".columns summary").click()
    find(page, ".columns label:nth-of-type(2) input").click()
    assert not page.find_element("css selector", "#all-trials td:nth-child(3)").is_displayed()
    assert page.find_element("css selector", "#all-trials td:nth-child(2)").is_displayed()


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_never_scrolls_sideways(page: Any, folder: Path, width: int) -> None:
    show(page, folder, width)
    assert script(page, "return document.documentElement.scrollWidth") == width
    keep_page(page, f"report-{width}")


@pytest.mark.parametrize(
    "width", [1440, 1280, 1111, 894, 801, 768, 390, 320]
)  # some where plots are narrowest
def test_no_text_of_a_plot_lies_on_another(page: Any, folder: Path, width: int) -> None:
    show(page, folder, width)
    assert colliding_texts(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_nor_on_axes_that_were_chosen(page: Any, folder: Path, width: int) -> None:
    from selenium.webdriver.support.select import Select

    show(page, folder, width)
    before = script(
        page, "return [...document.querySelectorAll('#contour .xt text')].map((x) => x.textContent)"
    )
    for key in ("attack.name", "lr", "attack.steps"):
        Select(find(page, "figure:has(#contour) select")).select_by_value(key)
        assert script(page, "return document.querySelector('#contour .xl').textContent") == key
        assert colliding_texts(page) == []
    Select(find(page, "figure:has(#contour) select")).select_by_value("outliers.sigma")
    after = script(
        page, "return [...document.querySelectorAll('#contour .xt text')].map((x) => x.textContent)"
    )
    assert after == before  # the script leaves out the same ticks


def test_texts_on_each_other_are_seen(page: Any) -> None:
    script(page, "document.querySelector('#contour .xt text').setAttribute('x', '50%')")
    assert len(colliding_texts(page)) == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_person_sees_first(page: Any, folder: Path, width: int) -> None:
    """Which configuration won, by how much, and whether to believe it, without scrolling."""
    show(page, folder, width)
    seen = script(
        page,
        """return [...document.querySelectorAll('.settings dd, .badge, .lead, .forest .winner td, .verdict a')]
      .filter((x) => x.getBoundingClientRect().bottom < innerHeight).map((x) => x.textContent).join(' | ')""",
    )
    for words in ("mifgsm", "Claim supported", "cautions: values at the end", "by 10.9 ± 0.8 points"):
        assert words in seen.replace("\N{NO-BREAK SPACE}", " "), seen
    keep(page, f"report-first-screen-{width}")
    keep_page(page, f"report-{width}")


def test_dark(page: Any, folder: Path) -> None:
    media(page, scheme="dark")
    show(page, folder)
    colour = script(page, "return getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 50
    keep_page(page, "report-dark")


def test_on_paper_nothing_is_folded_or_cut(page: Any, folder: Path) -> None:
    find(page, "#filters input[type=search]").send_keys("failed")
    settle(page)
    screen = {"width": A4, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media(page, "print")
    code = """return [...document.querySelectorAll('main *:not(svg *)')].filter((x) => {
      const box = x.getBoundingClientRect(), open = getComputedStyle(x).overflowX === 'visible';
      return box.width && (box.right > innerWidth + 1 || (x.scrollWidth > x.clientWidth + 1 && !open));
    }).map((x) => x.outerHTML.slice(0, 80))"""
    assert script(page, code) == []
    code = "return [...document.querySelectorAll('#all-trials tr')].filter((x) => !x.offsetHeight).length"
    hidden = script(page, code)
    assert hidden == 0
    media(page)
    show(page, folder)
    assert keep_pdf(page, "report").startswith(b"%PDF")


def test_without_scripts_everything_is_there(page: Any, folder: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    show(page, folder)
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(rows_shown(page)) == TRIALS
    assert not page.find_elements("css selector", "main button")
    assert not page.find_element("id", "filters").is_displayed()
    keep_page(page, "report-without-scripts")


def test_a_command_is_copied(page: Any) -> None:
    button = find(page, ".card pre button")
    button.click()
    for _ in range(20):
        settle(page)
        if button.text != "Copy":
            break
    assert button.text in ("Copied", "Selected")


@pytest.mark.skipif(find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_barriers(page: Any, folder: Path, width: int, scheme: str) -> None:
    media(page, scheme=scheme)
    show(page, folder, width)
    for summary in page.find_elements("css selector", "summary"):
        script(page, "document.querySelectorAll('details').forEach((x) => { x.open = true; })")
        assert summary
    script(page, files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.execute_async_script("const done = arguments[0]; axe.run(document).then(done)")
    assert len(found["passes"]) > 20
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found["violations"]] == []
