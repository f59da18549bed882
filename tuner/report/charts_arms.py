"""Plots of the confirm stage: arms with intervals, what controls show of the winner's lead, arms by OOD set."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tuner.analysis.control_shares import control_shares
from tuner.analysis.metric_text import (
    difference_text,
    interval_bounds,
    interval_text,
    larger_is_better,
    metric_label,
    value_text,
)
from tuner.analysis.results import ArmResult, Comparison, StudyResult
from tuner.analysis.set_metrics import families, family_label, set_label
from tuner.analysis.verdict import (
    ComparisonOutcome,
    claim_metric,
    outcome,
    paired_comparison,
    strongest,
    strongest_baseline,
)
from tuner.report.axes import Axis, span_axis
from tuner.report.blocks import Table, Text
from tuner.report.markup import Markup, element, join
from tuner.report.page import titled_table
from tuner.report.svg import anchor, apart, figure, legend, per_cent, strip

_SIGNS = {True: "▲", False: "▼", None: ""}
_ROLES = {"baseline": "baseline", "control": "control"}
_FOOT = (60, 110)  # pixels of the column of marks at its narrowest, on a phone or paper and on a wide screen
_EDGE = 0.08  # the share of that column at its ends where the text of a tick stays inside of it


def forest(result: StudyResult, metric: str) -> Markup:
    """Return every arm's mean, interval and single seeds in one metric, with the numbers beside them."""
    measured = [arm for arm in result.arms if arm.seed_interval(metric).n]
    baselines = [arm for arm in measured if arm.role == "baseline"]
    base = strongest(baselines, metric).seed_interval(metric).mean if baselines else None
    return forest_table([(_name(arm), arm, _kind(arm)) for arm in measured], metric, base)


def forest_table(named: Sequence[tuple[Markup, ArmResult, str]], metric: str, base: float | None) -> Markup:
    """Return (name, arm, class of its marks) as rows: mean, interval, single seeds.

    Args:
        named: of arms that have the metric.
        base: a value that is marked in every row.
    """
    measured = [(name, arm, kind, arm.seed_interval(metric)) for name, arm, kind in named]
    ends = [v for *_, i in measured for v in (i.mean, *interval_bounds(metric, i)) if math.isfinite(v)]
    seeds = [v for _, arm, *_ in measured for v in arm.values[metric] if math.isfinite(v)]
    axis = span_axis(metric, min(ends + seeds), max(ends + seeds), 4)
    rows = []
    for name, arm, kind, interval in measured:
        low, high = interval_bounds(metric, interval)
        marks = [
            _upright(axis, base, "base"),
            *(
                _upright(axis, v, f"seed {kind}", "72%", "94%")
                for v in arm.values[metric]
                if math.isfinite(v)
            ),
            _level(axis, low, high, f"interval {kind}"),
            element("circle", cx=_at(axis, interval.mean), cy="42%", r=5, class_=kind),
        ]
        cells = (
            element("th", name, scope="row"),
            element("td", strip(*marks), class_="strip"),
            element("td", interval_text(metric, interval)),
        )
        rows.append(element("tr", *cells, class_=kind))
    foot = element("tr", element("td"), element("td", _ticks(axis), class_="strip"), element("td"))
    better = "larger is better" if larger_is_better(metric) else "smaller is better"
    head = element(
        "tr",
        element("th", "configuration", scope="col"),
        element("th", better, scope="col", class_="strip"),
        element("th", "mean", scope="col"),
    )
    return element(
        "table",
        element("caption", metric_label(metric)),
        element("thead", head),
        element("tbody", *rows),
        element("tfoot", foot, aria_hidden="true"),
        class_="forest",
    )


def arms_in_words(result: StudyResult) -> Markup | None:
    """Return what each arm is that the winner is compared with."""
    pairs = [
        element("div", element("dt", arm.label), element("dd", arm.about))
        for arm in result.arms
        if arm.name != "best" and arm.about
    ]
    return element("dl", *pairs, class_="arms") if pairs else None


def _name(arm: ArmResult) -> Markup:
    role = _ROLES.get(arm.role, "")
    return join([arm.label, element("small", role) if role and arm.name != "best" else None])


