"""Plots of the trials as dots: two values of each, best so far, validation against test, effects set by set."""

import numpy as np

from tuner.analysis.metric_text import metric_label
from tuner.analysis.set_metrics import family_label, set_label
from tuner.base.records import State
from tuner.base.text import counted
from tuner.report.axes import Axis
from tuner.report.data import STATES, TESTED, ReportData
from tuner.report.markup import Markup, element
from tuner.report.svg import BOX, MIDDLE, NARROW, WIDE, dots, figure, line, path, per_cent, plot, ring, steps

FEWEST_OF_AN_OPTION, FEWEST_FOR_A_LINE = 3, 10  # complete trials for a median
MEDIANS = "Lines: medians of complete trials, where there are enough."
MANY = 300  # trials above which dots and lines are fainter
#: the classes of marks by state, the last one drawn on top
CLASSES = {
    State.PRUNED: "stopped",
    State.FAIL: "failed",
    State.RUNNING: "running",
    State.COMPLETE: "complete",
}
_GOLDEN = 0.618  # spreads the trials of one option evenly

Points = dict[int, tuple[float, float]]  # {trial: its point}


def place_of(data: ReportData, key: str, i: int) -> float | None:
    """Return where a trial stands on an axis; the trials of one option are spread so that none hides another."""
    axis = data.axes[key]
    value = data.trials.number[i] if key == "number" else data.trials.values[key.removesuffix(TESTED)][i]
    place = axis.place(value)
    if place is None or not axis.options:
        return place
    return place + ((data.trials.number[i] * _GOLDEN) % 1 - 0.5) * 0.6 / len(axis.options)


def points_of(data: ReportData, x: str, y: str) -> Points:
    """Return the points of the trials that have both values."""
    places = ((i, place_of(data, x, i), place_of(data, y, i)) for i in range(len(data.trials)))
    return {i: (px, py) for i, px, py in places if px is not None and py is not None}


def scatter(
    data: ReportData,
    x: str,
    y: str,
    *,
    height: int = 170,
    width: int = MIDDLE,
    x_label: str | None = None,
    trend: bool = False,
    below: tuple[Markup | None, ...] = (),
    over: Markup | None = None,
    name: str = "",
) -> Markup:
    """Return the trials by two of their values; the page's script draws them again when trials are chosen.

    Args:
        x_label: instead of the axis' own; "" for none.
        trend: draw the median of the complete trials along x, where there are enough.
        below, over: other marks.
        name: of a plot whose axes the reader may change.
    """
    axes, points = (data.axes[x], data.axes[y]), points_of(data, x, y)
    x_label = axes[0].label if x_label is None else x_label
    marks = [
        *below,
        element("path", class_="off"),
        element("path", d=dots(points.values()), class_="halo") if name else None,
        *_by_state(data, points),
        element("path", d=trend_path(data, axes[0], points) or None, class_="median") if trend else None,
        element("path", class_="hot"),
    ]
    return plot(
        *axes,
        marks,
        f"{axes[1].label} of {counted(len(points), 'trial')} by {axes[0].label}{winner_says(data, x, y)}",
        height=height,
        width=width,
        over=(over, _winner(data, points)),
        x_label=x_label,
        class_="scatter many" if len(data.trials) > MANY else "scatter",
        data_x=x,
        data_y=y,
        id=name or None,
    )


def winner_says(data: ReportData, *keys: str) -> str:
    """Return what the winner's values are, for who does not see the plot."""
    if data.winner is None:
        return ""
    columns = {key: data.trials.values[key.removesuffix(TESTED)] for key in keys if key != "number"}
    known = {key: column[data.winner] for key, column in columns.items() if column[data.winner] is not None}
    texts = [f"{data.axes[key].label} {data.axes[key].text(value)}" for key, value in known.items()]
    return f". Winner, trial {data.trials.number[data.winner]}: {', '.join(texts)}" if texts else ""


