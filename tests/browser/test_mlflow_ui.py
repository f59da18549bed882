"""The ways of a person through a real `mlflow ui`, in headless Chromium; screenshots are kept for a look.

home -> experiment -> table, arms, charts, MLflow's own comparison -> trial -> model, and the printed links.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import keep, needs_browser
from tests.integration.conftest import Launcher, launcher_in
from tests.integration.test_main_job import small
from tests.tracking.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1200), needs_browser]

OBJECTIVE = "val/robust_auroc_0.1/near"
TRIALS = 6
NAME = re.compile(r"\bt\d+ \S+ sigma \S+ eps \S+")
#: what the pages say of the winner, in the line that MLflow shows folded
ANSWER = re.compile(
    r"Winner: (t\d+ \S+ sigma \S+ eps \S+), [+-][\d.]+ ± [\d.]+ points vs oe, 2 seeds; claim [a-z ]+\."
)
LINKS = ("trials", "arms", "report", "winner", "model")
MORE_LINKS = ("charts of the best trials", "charts of the arms", "this run and its files")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Launcher, str]]:
    """A finished study of six trials and five arms, and what it printed."""
    for launcher in launcher_in(tmp_path_factory.mktemp("ui")):
        done = launcher.run(*small("ui", TRIALS, "--confirm-seeds", "2"), timeout=800)
        assert done.code == 0, done.out + done.err
        yield launcher, done.out


@pytest.fixture(scope="module")
def server(work: tuple[Launcher, str]) -> Iterator[str]:
    """`mlflow ui` exactly as printed, but for the port."""
    launcher, out = work
    assert "MLflow: mlflow ui\n" in out
    port = free_port()
    environment = launcher.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--port", str(port)],
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


def text_of(browser: Any) -> str:
    return browser.execute_script("return document.body ? document.body.innerText : ''") or ""


def wait_for_text(browser: Any, *words: str, timeout: float = 90) -> str:
    """Return the page's text once it holds every word."""
    text, end = "", time.monotonic() + timeout
    while time.monotonic() < end:
        text = text_of(browser)
        if all(word in text for word in words):
            return text
        time.sleep(0.3)
    keep(browser, "mlflow-missing")
    pytest.fail(f"{words} did not all appear in:\n{text[:2000]}")


def follow(browser: Any, words: str) -> None:
    """Click on a link of the page, wherever it opens."""
    before = set(browser.window_handles)
    found = next(a for a in browser.find_elements("tag name", "a") if a.text.strip() == words)
    browser.execute_script("arguments[0].click()", found)
    for _ in range(10):
        if new := set(browser.window_handles) - before:
            browser.close()
            browser.switch_to.window(new.pop())
            return
        time.sleep(0.1)


def unfold(browser: Any) -> None:
    """Open the description of the experiment, of which MLflow shows the first line."""
    button = "[data-component-id='mlflow.experiment.metadata_editor.expand_button']"
    browser.execute_script("arguments[0].click()", browser.find_element("css selector", button))


def from_home(browser: Any, server: str) -> str:
    """Go from the home page to the experiment as who has never been there does; return the winner's name."""
    browser.get("about:blank")  # or the next address, of which only the fragment differs, loads nothing
    browser.get(server)
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    home = wait_for_text(browser, "aoe_sigma", "Winner: t", "claim")  # what the list has of the answer
    assert "Recent Experiments" in home
    assert re.search(r"claim\s*: [a-z ]+, [+-][\d.]+ ± [\d.]+ points vs oe", home), home  # beside it
    keep(browser, "mlflow-1-home")
    follow(browser, "aoe_sigma")
    text = wait_for_text(browser, "Winner: t", *LINKS, *MORE_LINKS)
    answer = ANSWER.search(text)
    assert answer, text
    keep(browser, "mlflow-2-experiment")
    return answer[1]


def test_home_to_experiment_to_trials(server: str, browser: Any) -> None:
    winner = from_home(browser, server)
    follow(browser, "trials")
    text = wait_for_text(browser, f"{TRIALS} matching runs", OBJECTIVE, "val/accuracy/clean")
    assert len(set(NAME.findall(text.partition("Run Name")[2]))) == TRIALS
    # best first; a trial that misses a floor may stand above the winner
    shown = browser.execute_script(
        f"return [...document.querySelectorAll('[col-id=\"metrics.`{OBJECTIVE}`\"]')]"
        ".map((cell) => parseFloat(cell.innerText)).filter((value) => !isNaN(value))"
    )
    assert len(shown) == TRIALS
    assert shown == sorted(shown, reverse=True)
    assert winner in text.partition("Run Name")[2]
    headers = browser.execute_script(
        "return [...document.querySelectorAll('[role=columnheader]')].map((head) => head.innerText)"
    )
    assert any("outliers.sigma" in head for head in headers), headers
    assert not browser.find_elements("css selector", "[aria-label=Failed], [aria-label=Killed]")
    keep(browser, "mlflow-3-trials")


