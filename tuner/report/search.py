"""The report's sections on the search: ranges, explore, trials, validation against test, efficiency, failures."""

import re
from collections import Counter
from collections.abc import Sequence

from search_spaces.domain import Choice
from tuner.analysis.metric_text import floor_text, metric_label, setting_text, value_text
from tuner.analysis.ranking import ranking, regret_text
from tuner.analysis.results import StudyResult
from tuner.analysis.selection import ranked
from tuner.analysis.trial_columns import STATE_LABELS_AT_END, TrialRow, TrialTable, columns_of
from tuner.analysis.verdict import claim_metric, headline
from tuner.base.records import State, TrialRecord
from tuner.base.text import counted
from tuner.report import charts_explore as explore_charts
from tuner.report import charts_search as charts
from tuner.report.blocks import Block, Figure, Heading, Table, Text, Words
from tuner.report.data import ReportData, shown_trials
from tuner.report.markup import Markup, breaking, element, join
from tuner.report.page import block_markup
from tuner.report.svg import BOX, figure, per_cent, strip
from tuner.search.budget import Usage
from tuner.store import warm_start

MOST_FRONT = 200  # rows of the table of the Pareto front
BEST_ROWS = 10  # of Markdown's table of the best trials


def ranges(result: StudyResult, data: ReportData) -> list[Block]:
    """Return what was searched: the range of each parameter, where the trials lie in it, and the winner's value."""
    space = result.plan.lanes[0].space
    if not space or not data.trials.number:
        return []
    shades = explore_charts.shades_of(data)
    rows, texts = [], []
    for key in data.parameters:
        best = result.best.params.get(key) if result.best else None
        value = "-" if best is None else setting_text(best)
        share = f"{100 * data.importances[key]:.0f} %" if key in data.importances else "-"
        domain = space[key]
        if isinstance(domain, Choice):
            plot, low, high = _options(data, key, None if best is None else str(best)), "", ""
            span = ", ".join(map(str, domain.options))
        else:
            low, high = setting_text(domain.low), setting_text(domain.high)
            span = f"{low} to {high}{', logarithmic' if domain.log else ''}"
            plot = _range(data, key, shades, best)
        middle = element("td", element("span", low), plot, element("span", high), class_="range")
        rows.append(
            element(
                "tr",
                element("th", breaking(key), scope="row"),
                middle,
                element("td", value),
                element("td", share),
            )
        )
        texts.append((f"`{key}`", span, value, share))
    header = ("parameter", "range", "winner", "importance")
    head = element("tr", *(element("th", text, scope="col") for text in header))
    made = element("table", element("thead", head), element("tbody", *rows), class_="forest ranges")
    note = (
        "A line for each trial, dark for the best fifth of them; the ring is the winner. Importance: share of the "
        "objective's variation that a parameter accounts for, estimated from the trials that were run: a hint where to "
        "look, not a test."
    )
    table = Table(header, texts, words=frozenset({0, 1}))
    shown = join([made, block_markup(Text(note, "note"))])
    return [Heading("Ranges searched", "ranges", "Ranges"), Figure(shown, table)]


def _range(data: ReportData, key: str, shades: Sequence[int | None], best: object) -> Markup:
    axis = data.axes[key]
    places = [axis.place(v) for v in data.trials.values[key]]
    dark = explore_charts.BEST - 1
    paths = {
        kind: "".join(
            f"M{BOX * p:.0f} 0V{BOX}"
            for p, shade in zip(places, shades, strict=True)
            if p is not None and (shade == dark) == (kind == "top")
        )
        for kind in ("all", "top")
    }
    inner = element(
        "svg",
        *(element("path", d=d, class_=kind) for kind, d in paths.items() if d),
        viewBox=f"0 0 {BOX} {BOX}",
        preserveAspectRatio="none",
        width="100%",
        height="60%",
        y="20%",
    )
    at = axis.place(best)
    ring = element("circle", cx=per_cent(at), cy="50%", r=6, class_="ring") if at is not None else None
    return strip(element("rect", width="100%", height="60%", y="20%", class_="span"), inner, ring)