def _by_state(data: ReportData, points: Points) -> list[Markup]:
    made = []
    for state, class_ in CLASSES.items():
        number = STATES.index(state)
        own = dots(point for i, point in points.items() if data.trials.state[i] == number)
        made.append(element("path", d=own or None, class_=class_, data_state=number))
    return made


def _winner(data: ReportData, points: Points) -> Markup | None:
    if data.winner is None or data.winner not in points:
        return None
    return ring(*points[data.winner], f"winner: trial {data.trials.number[data.winner]}")


def trend_path(data: ReportData, axis: Axis, points: Points) -> str:
    """Return the path of the complete trials' medians along x: by option, or in bins of equal count; "" for too few."""
    number = STATES.index(State.COMPLETE)
    complete = sorted(point for i, point in points.items() if data.trials.state[i] == number)
    if axis.options:
        n = len(axis.options)
        ys = [[y for x, y in complete if int(x * n) == k] for k in range(n)]
        middles = [
            (k, 1 - float(np.median(own))) for k, own in enumerate(ys) if len(own) >= FEWEST_OF_AN_OPTION
        ]
        return "".join(f"M{BOX * (k + 0.2) / n:.0f} {BOX * y:.0f}h{BOX * 0.6 / n:.0f}" for k, y in middles)
    if len(complete) < FEWEST_FOR_A_LINE:
        return ""
    parts = np.array_split(np.array(complete), min(6, len(complete) // 4))
    return line([(float(np.median(part[:, 0])), float(np.median(part[:, 1]))) for part in parts])


def progress(data: ReportData) -> Markup | None:
    """Return the objective by trial number, with the best complete and feasible trial so far."""
    points = points_of(data, "number", data.objective)
    column, best, corners = data.trials.values[data.objective], None, []
    for i, point in points.items():
        if data.trials.feasible[i] and (best is None or data.better(column[i], best)):
            best = column[i]
            corners.append(point)
    if not corners:
        return None
    best_so_far = path(steps([*corners, (1.0, corners[-1][1])]), "best")
    words = "trial, in the order of their start"
    meaning = "Line: the best trial so far that trained to the end and meets every floor."
    made = scatter(
        data, "number", data.objective, height=200, width=WIDE, below=(best_so_far,), x_label=words
    )
    return figure("Best so far", f"{data.axes[data.objective].label}. {meaning}", made)


def agreement(data: ReportData, note: str) -> Markup | None:
    """Return the objective on validation data against the claim's metric on test data, of the evaluated trials."""
    x = data.objective + TESTED
    if len(points_of(data, x, data.claim) if data.claim in data.trials.values else ()) < 2:
        return None
    at, bar = None if data.winner is None else place_of(data, x, data.winner), None
    if at is not None and data.repeated is not None:
        low, high = (data.axes[data.claim].place(end) or 0.0 for end in data.repeated)
        ends = {"x1": per_cent(at), "x2": per_cent(at), "y1": per_cent(1 - low), "y2": per_cent(1 - high)}
        bar = element("line", **ends, class_="again")
    made = scatter(data, x, data.claim, height=260, width=WIDE, over=bar)
    return figure(metric_label(data.claim), note, made)


def effect(data: ReportData, parameter: str) -> Markup | None:
    """Return the test metric of every single set by one parameter."""
    measured = [m for m in data.sets if m in data.trials.values]
    if not measured:
        return None
    panels = [
        element(
            "div",
            element("p", set_label(m), class_="name"),
            scatter(data, parameter, m, height=120, width=NARROW, trend=True, x_label=""),
        )
        for m in measured
    ]
    note = (
        f"{family_label(measured[0])} on test data, of the trials that trained to the end. Measured after the search; "
        f"it did not steer it. The other parameters vary too. {MEDIANS}"
    )
    return figure(f"{parameter}, set by set", note, element("div", *panels, class_="panels small"))
