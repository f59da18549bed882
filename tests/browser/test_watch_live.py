"""--watch in headless Chromium while a driver trains: trials end on the page, the answer comes, a kill is said."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import keep, needs_browser
from tests.browser.test_report import find, script, settle
from tests.browser.test_watch import rows, wait_for
from tests.integration.conftest import ROOT, SMALL, Launcher, launcher_in

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900), needs_browser]
NAME = "live"
TRIALS = 5
STUDY = ["--study", "aoe_sigma", "--run-name", NAME, "--trials", str(TRIALS), "--concurrency", "1", *SMALL]
PATIENCE_S = 300.0


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    yield from launcher_in(tmp_path)


class Watching:
    """A study whose driver works, and the page of it in a browser."""

    def __init__(self, launcher: Launcher, browser: Any) -> None:
        self.launcher, self.browser = launcher, browser
        self.driver = launcher.start(*STUDY, "--confirm-seeds", "2")
        launcher.wait_for(NAME, " epoch ", 1, self.driver)
        words = [sys.executable, str(ROOT / "launch.py"), "--watch", NAME]
        self.server = subprocess.Popen(
            words, cwd=launcher.folder, env=launcher.environment, stdout=subprocess.PIPE, text=True
        )
        assert self.server.stdout is not None
        browser.get_log("browser")
        browser.get(self.server.stdout.readline().split()[-1])
        script(browser, "window.same = true")  # a reload would lose it

    def state(self) -> str:
        return str(script(self.browser, "return document.querySelector('#live .state')?.textContent ?? ''"))

    def ended(self) -> int:
        """Return how many trials the page says have ended; -1 once it is the finished report."""
        box = script(self.browser, "return document.getElementById('live')?.textContent ?? ''")
        found = re.search(r"(\d+) of \d+ trials of the searches ended", box)
        return int(found[1]) if found else -1

    def end(self) -> None:
        self.browser.get("about:blank")
        self.server.send_signal(signal.SIGINT)
        self.server.wait(timeout=60)
        if self.driver.poll() is None:
            self.driver.send_signal(signal.SIGTERM)
        self.driver.communicate(timeout=120)


@pytest.fixture
def watching(launcher: Launcher, browser: Any) -> Iterator[Watching]:
    screen = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    made = Watching(launcher, browser)
    yield made
    made.end()


def test_trials_end_on_the_page_and_the_answer_takes_its_place(watching: Watching) -> None:
    browser, seen = watching.browser, [watching.ended()]
    assert watching.state().startswith("Running here (process")
    for _ in range(2):  # once would do for a page that was read late
        assert wait_for(lambda: watching.ended() > seen[-1], PATIENCE_S), seen
        seen.append(watching.ended())
    assert script(browser, "return window.same"), "it came by a reload"
    assert seen[-1] <= 2 * TRIALS  # the search and the baseline's
    keep(browser, "watch-running")
    assert wait_for(lambda: not browser.find_elements("id", "live"), PATIENCE_S)
    badge = wait_for(lambda: browser.find_elements("css selector", ".card .badge"))
    assert badge[0].text.startswith("Claim ")
    assert rows(browser) == TRIALS
    assert (watching.launcher.folder / "runs" / NAME / "report.html").exists()
    assert browser.get_log("browser") == []
    keep(browser, "watch-ended")


def test_a_killed_driver_is_said_and_the_page_goes_on_with_the_next_one(watching: Watching) -> None:
    browser = watching.browser
    assert wait_for(lambda: watching.ended() >= 1, PATIENCE_S)
    watching.launcher.kill(watching.driver)
    # the supervisor has said it; a moment before that it is "Interrupted in search"
    assert wait_for(lambda: "was killed by SIGKILL" in watching.state(), PATIENCE_S), watching.state()
    assert watching.state().startswith("Failed: the driver (process ")
    assert "--resume live" in find(browser, "#live").text
    assert "still" in str(find(browser, "#live").get_attribute("class"))
    assert "runs:" not in find(browser, "#live").text  # no trial runs any more
    keep(browser, "watch-killed")
    ended = watching.ended()
    box = find(browser, "#filters input[type=search]")
    box.send_keys("of no trial")
    settle(browser)
    assert find(browser, "#filters .status").text.startswith("0 of ")
    find(browser, "#filters button").click()
    settle(browser)
    assert find(browser, "#filters .status").text.startswith("All ")

    watching.driver = watching.launcher.start("--study", "aoe_sigma", "--resume", NAME, "--concurrency", "1")
    script(browser, "document.activeElement.blur()")
    assert wait_for(lambda: watching.state().startswith("Running here (process"), PATIENCE_S)
    assert wait_for(lambda: watching.ended() > ended, PATIENCE_S)
    assert script(browser, "return window.same"), "it came by a reload"
    assert browser.get_log("browser") == []
