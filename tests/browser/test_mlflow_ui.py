"""The printed links, opened in headless Chromium on a real `mlflow ui`; screenshots are kept for a look."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import keep, needs_browser
from tests.integration.conftest import Launcher, _launcher
from tests.integration.test_main_job import small

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900), needs_browser]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Launcher, str]]:
    """A finished study of six trials, and what it printed."""
    for launcher in _launcher(tmp_path_factory.mktemp("ui")):
        done = launcher.run(*small("ui", 6, "--stages", "search,evaluate,report"), timeout=500)
        assert done.code == 0, done.out + done.err
        yield launcher, done.out


@pytest.fixture(scope="module")
def server(work: tuple[Launcher, str]) -> Iterator[str]:
    """`mlflow ui` exactly as printed, but for the port."""
    launcher, out = work
    assert "MLflow: mlflow ui\n" in out
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = launcher.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=launcher.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{base}/health", timeout=2)
            break
        except OSError:
            time.sleep(0.5)
    yield base
    os.killpg(process.pid, 15)
    process.wait(timeout=30)


def link(out: str, name: str, base: str) -> str:
    found = re.search(rf"^\s*{name}: (http://127\.0\.0\.1:5000)(\S+)$", out, re.MULTILINE)
    assert found, out
    return base + found.group(2)


def wait_for_text(browser: Any, *words: str, timeout: float = 60) -> str:
    """Return the page's text once it holds every word."""
    text = ""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        text = browser.execute_script("return document.body ? document.body.innerText : ''") or ""
        if all(word in text for word in words):
            return text
        time.sleep(0.3)
    keep(browser, "mlflow-missing")
    pytest.fail(f"{words} did not all appear in:\n{text[:2000]}")


def test_the_runs_link_shows_the_runs(work: tuple[Launcher, str], server: str, browser: Any) -> None:
    browser.get(link(work[1], "runs", server))
    wait_for_text(browser, "0000", "oe-0000", "12 matching runs")
    keep(browser, "mlflow-runs")


def test_the_compare_link_compares_five_with_the_objective(
    work: tuple[Launcher, str], server: str, browser: Any
) -> None:
    url = link(work[1], "compare", server)
    assert url.count("%22%2C%22") == 4  # five run ids
    browser.get(url)
    text = wait_for_text(browser, "Parallel Coordinates Plot", "Comparing 5 Runs")
    keep(browser, "mlflow-compare")
    assert "val/robust_auroc_0.1/near" in text or _one_click_away(browser)


def _one_click_away(browser: Any) -> bool:
    """Look for the objective in the metric selector; its list shows a few names at a time, so type the name."""
    from selenium.webdriver.common.by import By

    objective = "val/robust_auroc_0.1/near"
    for box in browser.find_elements(By.CSS_SELECTOR, "[role=combobox]"):
        # a script opens it: the tags of the chosen entries lie over the input and would take a real click
        browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus();"
            "arguments[0].dispatchEvent(new MouseEvent('mousedown', {bubbles: true}));",
            box,
        )
        box.send_keys(objective)
        time.sleep(1.5)
        options = browser.find_elements(By.CSS_SELECTOR, "[class*=select-item-option], [role=option]")
        if any(objective in (option.get_attribute("textContent") or "") for option in options):
            keep(browser, "mlflow-compare-metric")
            return True
    keep(browser, "mlflow-compare-missing")
    return False


def test_the_report_link_shows_the_report(work: tuple[Launcher, str], server: str, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    browser.get(link(work[1], "report", server))
    wait_for_text(browser, "report.html")
    end = time.monotonic() + 60
    found, moved = "", 0
    while time.monotonic() < end and not ("Which outlier sigma" in found and "All 6 trials" in found):
        for frame in browser.find_elements(By.TAG_NAME, "iframe"):
            browser.switch_to.frame(frame)
            found += browser.execute_script("return document.body ? document.body.innerText : ''") or ""
            if "All 6 trials" in found:
                browser.execute_script("document.querySelector('nav a[href=\"#explore\"]').click()")
                moved = browser.execute_script("return scrollY")
            browser.switch_to.default_content()
        time.sleep(0.5)
    keep(browser, "mlflow-report")
    assert "Which outlier sigma" in found
    assert moved > 0  # links to sections work there too
    assert "All 6 trials" in found  # what the page's script says: it runs in MLflow's sandboxed frame
