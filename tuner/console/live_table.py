"""The live screen: one progress bar above one table. The only file that imports rich."""

from collections.abc import Sequence
from typing import IO, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table


def start(stream: Any, width: int | None) -> Live:
    """Return a started live display that draws only when it is told to: no thread of its own.

    Args:
        width: in characters; None lets rich measure the terminal, which it cannot do for any other stream.
    """
    console = Console(file=cast(IO[str], stream), force_terminal=True, width=width, highlight=False)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def view(bar: tuple[int, int, str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """Return the bar (done, total, what) and the table as one picture."""
    done, total, what = bar
    line = Table.grid(padding=(0, 1))
    progress = ProgressBar(total=max(total, 1), completed=done, width=30)
    line.add_row(progress, f"{done}/{total}", escape(what))
    if not rows:
        return Group(line)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for number, name in enumerate(header):
        words = number in (1,) or number > 4
        table.add_column(
            escape(name), justify="left" if words else "right", no_wrap=number < 3, overflow="ellipsis"
        )
    for number, row in enumerate(rows):
        table.add_row(*map(escape, row), style="bold" if number == 0 else "")
    return Group(line, table)