def _kind(arm: ArmResult) -> str:
    return "winner" if arm.name == "best" else _ROLES.get(arm.role, "control")


def _at(axis: Axis, value: float) -> str:
    return per_cent(axis.place(value) or 0.0)


def _ticks(axis: Axis) -> Markup:
    """Return the texts of the ticks; those that only a wide screen has room for have a class of their own."""
    shown = apart(axis, _FOOT[1], _EDGE)
    few = apart(replace(axis, ticks=tuple(shown)), _FOOT[0], _EDGE)
    texts = []
    for place, text in shown:
        kinds = [kind for kind in (anchor(place, _EDGE), None if (place, text) in few else "more") if kind]
        texts.append(element("text", text, x=per_cent(place), y=12, class_=" ".join(kinds) or None))
    return strip(*texts, height=16)


def _upright(
    axis: Axis, value: float | None, class_: str, top: str = "0", bottom: str = "100%"
) -> Markup | None:
    if value is None:
        return None
    return element("line", x1=_at(axis, value), x2=_at(axis, value), y1=top, y2=bottom, class_=class_)


def _level(axis: Axis, low: float, high: float, class_: str, y: str = "42%") -> Markup | None:
    if not math.isfinite(low + high):
        return None
    return element("line", x1=_at(axis, low), x2=_at(axis, high), y1=y, y2=y, class_=class_)


# -- controls ----------------------------------------------------------------------------------------------


def decomposition(result: StudyResult) -> tuple[Markup, Table] | None:
    """Return for each control how far it is from the baseline, and the winner from it; as a plot and as a table."""
    shares, metric = control_shares(result), claim_metric(result.plan)
    winner = result.arm("best")
    if not shares or winner is None:
        return None
    first, last = shares[0].baseline.seed_interval(metric).mean, winner.seed_interval(metric).mean
    middles = [share.control.seed_interval(metric).mean for share in shares]
    axis = span_axis(metric, min(first, last, *middles), max(first, last, *middles), 4)
    baseline = shares[0].baseline.label
    header = ("control", "", f"control minus {baseline}", "winner minus control")
    rows, texts = [], []
    for share, middle in zip(shares, middles, strict=True):
        marks = [
            _bar(axis, first, middle, "shown", "22%"),
            _bar(axis, middle, last, "beyond", "56%"),
            _upright(axis, first, "base"),
            _upright(axis, last, "end"),
        ]
        shown, beyond = difference_text(metric, share.shown), difference_text(metric, share.beyond)
        cells = (
            element("th", share.control.label, element("small", share.control.about), scope="row"),
            element("td", strip(*marks, height=34), class_="strip"),
            element("td", shown, data_name=header[2]),
            element("td", beyond, class_="beyond", data_name=header[3]),
        )
        rows.append(element("tr", *cells))
        texts.append((share.control.label, share.control.about, shown, beyond))
    ends = (
        f"{baseline} {value_text(metric, first)}",
        f"winner {value_text(metric, last)}",
    )
    table = element(
        "table",
        element(
            "thead",
            element("tr", *(element("th", text, scope="col") if text else element("td") for text in header)),
        ),
        element("tbody", *rows),
        element(
            "tfoot",
            element("tr", element("td"), element("td", _ticks(axis), class_="strip")),
            aria_hidden="true",
        ),
        class_="forest parts",
    )
    note = (
        f"{metric_label(metric)}: from {ends[0]} to {ends[1]}. Upper bar: how far the control alone gets; lower bar: "
        "what is left to the winner. Paired differences over the same seeds with 95 % intervals; points are "
        "percentage points."
    )
    words = Table(
        ("control", "what it is", header[2], header[3]),
        texts,
        words=frozenset({0, 1}),
        title=f"From {ends[0]} to {ends[1]} in {metric_label(metric)}",
    )
    return figure("What the controls show of the winner's lead", note, table), words


def _bar(axis: Axis, start: float, end: float, class_: str, y: str) -> Markup | None:
    low, high = sorted((axis.place(start) or 0.0, axis.place(end) or 0.0))
    return element("rect", x=per_cent(low), width=per_cent(high - low), y=y, height="22%", class_=class_)