def _options(data: ReportData, key: str, best: str | None) -> Markup:
    """Return each option with how many trials had it."""
    counts = Counter(data.trials.values[key])
    made = [
        element(
            "li", option, element("small", f"{counts[option]}"), class_="chosen" if option == best else None
        )
        for option in data.axes[key].options
    ]
    return element("ul", *made, class_="options")


# -- explore -----------------------------------------------------------------------------------------------


def explore(result: StudyResult, data: ReportData) -> list[Block]:
    """Return the trials by all parameters, by epoch, by one and by two parameters, and what they trade off."""
    made = [
        explore_charts.parallel(data),
        explore_charts.curves(data),
        explore_charts.contour(data),
        explore_charts.slices(data),
        explore_charts.trade_off(data),
    ]
    figures = [figure for figure in made if figure is not None]
    if not figures:
        return []
    blocks: list[Block] = [
        Heading("Explore the trials", "explore", "Explore"),
        Figure(element("div", id="filters", hidden=True)),
        Figure(explore_charts.state_legend(data)),
        *map(Figure, figures[:1]),
        Figure(
            element("div", *figures[1:], class_="pair"),
            Text("The plots of the trials are in report.html.", "note"),
        ),
    ]
    if result.pareto and len(result.plan.objectives) > 1:
        known = {r.key: r for r in result.records}
        front = [known[key] for key in result.pareto if key in known][:MOST_FRONT]
        blocks.append(trial_table(result, front, f"The Pareto front: {counted(len(front), 'trial')}"))
    return blocks + effects(result, data)


def effects(result: StudyResult, data: ReportData) -> list[Block]:
    """Return the effect of each parameter the study asks about on each OOD set."""
    made = [charts.effect(data, parameter) for parameter in data.effects]
    return [Figure(figure) for figure in made if figure is not None]


def trials(result: StudyResult, data: ReportData) -> list[Block]:
    """Return the table of all trials; in Markdown, the best of them."""
    records, plan = result.lane("search"), result.plan
    if not records or (plan.trains_one and all(r.state is State.COMPLETE for r in records)):
        return []
    shown = shown_trials(result)
    place = {r.key: i for i, r in enumerate(shown)}
    listed = sorted(
        ranked(shown, plan.objectives[0]),
        key=lambda r: (r.state is not State.COMPLETE, r.key not in result.feasible),
    )
    top = [r for r in listed if r.state is State.COMPLETE][:BEST_ROWS]
    words = trial_table(result, top or listed[:BEST_ROWS], f"The best{' complete' if top else ''} trials")
    title = "All trials" if len(shown) == len(records) else f"{len(shown)} of the trials"
    counts = ", ".join(
        f"{result.count('search', state)} {label}"
        for state, label in STATE_LABELS_AT_END.items()
        if result.count("search", state)
    )
    floors = "; ".join(floor_text(floor, result.reference) for floor in plan.floors)
    return [
        Heading("Trials", "trials"),
        Text(f"{len(records)} of {plan.trials} trials: {counts}.{f' Floor: {floors}.' if floors else ''}"),
        *(Text(f"{line[0].upper()}{line[1:]}.") for line in warm_start.lines(plan)),
        Figure(block_markup(trial_table(result, listed, title, place)), words),
        Text("Every trial with all of its metrics is in trials.csv.", "note"),
        *failures(result),
    ]


