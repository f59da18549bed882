"""Plots to explore the trials: all parameters at once, by epoch, by one, by two, and what they trade off."""

import itertools
from collections.abc import Sequence

import numpy as np

from tuner.report.axes import Axis
from tuner.report.charts_search import CLASSES, MANY, MEDIANS, place_of, points_of, scatter, winner_says
from tuner.report.data import STATES, ReportData
from tuner.report.markup import Markup, element
from tuner.report.svg import BOX, WIDE, figure, inner_box, legend, line, path, per_cent, plot

BEST = 5  # shades of lines, by fifths of the trials
SHADES = 7  # of fields
CELLS = 36  # of a field, each way
FEWEST = 8  # trials that are averaged over a field
MOST_AXES = 10


def state_legend(data: ReportData) -> Markup:
    """Return the marks of the states that occur, with their numbers of trials."""
    entries = []
    for state in reversed(CLASSES):
        number = STATES.index(state)
        n = sum(own == number for own in data.trials.state)
        if n:
            entries.append((CLASSES[state], f"{data.trials.states[number]} ({n})"))
    if data.winner is not None:
        entries.append(("ring", f"winner (trial {data.trials.number[data.winner]})"))
    return legend(*entries)


def shades_of(data: ReportData) -> list[int | None]:
    """Return each trial's shade by its rank in the objective, BEST - 1 for the best fifth; None without a value."""
    column = data.trials.values[data.objective]
    known = sorted((v for v in column if v is not None), reverse=not data.larger_is_better)
    rank = {v: i for i, v in enumerate(known)}
    return [None if v is None else min(BEST - 1, rank[v] * BEST // len(known)) for v in column]


def parallel(data: ReportData) -> Markup | None:
    """Return every trial as a line over its parameters to its objective."""
    if not data.parameters:
        return None
    keys = [*data.parameters[:MOST_AXES], data.objective]
    at = [(j + 0.5) / len(keys) for j in range(len(keys))]
    lines, winner, height = [""] * BEST, "", 260
    for i, shade in enumerate(shades_of(data)):
        places = [place_of(data, key, i) for key in keys]
        if shade is not None and None not in places:
            own = line([(x, place) for x, place in zip(at, places, strict=True) if place is not None])
            lines[shade] += own
            winner = own if i == data.winner else winner
    if not any(lines):
        return None
    marks = [
        element("path", class_="off"),
        *(element("path", d=d or None, class_=f"s{shade}") for shade, d in enumerate(lines)),
        path(winner, "win"),
        element("path", class_="hot"),
    ]
    svg = element(
        "svg",
        inner_box(marks),
        *(_upright(data, key, x, height) for key, x in zip(keys, at, strict=True)),
        height=height,
        class_="plot parallel many" if len(data.trials) > MANY else "plot parallel",
        role="img",
        aria_label=f"Every trial over {len(keys) - 1} parameters and the objective{winner_says(data, *keys)}",
    )
    frame = element("div", svg, class_="frame tall", style=f"min-width:{len(keys) * 5.4:.1f}rem")
    title = "All parameters at once"
    return figure(
        title,
        "One line per trial, from its parameters to the objective on the right.",
        legend(
            (f"line s{BEST - 1}", "best fifth of the trials"),
            ("line s0", "worst fifth"),
            ("line win", "winner"),
        ),
        element("div", frame, class_="scroll", tabindex=0, role="region", aria_label=title),
    )


def _upright(data: ReportData, key: str, place: float, height: int) -> Markup:
    """Return one axis of parallel coordinates; its name breaks at the last dot."""
    axis = data.axes[key]
    group, dot, name = ("", "", "objective") if key == data.objective else axis.label.rpartition(".")
    return element(
        "svg",
        element("line", y2=height),
        element("text", group + dot, y=-26, class_="over"),
        element("text", name, y=-11, class_="over"),
        *(element("text", text, x=5, y=round((1 - at) * height, 1), dy=".32em") for at, text in axis.ticks),
        x=per_cent(place),
        overflow="visible",
        class_="upright",
        data_key=key,
    )


def curves(data: ReportData) -> Markup | None:
    """Return the objective of every trial by epoch."""
    x, y = data.axes["epoch"], data.axes[data.objective]
    lines = dict.fromkeys(CLASSES, "")
    winner = ""
    for i in range(len(data.trials)):
        known = [(x.place(epoch), y.place(value)) for epoch, value in data.trials.curve(i)]
        own = line([(px, py) for px, py in known if px is not None and py is not None])
        lines[STATES[data.trials.state[i]]] += own
        winner = own if i == data.winner else winner
    if not any(lines.values()):
        return None
    marks = [
        element("path", class_="off"),
        *(
            element("path", d=d or None, class_=CLASSES[s], data_state=STATES.index(s))
            for s, d in lines.items()
        ),
        path(winner, "win"),
        element("path", class_="hot"),
    ]
    rungs = [per_cent(x.place(epoch) or 0.0) for epoch in data.rungs]
    made = plot(
        x,
        y,
        marks,
        f"Learning curves: {y.label} by epoch, a line for each trial{winner_says(data, data.objective)}",
        height=260,
        over=[element("line", x1=at, x2=at, y2="100%", class_="rung") for at in rungs],
        x_label="epoch",
        class_="curves many" if len(data.trials) > MANY else "curves",
    )
    note = f"{y.label}, {'larger' if data.larger_is_better else 'smaller'} is better."
    note += " Dashed: trials were compared and all but the best stopped." if rungs else ""
    return figure("Learning curves", note, made)


def slices(data: ReportData) -> Markup | None:
    """Return the objective by each parameter, the most important first."""
    if not data.parameters or all(v is None for v in data.trials.values[data.objective]):
        return None
    panels = [
        scatter(data, key, data.objective, x_label=_with_share(data, key), trend=True)
        for key in data.parameters
    ]
    note = f"{data.axes[data.objective].label} as trials are judged by it. The other parameters vary too."
    note += f" {MEDIANS}"
    if data.importances:
        note += (
            " In brackets: its share of the objective's variation, estimated from the trials that were run."
        )
    return figure("One parameter at a time", note, element("div", *panels, class_="panels", id="slices"))


def _with_share(data: ReportData, key: str) -> str:
    return f"{key} ({100 * data.importances[key]:.0f} %)" if key in data.importances else key


def contour(data: ReportData) -> Markup | None:
    """Return the objective over the two most important parameters, None for too few trials to average."""
    if len(data.parameters) < 2:
        return None
    x, y = data.parameters[:2]
    points = points_of(data, x, y)
    heights = {i: place_of(data, data.objective, i) for i in points}
    known = [(points[i], height) for i, height in heights.items() if height is not None]
    if len(known) < FEWEST:
        return None
    cells = field([point for point, _ in known], [height for _, height in known])
    below = tuple(element("path", d=d or None, class_=f"h{shade}") for shade, d in enumerate(cells))
    axis = data.axes[data.objective]
    note = (
        f"Colour: {axis.label}, averaged over the trials nearby; blank where there are none. The other parameters "
        "vary too."
    )
    made = scatter(data, x, y, height=300, width=WIDE, below=below, name="contour")
    return figure("Two parameters", note, _scale(axis), made)


def _scale(axis: Axis) -> Markup:
    """Return what the shades of a field mean."""
    low, high = ((f"{100 * v:.3g} %" if axis.percent else f"{v:.3g}") for v in (axis.low, axis.high))
    shades = [element("i", class_=f"h{shade}") for shade in range(SHADES)]
    bar = element("span", *shades, class_="shades", aria_hidden="true")
    return element("p", low, " ", bar, " ", high, class_="scale")


def field(points: Sequence[tuple[float, float]], values: Sequence[float]) -> list[str]:
    """Return the path of the cells of each shade, of values in [0, 1] averaged over nearby points.

    The weight of a point falls off as a Gaussian of its distance; where all weights add up to less than a half the
    cell stays blank.
    """
    reach = min(0.15, max(0.06, 0.3 * len(points) ** -0.25))  # the more trials, the less far each counts
    middles = (np.arange(CELLS) + 0.5) / CELLS
    at, of = np.array(points), np.array(values)
    wx, wy = (
        np.exp(-((middles[:, None] - at[:, k]) ** 2) / (2 * reach**2)) for k in (0, 1)
    )  # (cells, points)
    total = wy @ wx.T  # (rows from below, columns)
    mean = (wy * of) @ wx.T / np.maximum(total, 1e-9)
    shades = np.where(total < 0.5, -1, np.clip(mean * SHADES, 0, SHADES - 1).astype(int))
    size, paths = BOX / CELLS, [""] * SHADES
    for row in range(CELLS):
        ends = np.flatnonzero(np.diff(shades[row], prepend=-2, append=-2))
        for left, right in itertools.pairwise(ends):  # a run of cells of one shade
            if shades[row, left] >= 0:
                wide = (right - left) * size + 1  # no seam between two
                top = (CELLS - 1 - row) * size
                paths[shades[row, left]] += (
                    f"M{left * size:.0f} {top:.0f}h{wide:.0f}v{size + 1:.0f}h-{wide:.0f}z"
                )
    return paths


def trade_off(data: ReportData) -> Markup | None:
    """Return the objective against the second one, or against the first other validation metric."""
    others = [m for m in data.measures if m.startswith("val/") and m != data.objective]
    points = points_of(data, others[0], data.objective) if others else {}
    if not points:
        return None
    front = path(line(sorted(points[i] for i in data.pareto if i in points)), "front")
    note = f"Upright: {data.axes[data.objective].label}. Line: trials that none of the others beats in both."
    made = scatter(data, others[0], data.objective, height=260, width=WIDE, below=(front,))
    return figure(f"Trade-off with {data.axes[others[0]].label}", note, made)
