"""The live display on a terminal: a progress bar above a table, drawn by rich. The only file that imports rich."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from tuner.base.text import visible


def start(stream: Any, width: int | None) -> Live:
    """Return a started live display that draws only on `update`: it has no thread of its own.

    Args:
        width: in characters; None lets rich measure the terminal, which it cannot do for any other stream.
    """
    console = Console(file=cast(IO[str], stream), force_terminal=True, width=width, highlight=False)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


@dataclass(frozen=True)
class LiveTable:
    """Rows of text; the first one is set off.

    Attributes:
        words: headings of the columns that hold words, set to the left; numbers are set to the right.
        whole: how many columns from the left are never broken into two lines.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[str]
    whole: int


def view(bar: tuple[int, int, str], table: LiveTable) -> Group:
    """Return what is drawn: the bar (done, total, label) above the table."""
    done, total, label = bar
    line = Table.grid(padding=(0, 1))
    progress = ProgressBar(total=max(total, 1), completed=done, width=30)
    line.add_row(progress, f"{done}/{total}", escape(visible(label)))
    if not table.rows:
        return Group(line)
    drawn = Table(box=None, padding=(0, 1), header_style="dim")
    for number, name in enumerate(table.header):
        justify: JustifyMethod = "left" if name in table.words else "right"
        drawn.add_column(
            escape(visible(name)), justify=justify, no_wrap=number < table.whole, overflow="ellipsis"
        )
    for number, row in enumerate(table.rows):
        drawn.add_row(*(escape(visible(cell)) for cell in row), style="bold" if number == 0 else "")
    return Group(line, drawn)
