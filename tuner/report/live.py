"""What stands above the report of a watched run: how it stands, and how old that is; `live.js` keeps it up to date."""

from collections.abc import Sequence

from tuner.report.markup import Markup, element
from tuner.report.page import inline


def live_box(state: str, lines: Sequence[str], running: Sequence[str], *, moves: bool, tag: str) -> Markup:
    """Return the box of a run's state.

    Args:
        state: in words.
        lines: what is known of trials, the best and the time left; `code` between backticks.
        running: a line for each trial that has begun and not ended.
        moves: whether a driver works on the run.
        tag: of what the page shows, as its server knows it.
    """
    begun = element(
        "details",
        element("summary", f"Trials that have begun and not ended: {len(running)}"),
        element("ul", *(element("li", line) for line in running)),
    )
    return element(
        "aside",
        element(
            "p", element("span", state, class_="state"), " · looked up ", element("span", "now", id="age")
        ),
        *(element("p", inline(line)) for line in lines),
        begun if running else None,
        element("p", id="news", role="status"),
        element("p", id="trouble", role="alert", hidden=True),
        id="live",
        class_="live" if moves else "live still",
        aria_label="State of the run",
        data_tag=tag,
    )
