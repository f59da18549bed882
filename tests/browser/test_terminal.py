"""Pictures of the terminal during a scripted run, with its colours, at three widths; its lines: test_live_view."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import keep_page, needs_browser
from tests.unit.tuner.console.test_live_view import Clock, confirming, emulated, screen, searching
from tuner.console.progress import Console

pytestmark = [pytest.mark.browser, needs_browser]
COLOURS = {"red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "yellow": "#e5c07b", "cyan": "#56b6c2"}
PAGE = (
    "<meta charset=utf-8><title>terminal</title><style>body{background:#282c34;margin:12px}"
    "pre{color:#dcdfe4;font:14px/1.35 'DejaVu Sans Mono',monospace;margin:0}</style><pre>"
)


def page(play: Callable[[Console, Clock], None], width: int) -> str:
    """Return a terminal's screen as a page, every character in its colour."""
    found, lines = emulated(play, width), []
    for y in range(len(screen(play, width))):
        cells = []
        for x in range(width):
            cell = found.buffer[y][x]
            style = f"color:{COLOURS.get(cell.fg, 'inherit')};font-weight:{'bold' if cell.bold else 'normal'}"
            cells.append(f'<span style="{style}">{escape(cell.data)}</span>')
        lines.append("".join(cells))
    return PAGE + "\n".join(lines)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("play", [searching, confirming])
def test_the_terminal_in_pictures(
    play: Callable[[Console, Clock], None], width: int, browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "terminal.html"
    file.write_text(page(play, width), "utf-8")
    browser.get(f"file://{quote(str(file))}")
    shown = browser.execute_script("return document.querySelector('pre').textContent").split("\n")
    assert [line.rstrip() for line in shown] == screen(play, width)
    coloured = browser.execute_script(
        "return [...document.querySelectorAll('span')].filter(s => s.style.color !== 'inherit' && s.textContent.trim())"
        ".map(s => s.textContent).join('')"
    )
    assert "failed" not in coloured.replace(
        "failed:", ""
    )  # that trial is told in a line, and not in the table
    assert "✓" in coloured
    keep_page(browser, f"terminal-{play.__name__}-{width}")