# -- comparisons -------------------------------------------------------------------------------------------


def differences(result: StudyResult, metrics: Sequence[str]) -> Table | None:
    """Return the winner minus each arm in every metric, paired by seed, with a sign where a difference is shown."""
    winner = result.arm("best")
    others = [arm for arm in result.arms if arm.name != "best"]
    if winner is None or not others:
        return None
    rows = []
    for arm in others:
        cells = [arm.label]
        for metric in metrics:
            comparison = paired_comparison(winner, arm, metric)
            reading = outcome(comparison)
            sign = _SIGNS[True if reading.better else False if reading is ComparisonOutcome.WORSE else None]
            text = (
                difference_text(metric, comparison.difference).removesuffix(" points") if comparison else "-"
            )
            cells.append(f"{sign} {text}".strip())
        rows.append(cells)
    return Table(
        ("winner minus", *map(metric_label, metrics)), rows, title="Paired differences, in percentage points"
    )


DIFFERENCES = Text(
    "Paired by seed: same initial network, same data order. ▲ the winner is better: the 95 % interval of the "
    "difference excludes 0; ▼ worse; without a sign no difference is shown. The verdict rests on the first metric "
    "alone, named beforehand; the others are shown without a correction for looking at several.",
    "note",
)


# -- by set ------------------------------------------------------------------------------------------------


_STRENGTHS = 3  # shades of a heat map on each side


def heat_maps(result: StudyResult) -> list[tuple[Markup, Table]]:
    """Return arms by OOD set (corruption, radius), the claim's kind of metric first; as coloured tables."""
    names = [name for arm in result.arms for name in arm.values]
    return [_heat_map(result, metrics) for metrics in families(result, names) if len(metrics) > 1]


def heat_legend(result: StudyResult) -> Markup | None:
    """Return what the colours of the heat maps mean, and Markdown's words for it."""
    baseline = strongest_baseline(result)
    if baseline is None:
        return None
    return legend(
        ("block b1", f"better than {baseline.label} on the same set"),
        ("block b3", "much better"),
        ("block w1", "worse"),
        ("block w3", "much worse"),
    )


def _heat_map(result: StudyResult, metrics: Sequence[str]) -> tuple[Markup, Table]:
    """Return the table; a cell has a colour where its paired difference to the baseline excludes 0."""
    baseline, title = strongest_baseline(result), family_label(metrics[0])
    compared = {
        (arm.name, m): paired_comparison(arm, baseline, m) for arm in result.arms for m in metrics if baseline
    }
    largest = max((abs(c.difference.mean) for c in compared.values() if c and c.difference.n), default=0.0)
    rows, texts = [], []
    for arm in result.arms:
        intervals = [arm.seed_interval(m) for m in metrics]
        words = [interval_text(m, i) for m, i in zip(metrics, intervals, strict=True)]
        cells = [
            element(
                "td",
                value_text(m, i.mean),
                element("small", text.partition(" ")[2].removesuffix(" %"))
                if math.isfinite(i.half)
                else None,
                class_=_shade(compared.get((arm.name, m)), largest),
            )
            for m, i, text in zip(metrics, intervals, words, strict=True)
        ]
        rows.append(element("tr", element("th", arm.label, scope="row"), *cells, class_=_kind(arm)))
        texts.append([arm.label, *words])
    labels = [set_label(m) for m in metrics]
    head = element("tr", *(element("th", t, scope="col") for t in ("configuration", *labels)))
    table = Table(("configuration", *labels), texts, title=title)
    size = [table.header, ("", *("(99.0–100.0)" for _ in labels))]
    return titled_table(title, [element("thead", head), element("tbody", *rows)], size, class_="heat"), table


def _shade(comparison: Comparison | None, largest: float) -> str | None:
    """Return the class of a cell: b1 to b3 for better, w1 to w3 for worse, None where no difference is shown."""
    reading = outcome(comparison)
    if comparison is None or not (reading.better or reading is ComparisonOutcome.WORSE):
        return None
    strength = min(_STRENGTHS, 1 + int(_STRENGTHS * abs(comparison.difference.mean) / largest))
    return f"{'b' if reading.better else 'w'}{strength}"