def test_the_arms_in_means_over_their_seeds(server: str, browser: Any) -> None:
    from_home(browser, server)
    follow(browser, "arms")
    arms = ("best", "oe", "no_attack", "signnoise", "gauss")
    text = wait_for_text(browser, "10 matching runs", "Group by: arm", "winner seed 0", "gauss seed 1")
    assert set(re.findall(r"Group: (\w+)", text)) == set(arms)
    keep(browser, "mlflow-4-arms")
    from_home(browser, server)
    unfold(browser)
    keep(browser, "mlflow-2-experiment-unfolded")
    follow(browser, "charts of the arms")
    wait_for_text(browser, "Test metrics, mean over th", "(6)", "test/auroc/near", *arms)
    keep(browser, "mlflow-5-arms-charts")


def test_the_best_trials_in_charts(server: str, browser: Any) -> None:
    winner = from_home(browser, server)
    unfold(browser)
    follow(browser, "charts of the best trials")
    text = wait_for_text(browser, "Which settings work", "Parallel Coordinates", "The objective")
    assert winner.split()[0] in text
    for name in ("outliers.sigma", "attack.name", "attack.epsilon", "lr"):
        wait_for_text(browser, name)  # the axes
    keep(browser, "mlflow-6-charts")


def test_mlflows_own_comparison_of_chosen_trials(server: str, browser: Any) -> None:
    from_home(browser, server)
    follow(browser, "trials")
    wait_for_text(browser, f"{TRIALS} matching runs")
    for place in (0, 1):  # the table is drawn anew after each
        box = browser.find_element("css selector", f".ag-row[row-index='{place}'] input[type=checkbox]")
        browser.execute_script("arguments[0].click()", box)
        time.sleep(1)
    for _ in range(50):
        buttons = [b for b in browser.find_elements("tag name", "button") if b.text.strip() == "Compare"]
        if buttons and buttons[-1].is_enabled():
            break
        time.sleep(0.2)
    browser.execute_script("arguments[0].click()", buttons[-1])
    text = wait_for_text(browser, "Comparing 2 Runs", "Parallel Coordinates Plot", OBJECTIVE)
    assert re.search(rf"Metrics:\s+{re.escape(OBJECTIVE)}\s", text), text  # chosen, not one among many
    keep(browser, "mlflow-7-compare")


def test_trial_to_model_and_back_to_the_run(server: str, browser: Any) -> None:
    winner = from_home(browser, server)
    follow(browser, "winner")
    text = wait_for_text(
        browser, winner, "Metrics (", OBJECTIVE, "test/robust_auroc_0.1/near", "outliers.sigma"
    )
    metrics = re.search(r"Metrics \((\d+)\)", text)
    assert metrics
    assert int(metrics[1]) < 60, text  # 176 of a trial buried the curves
    keep(browser, "mlflow-8-trial")

    from_home(browser, server)
    follow(browser, "model")
    text = wait_for_text(
        browser, "Version 1", "Source Run", winner, "searched parameter", *set(LINKS) - {"model"}, *MORE_LINKS
    )
    assert ANSWER.search(text)
    assert "@ champion" in text or "champion" in text
    keep(browser, "mlflow-9-model")
    follow(browser, "this run and its files")
    wait_for_text(browser, "Winner: t", "best_trial", "Registered models", "aoe_sigma.digits-open")
    keep(browser, "mlflow-10-run")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs", (f"{TRIALS} matching runs", OBJECTIVE)),
        ("arms", ("10 matching runs", "Group: best")),
        ("compare", ("Parallel Coordinates", "Which settings work")),
    ],
)
def test_printed_links(
    work: tuple[Launcher, str], server: str, browser: Any, name: str, words: tuple[str, ...]
) -> None:
    browser.get("about:blank")
    browser.get(link(work[1], name, server))
    wait_for_text(browser, *words)


def test_the_report_link_shows_the_report(work: tuple[Launcher, str], server: str, browser: Any) -> None:
    browser.get("about:blank")
    browser.get(link(work[1], "report", server))
    wait_for_text(browser, "report.html")
    end = time.monotonic() + 60
    found, moved = "", 0
    while time.monotonic() < end and not ("Which outlier sigma" in found and "All 6 trials" in found):
        for frame in browser.find_elements("tag name", "iframe"):
            browser.switch_to.frame(frame)
            found += text_of(browser)
            if "All 6 trials" in found:
                browser.execute_script("document.querySelector('nav a[href=\"#explore\"]').click()")
                moved = browser.execute_script("return scrollY")
            browser.switch_to.default_content()
        time.sleep(0.5)
    keep(browser, "mlflow-11-report")
    assert "Which outlier sigma" in found
    assert moved > 0  # links to sections work there too
    assert "All 6 trials" in found  # what the page's script says: it runs in MLflow's sandboxed frame
