"""Headless Chromium for every test of what people see; screenshots are kept for a look."""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--window-size=1600,1200",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


COLLIDING = """const found = [], box = (x) => x.getBoundingClientRect();
  const texts = [...document.querySelectorAll('svg text')].filter((x) => x.textContent.trim() && box(x).width)
    .map((x) => [x.textContent, box(x)]).sort((a, b) => a[1].left - b[1].left);
  texts.forEach(([one, a], i) => {
    for (let k = i + 1; k < texts.length && texts[k][1].left < a.right; k++) {
      const [other, b] = texts[k];  // lines of type are 14 pixels high and stand 12 apart
      if (a.top + 2 < b.bottom - 2 && b.top + 2 < a.bottom - 2) found.push(`${one} | ${other}`);
    }
  });
  return found"""


def colliding_texts(browser: Any) -> list[str]:
    """Return the pairs of texts of plots, of one or of two, of which one lies on the other."""
    return list(browser.execute_script(COLLIDING))


def keep(browser: Any, name: str) -> None:
    """Keep a screenshot of what is in the window."""
    _write(f"{name}.png", browser.get_screenshot_as_png())


def keep_page(browser: Any, name: str, most: int = 16000) -> None:
    """Keep a screenshot of the page, its first `most` pixels."""
    size = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], most), "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    _write(f"{name}.png", base64.b64decode(shot["data"]))


def keep_pdf(browser: Any, name: str) -> bytes:
    """Print the page, keep it and return it."""
    made = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    data = base64.b64decode(made["data"])
    _write(f"{name}.pdf", data)
    return data


def _write(name: str, data: bytes) -> None:
    folder = Path(os.environ.get("CI_ARTIFACTS", "ci-artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
