"""The live display on a terminal, drawn by rich from values: clock, stages, progress, what runs, trials or arms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.base.text import visible

STATE_STYLES = {
    "complete": "green",
    "running": "cyan",
    "stopped early": "dim",
    "failed": "red",
    "below floor": "yellow",
}
_MARKS = {"done": ("✓", "green"), "now": ("●", "bold cyan"), "to come": ("·", "dim")}
_ASCII_MARKS = {"done": "+", "now": "*", "to come": "-"}
_BAR = 24


@dataclass(frozen=True)
class LiveTable:
    """Rows of text; the first one is set off.

    Attributes:
        words: headings of the columns that hold words, set to the left; numbers are set to the right.
        states: heading of the column whose words have colours, "" for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[str] = frozenset()
    states: str = ""


@dataclass(frozen=True)
class LiveState:
    """What is shown.

    Attributes:
        title: study, data set, run.
        elapsed: since the launch began.
        stages: (name, "done", "now" or "to come").
        label: what is counted now.
        done, total: how far the stage is; total 0 shows no bar.
        pace: rate and time left, "" before they are known.
        devices: workers at a time and the load of this machine.
        running: of each trial that runs, its name and epoch.
    """

    title: str
    elapsed: str
    stages: Sequence[tuple[str, str]]
    label: str
    done: int
    total: int
    pace: str = ""
    devices: str = ""
    running: Sequence[str] = ()
    table: LiveTable = field(default_factory=lambda: LiveTable((), ()))


def start(stream: Any, width: int | None) -> Live:
    """Return a started live display that draws only on `update`: it has no thread of its own.

    NO_COLOR takes the colours away, not the emphasis.

    Args:
        width: in characters; None lets rich measure the terminal, which it cannot do for any other stream.
    """
    console = Console(file=cast(IO[str], stream), force_terminal=True, width=width, highlight=False)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def view(state: LiveState, ascii_only: bool = False) -> Group:
    """Return what is drawn; no line is longer than the screen is wide."""
    parts: list[RenderableType] = [
        _ends(state.title, state.elapsed),
        _stages(state.stages, ascii_only),
        _bar(state),
    ]
    parts += [_line(text, style) for text, style in ((state.pace, ""), (state.devices, "dim")) if text]
    if state.running:
        parts.append(_line(f"running  {'   '.join(state.running)}", "cyan"))
    if state.table.rows:
        parts += [Text(""), _table(state.table)]
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(visible(text), style, no_wrap=True, overflow="ellipsis")


def _ends(left: str, right: str) -> Table:
    """Return a line whose two parts stand at the ends of the screen."""
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(_line(left, "bold"), _line(f"  {right}"))
    return grid


def _stages(stages: Sequence[tuple[str, str]], ascii_only: bool) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (name, where) in enumerate(stages):
        mark, style = _MARKS[where]
        line.append("   " if number else "")
        line.append(f"{_ASCII_MARKS[where] if ascii_only else mark} {visible(name)}", style)
    return line


def _bar(state: LiveState) -> RenderableType:
    if not state.total:
        return _line(state.label)
    counts = Table.grid(padding=(0, 1))
    counts.add_column(width=_BAR)
    counts.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(
        total=state.total,
        completed=min(state.done, state.total),
        width=_BAR,
        style="grey37",
        complete_style="cyan",
        finished_style="green",
    )
    counts.add_row(bar, _line(f"{state.done}/{state.total} {state.label}"))
    return counts


def _table(table: LiveTable) -> Table:
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in table.header:
        justify: JustifyMethod = "left" if name in table.words else "right"
        drawn.add_column(_line(name), justify=justify, no_wrap=True, overflow="ellipsis")
    for number, row in enumerate(table.rows):
        cells = [
            _line(cell, STATE_STYLES.get(cell, "") if name == table.states else "")
            for name, cell in zip(table.header, row, strict=True)
        ]
        drawn.add_row(*cells, style="bold" if number == 0 else "")
    return drawn
