"""Parts of plots as SVG that fits any width: text and dots keep their size, lines stretch with the page.

A plot is as wide as its place. Texts stand at per cents of the width; curves and dots are paths in an inner box of
1000 by 1000 units that is stretched, drawn with strokes that are not (a dot is a line without length and round ends).
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tuner.report.axes import Axis
from tuner.report.markup import Markup, element

BOX = 1000
LETTER = 7.5  # width of a character of the tick texts in a wide font, in pixels
GAP = 4.0  # between two texts, in pixels
#: pixels of the level axis where the page is at its narrowest: of small panels, of panels, of other plots
NARROW, MIDDLE, WIDE = 96, 157, 232
ROWS = 3  # of the options of a choice below the level axis, at most
OVER = 24  # pixels that the text of an option may reach over either end of the level axis
Points = Sequence[tuple[float, float]]  # places in [0, 1], from the lower left


def per_cent(place: float) -> str:
    return f"{100 * place:.4g}%"


def dots(points: Iterable[tuple[float, float]]) -> str:
    """Return the path of dots."""
    return "".join(f"M{BOX * x:.0f} {BOX * (1 - y):.0f}h0" for x, y in points)


def line(points: Points) -> str:
    """Return the path of a line through points; one point is a dash."""
    if len(points) == 1:
        return f"{dots(points)[:-1]}14"
    return "M" + " ".join(f"{BOX * x:.0f} {BOX * (1 - y):.0f}" for x, y in points) if points else ""


def steps(points: Points) -> str:
    """Return the path of a line that stays level until the next point."""
    if not points:
        return ""
    first, *rest = points
    more = "".join(f"H{BOX * x:.0f}V{BOX * (1 - y):.0f}" for x, y in rest)
    return f"M{BOX * first[0]:.0f} {BOX * (1 - first[1]):.0f}{more}"


def path(d: str, class_: str) -> Markup | None:
    return element("path", d=d, class_=class_) if d else None


def plot(
    x: Axis,
    y: Axis,
    marks: Sequence[Markup | None],
    says: str,
    *,
    height: int,
    over: Sequence[Markup | None] = (),
    x_label: str = "",
    width: int = WIDE,
    class_: str = "",
    **data: object,
) -> Markup:
    """Return a plot with its axes.

    Args:
        marks: paths in the inner box.
        says: what it shows, for who does not see it.
        over: circles and texts at per cents of the whole plot.
        width: in pixels where the page is at its narrowest; ticks whose texts would collide there are left out.
        data: attributes of the SVG, for the script.
    """
    rows = max(rows_of(x, width), 2 if x_label else 1)
    svg = element(
        "svg",
        element("g", *y_ticks(y, height), class_="yt"),
        element("g", *x_ticks(x, height, width), class_="xt"),
        element("text", x_label, x="50%", y=height + 15 + 12 * rows, class_="xl") if x_label else None,
        inner_box(marks),
        *over,
        height=height,
        class_=f"plot {class_}".strip(),
        role="img",
        aria_label=says,
        data_width=width,
        **data,
    )
    kind = "frame named" if x_label else "frame"
    return element("div", svg, class_=kind if y.ticks else f"{kind} bare", style=f"--rows:{rows}")


def inner_box(marks: Sequence[Markup | None]) -> Markup:
    """Return the stretched box of BOX by BOX units with its paths."""
    return element(
        "svg",
        *marks,
        viewBox=f"0 0 {BOX} {BOX}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        overflow="visible",
        class_="inner",
    )


def y_ticks(axis: Axis, height: int) -> list[Markup]:
    """Return a grid line and a text at each tick of the upright axis."""
    made = []
    for place, text in axis.ticks:
        at = round((1 - place) * height, 1)
        made.append(element("line", x2="100%", y1=at, y2=at))
        made.append(element("text", text, x=-7, y=at, dy=".32em"))
    return made


def x_ticks(axis: Axis, height: int, width: int) -> list[Markup]:
    """Return a text below each tick of the level axis; the options of a choice stand in rows if need be."""
    if axis.options:
        return [
            element("text", text, x=per_cent(place), y=height + 15 + 12 * row)
            for place, text, row in option_texts(axis, width)
        ]
    return [
        element("text", text, x=per_cent(place), y=height + 15, class_=anchor(place))
        for place, text in apart(axis, width)
    ]


def apart(axis: Axis, width: int, edge: float = 0.03) -> list[tuple[float, str]]:
    """Return every tick, or every second, third...: the most whose texts do not collide on so many pixels.

    Args:
        edge: the share of the axis at its ends where a text stays inside of it.
    """
    for step in range(1, len(axis.ticks)):
        shown = axis.ticks[::step]
        ends = [text_ends(place, text, width, anchor(place, edge)) for place, text in shown]
        if all(right + GAP <= left for (_, right), (left, _) in pairwise(ends)):
            return list(shown)
    return list(axis.ticks[:1])


def text_ends(place: float, text: str, width: int, held: str | None = None) -> tuple[float, float]:
    """Return where the text of a tick begins and ends, in pixels from the low end of an axis of `width` pixels."""
    long = LETTER * len(text)
    left = place * width - {"first": 0.0, "last": long}.get(held or "", long / 2)
    return left, left + long


def rows_of(axis: Axis, width: int) -> int:
    """Return in how many rows the texts of the ticks stand on so many pixels."""
    if not axis.options:
        return 1
    long = max(len(text) for _, text in axis.ticks) * LETTER + GAP
    return next((rows for rows in range(1, ROWS) if long <= rows * width / len(axis.ticks)), ROWS)


def option_texts(axis: Axis, width: int) -> list[tuple[float, str, int]]:
    """Return (place, text, row) of the options of a choice; a text that would reach into the next one is cut off."""
    rows = rows_of(axis, width)
    made = []
    for i, (place, text) in enumerate(axis.ticks):
        room = min(rows * width / len(axis.ticks) - GAP, 2 * (min(place, 1 - place) * width + OVER))
        most = max(1, int(room / LETTER))
        made.append((place, text if len(text) <= most else f"{text[: most - 1]}…", i % rows))
    return made


def anchor(place: float, edge: float = 0.03) -> str | None:
    """Return where a tick's text is held; those at the ends of the axis stay inside of it."""
    return "first" if place < edge else "last" if place > 1 - edge else None


def ring(x: float, y: float, title: str) -> Markup:
    """Return the mark of the winner."""
    return element("circle", element("title", title), cx=per_cent(x), cy=per_cent(1 - y), r=6, class_="ring")


def strip(*marks: Markup | None, height: int = 28) -> Markup:
    """Return a plot of one row, without axes; the numbers stand beside it as text."""
    return element("svg", *marks, height=height, class_="strip", aria_hidden="true")


def figure(title: str, note: str, *inside: Markup | None, class_: str = "") -> Markup:
    """Return a titled figure; the note says how it is read."""
    caption = element("figcaption", element("strong", title), element("span", note) if note else None)
    return element("figure", caption, *inside, class_=class_ or None)


COLOURS = 6  # of lines; the next ones are the same, dashed


def line_class(i: int) -> str:
    """Return the class of the i-th line of a plot of several."""
    return f"run{i % COLOURS}{' more' if i >= COLOURS else ''}"


def legend(*entries: tuple[str, str]) -> Markup:
    """Return the meaning of marks: (class, words)."""
    return element(
        "ul", *(element("li", words, class_=f"key {name}") for name, words in entries), class_="legend"
    )
