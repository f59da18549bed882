"""--watch in headless Chromium, on a server of its own process: new data without a reload, a wait, a kill, the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import keep_page, needs_browser
from tests.browser.test_report import find, script, settle
from tests.unit.runs import StoredRun
from tests.unit.study_results import realistic
from tuner.execution.trial_queue import TrialQueue
from tuner.report.build import report_files

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
pytestmark = [pytest.mark.slow, pytest.mark.browser, needs_browser]


class Watched:
    """A stored run of eight trials, three of them ended, and the server of its page."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.run = StoredRun(root, trials=8)
        self.queue: TrialQueue = self.run.queue()
        for level in (0.5, 0.55, 0.6):
            self.run.trial(self.queue, [level] * 9)
        words = [sys.executable, "launch.py", "--watch", "one", "--storage", str(root), "--port", str(port)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.words = [self.process.stdout.readline() for _ in range(4)]
        self.url = self.words[0].split()[-1]

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


@pytest.fixture
def watched(tmp_path: Path, browser: Any) -> Iterator[Watched]:
    made = Watched(tmp_path / "runs")
    screen = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get_log("browser")
    browser.get(made.url)
    script(browser, "window.same = true")  # a reload would lose it
    yield made
    browser.get("about:blank")
    if made.process.poll() is None:
        made.end()


def wait_for(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    ends = time.monotonic() + patience_s
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    return condition()


def rows(browser: Any) -> int:
    return int(script(browser, "return document.querySelectorAll('#all-trials tbody tr').length"))


def test_new_trials_appear_without_a_reload_and_can_be_explored(browser: Any, watched: Watched) -> None:
    assert rows(browser) == 3
    script(browser, "scrollTo(0, 700)")
    watched.run.trial(watched.queue, [0.9] * 9)
    assert wait_for(lambda: rows(browser) == 4)
    assert script(browser, "return window.same && scrollY") == 700
    keep_page(browser, "watch")
    find(browser, "#filters input[type=search]").send_keys("below floor")
    settle(browser)
    status = script(browser, "return document.querySelector('#filters .status').textContent")
    assert status == "0 of 4 trials"  # the script knows the new trials
    assert browser.get_log("browser") == []


def test_it_waits_while_somebody_has_chosen_trials(browser: Any, watched: Watched) -> None:
    box = find(browser, "#filters input[type=search]")
    box.send_keys("complete")
    watched.run.trial(watched.queue, [0.9] * 9)
    button = wait_for(lambda: browser.find_elements("css selector", "#news button"))[0]
    assert rows(browser) == 3
    assert box.get_attribute("value") == "complete"
    button.click()
    assert rows(browser) == 4
    assert script(browser, "return window.same")


def test_a_server_that_has_ended_is_said(browser: Any, watched: Watched) -> None:
    assert watched.end() == 0
    trouble = "return document.getElementById('trouble').textContent"
    assert wait_for(lambda: "does not answer" in script(browser, trouble))
    assert rows(browser) == 3  # what was there stays


def test_the_finished_report_takes_its_place(browser: Any, watched: Watched) -> None:
    watched.run.folder.files.write("report.html", report_files(realistic(5))["report.html"].encode())
    watched.run.folder.update(finished=True)
    assert wait_for(lambda: not browser.find_elements("id", "live"))
    assert wait_for(lambda: rows(browser) == 5)
    assert browser.get_log("browser") == []


def test_what_is_printed_leads_there_from_another_machine_too(browser: Any, watched: Watched) -> None:
    port = watched.url.split(":")[2].split("/")[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port} USER@THIS-MACHINE" in watched.words[2]
    browser.get(watched.url.replace("127.0.0.1", "localhost"))
    assert rows(browser) == 3


def test_a_page_of_another_name_gets_nothing(browser: Any, watched: Watched) -> None:
    """DNS rebinding, as far as a browser shows it: the same server under a name that is not loopback's."""
    port, token = watched.url.split(":")[2].split("/")[:2]
    code = "const done = arguments[1]; fetch(arguments[0]).then((a) => done(a.status), () => done('refused'))"
    other = f"http://evil.localhost:{port}/{token}/"  # browsers lead every name below localhost here
    browser.get(other)
    assert "only for 127.0.0.1" in script(browser, "return document.body.textContent")
    browser.get("about:blank")
    assert browser.execute_async_script(code, watched.url) == "refused"


@pytest.mark.skipif(find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
def test_no_barriers(browser: Any, watched: Watched) -> None:
    script(browser, files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run(document).then(done)")
    assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found["violations"]] == []


def test_open_hands_the_address_to_the_browser(tmp_path: Path) -> None:
    """$BROWSER is a script that keeps what it was called with and what it was given."""
    StoredRun(tmp_path / "runs", trials=1)
    kept, program = tmp_path / "kept", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {kept}\ncat "${{1#file://}}" >> {kept}\n')
    program.chmod(0o700)
    words = [sys.executable, "launch.py", "--watch", "one", "--storage", str(tmp_path / "runs"), "--open"]
    process = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "BROWSER": f"{program} %s"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    address, given = kept.read_text().split("\n", 1)
    assert address.startswith("file://")
    assert url not in address
    assert url in given