def trial_table(
    result: StudyResult, records: Sequence[TrialRecord], title: str, place: dict[str, int] | None = None
) -> Table:
    """Return trials as rows: columns of `trial_columns`, objectives, floors, the claim's test metric, parameters.

    Args:
        place: of a trial in report.json, by its key; then the page's script sorts and filters the table.
    """
    plan, kind = result.plan, TrialTable.REPORT
    validated = list(dict.fromkeys([o.metric for o in plan.objectives] + [f.metric for f in plan.floors]))
    tested = [m for m in headline(plan)[:1] if any(m in result.tests.get(r.key, {}) for r in records)]
    params = list(plan.lanes[0].space)
    first, last = columns_of(kind), columns_of(kind, at_end=True)
    header = [column.headings[kind] for column in first]
    header += [metric_label(m) for m in validated] + [f"test: {metric_label(m)}" for m in tested]
    header += [f"`{p}`" for p in params] + [column.headings[kind] for column in last]
    keys = [*("" for _ in first), *validated, *tested, *params, *("" for _ in last)]
    rows = []
    for record in records:
        row = TrialRow(record, record.key in result.feasible)
        tests = result.tests.get(record.key, {})
        cells = [column.cell(row, kind) for column in first]
        cells += [value_text(m, record.judged.get(m)) for m in validated] + [
            value_text(m, tests.get(m)) for m in tested
        ]
        cells += [setting_text(record.params[p]) if p in record.params else "" for p in params]
        rows.append([*cells, *(column.cell(row, kind) for column in last)])
    words = {i for i, column in enumerate(first) if column.words} | {0}
    words |= {keys.index(p) for p in params if isinstance(plan.lanes[0].space[p], Choice)}
    words |= {len(header) - len(last) + i for i, column in enumerate(last) if column.words}
    return Table(
        header,
        rows,
        frozenset(i for i, r in enumerate(records) if result.best is not None and r.key == result.best.key),
        frozenset(words),
        title,
        "all-trials" if place is not None else "",
        [place[r.key] for r in records] if place is not None else (),
        keys,
    )


def failures(result: StudyResult) -> list[Block]:
    """Return how often each reason of failure occurred, whatever the epoch that it names."""
    failed = [r for r in result.records if r.state is State.FAIL]
    if not failed:
        return []
    reasons = Counter(map(_reason, failed))
    first = {_reason(r): r.key for r in reversed(failed)}
    rows = [(reason, first[reason], str(n)) for reason, n in reasons.most_common(20)]
    return [Heading("Failures"), Table(("reason", "first trial", "trials"), rows, words=frozenset({0, 1}))]


def _reason(record: TrialRecord) -> str:
    return re.sub(r"epoch \d+", "epoch …", " ".join(record.reason.split())) or "unknown"


# -- the search as a whole ---------------------------------------------------------------------------------


def validation_and_test(result: StudyResult, data: ReportData) -> list[Block]:
    """Return the objective, which chose the winner, against the claim's metric on test data."""
    found = ranking(result)
    agree = ""
    if found.correlation == found.correlation:
        agree = (
            f"Rank correlation {found.text} over {counted(found.n, 'trial')}. {regret_text(result, found)} "
        )
    note = (
        f"{agree}Level: {data.axes[data.objective].label}, by which the winner was chosen; upright: the claim's metric "
        "on test data, measured after the search; bar: 95 % interval of the winner with fresh seeds."
    )
    made = charts.agreement(data, note)
    if made is None:
        return []
    words = Text(f"{metric_label(claim_metric(result.plan))}: {agree or 'no rank correlation'}".strip())
    return [Heading("Validation against test", "validation", "Validation"), Figure(made, words)]


def efficiency(result: StudyResult, data: ReportData) -> list[Block]:
    """Return how the best trial was found over the search, and what early stopping saved."""
    records = result.lane("search")
    if result.plan.trains_one or not any(r.epochs for r in records):
        return []
    reached = [("started", len(records))]
    reached += [
        (f"epoch {step}", sum(r.epochs >= step for r in records)) for step in (*data.rungs, data.max_epochs)
    ]
    used, full = Usage.of(records).epochs, len(records) * data.max_epochs
    saved = (
        f"{counted(used, 'epoch')} trained; without early stopping it would have been {full}: "
        f"{100 * (1 - used / full):.0f} % saved."
    )
    bars = [
        element(
            "tr",
            element("th", label, scope="row"),
            element(
                "td",
                strip(element("rect", width=per_cent(n / len(records)), height="100%", class_="span")),
                class_="strip",
            ),
            element("td", str(n)),
        )
        for label, n in reached
    ]
    head = element(
        "tr", element("th", "trained to", scope="col"), element("td"), element("th", "trials", scope="col")
    )
    table = element("table", element("thead", head), element("tbody", *bars), class_="forest bars")
    made = [charts.progress(data), figure("Early stopping", saved, table)]
    words = Table(("trained to", "trials"), [(label, str(n)) for label, n in reached])
    pair = element("div", *(m for m in made if m is not None), class_="pair")
    return [Heading("Search efficiency", "efficiency", "Search"), Figure(pair, words), Words(Text(saved))]
