"""Figures of the search (curves, rungs, effects, importances, trade-off); None where data are missing.

Figures are made by the object interface alone: pyplot keeps every figure of the process alive. Colours are
Okabe and Ito's, told apart by colour-blind readers; states differ in shape or line style as well.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from search_spaces.domain import Choice, Domain, Float, Int
from trainables.evaluation.metrics.metric_specs import find_metric, ood_family, robust_ood_family
from tuner.analysis.metric_text import metric_label, shown_in_percent
from tuner.analysis.results import StudyResult
from tuner.analysis.trial_columns import STATE_LABELS_AT_END
from tuner.analysis.verdict import claim_metric
from tuner.base.records import State, TrialRecord

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
PANELS = 12
COLUMNS = 4
CLEAN = "val/accuracy/clean"
_STATES = (  # state, colour, marker, label
    (State.PRUNED, GREY, "x", STATE_LABELS_AT_END[State.PRUNED]),
    (State.FAIL, VERMILION, "v", STATE_LABELS_AT_END[State.FAIL]),
    (State.RUNNING, GREEN, "s", STATE_LABELS_AT_END[State.RUNNING]),
    (State.COMPLETE, BLUE, "o", STATE_LABELS_AT_END[State.COMPLETE]),
)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


# -- the search --------------------------------------------------------------------------------------------


def learning_curves(result: StudyResult) -> Figure | None:
    """Return the first objective of every search trial by epoch."""
    metric = result.plan.objectives[0].metric
    records = [r for r in result.lane("search") if any(metric in e.metrics for e in r.history.values())]
    if not records:
        return None
    figure, axes = _figure(7.4, 4.2)
    faint = 1.0 if len(records) <= 30 else max(0.15, 30 / len(records))
    for state, colour, marker, words in _STATES:
        curves = [_curve(r, metric) for r in records if r.state is state]
        if not curves:
            continue
        weak = state in (State.PRUNED, State.FAIL)
        lines = LineCollection(
            curves,
            colors=colour,
            linewidths=0.9 if weak else 1.4,
            linestyles="dotted" if state is State.FAIL else "solid",
            alpha=faint * (0.55 if weak else 0.9),
        )
        axes.add_collection(lines)
        ends = np.array([curve[-1] for curve in curves])
        axes.plot(ends[:, 0], ends[:, 1], marker, color=colour, markersize=4, alpha=max(faint, 0.3), lw=0)
        axes.plot([], [], color=colour, marker=marker, markersize=4, label=f"{words} ({len(curves)})")
    if result.best is not None and result.best in records:
        best = np.array(_curve(result.best, metric))
        axes.plot(best[:, 0], best[:, 1], color=ORANGE, lw=2.8, label=f"winner: trial {result.best.number}")
    for rung in result.plan.rungs:
        axes.axvline(rung, color=GREY, lw=0.7, ls=(0, (2, 3)), zorder=0)
    axes.set(xlabel="epoch (dotted lines: rungs)", ylabel=safe(_capital(metric_label(metric))))
    axes.set_xlim(0.6, result.plan.max_epochs + 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _robust_limits(axes, np.array([y for r in records for _, y in _curve(r, metric)]))
    percent(axes, metric)
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="lower right")
    return figure


def rung_survival(result: StudyResult) -> Figure | None:
    """Return how many search trials reached each rung, and how many went beyond it."""
    records = result.lane("search")
    steps = [*result.plan.rungs, result.plan.max_epochs]
    if not any(r.epochs for r in records):
        return None
    figure, axes = _figure(6.0, 0.9 + 0.42 * (len(steps) + 1))
    counts = [len(records), *(sum(r.epochs >= step for r in records) for step in steps)]
    labels = ["started", *(f"epoch {step}" for step in steps)]
    bars = axes.barh(labels, counts, color=[GREY] + [BLUE] * (len(steps) - 1) + [GREEN], height=0.66)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, max(counts) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trials that reached it")
    return figure


def effect(result: StudyResult, parameter: str) -> Figure | None:
    """Return one parameter against the objective and against the test metric of each OOD set."""
    domain = result.plan.lanes[0].space.get(parameter)
    records = [r for r in result.lane("search") if parameter in r.params and r.history]
    if domain is None or not records:
        return None
    objective = result.plan.objectives[0].metric
    metrics = [objective, *effect_metrics(result)[: PANELS - 1]]
    figure, panels = grid(len(metrics), height=2.25)
    for axes, metric in zip(panels, metrics, strict=True):
        tested = metric.startswith("test/")
        rows = [(r, result.tests.get(r.key, {}) if tested else r.last) for r in records]
        _scatter(
            axes, [(r, values[metric]) for r, values in rows if metric in values], parameter, domain, result
        )
        axes.set_title(safe(_panel_title(metric)), fontsize=9.5)
        percent(axes, metric)
    family = _without_set(metrics[1] if len(metrics) > 1 else objective)
    figure.supxlabel(safe(parameter), fontsize=10)
    figure.supylabel(safe(_capital(family)), fontsize=10)
    return figure


def _panel_title(metric: str) -> str:
    """Return the OOD set of a test metric, or all of its label where it has none."""
    known = find_metric(metric)
    if known.split != "test":
        return "objective (validation)"
    return known.parameter_label("set") if "set" in known.parameters else known.label


def _without_set(metric: str) -> str:
    """Return a metric's label without its OOD set."""
    known = find_metric(metric)
    return (
        known.label.removesuffix(f", {known.parameter_label('set')}")
        if "set" in known.parameters
        else known.label
    )


def effect_metrics(result: StudyResult) -> list[str]:
    """Return the test metrics of the single OOD sets: robust AUROC, else AUROC, else robust accuracies."""
    measured = [
        find_metric(name) for name in sorted({name for tests in result.tests.values() for name in tests})
    ]
    measured = [metric for metric in measured if "score" not in metric.parameters]
    claimed = find_metric(claim_metric(result.plan))
    radius = {"epsilon": claimed.parameters.get("epsilon", "")}
    robust = [m for m in measured if m.spec.name == robust_ood_family("auroc")]
    at_claim = [m for m in robust if {**m.parameters, "set": ""} == {**radius, "set": ""}]
    for metrics in (
        at_claim if claimed.spec.name == robust_ood_family("auroc") else [],
        robust,
        [m for m in measured if m.spec.name == ood_family("auroc")],
        [m for m in measured if m.spec.name == "accuracy/robust_{epsilon}"],
    ):
        single = [m.name for m in metrics if m.parameters.get("set") not in ("near", "far", "all")]
        if metrics:
            return single or [m.name for m in metrics]
    return []


def _scatter(
    axes: Axes, rows: Sequence[tuple[TrialRecord, float]], parameter: str, domain: Domain, result: StudyResult
) -> None:
    xs = np.array([_position(r.params[parameter], domain, r.number) for r, _ in rows])
    ys = np.array([y for _, y in rows], dtype=float)
    for state, colour, marker, _ in _STATES:
        chosen = np.array([r.state is state for r, _ in rows], dtype=bool)
        if chosen.any():
            size = 14 if len(rows) <= 200 else 6
            axes.scatter(xs[chosen], ys[chosen], size, color=colour, marker=marker, alpha=0.6, linewidths=0.9)
    for record, y in rows:
        if result.best is not None and record.key == result.best.key:
            x = _position(record.params[parameter], domain, record.number)
            axes.scatter([x], [y], 90, color=ORANGE, marker="*", edgecolors="black", linewidths=0.6, zorder=5)
    _robust_limits(axes, ys)
    if isinstance(domain, Choice):
        axes.set_xticks(range(len(domain.options)), [safe(str(o)) for o in domain.options], fontsize=7)
        axes.tick_params(axis="x", rotation=30 if len(domain.options) > 3 else 0)
        axes.set_xlim(-0.5, len(domain.options) - 0.5)
        return
    full = np.array([r.state is State.COMPLETE for r, _ in rows], dtype=bool)
    _median_line(axes, xs[full], ys[full], domain.log)
    _scale(axes, domain)


def _median_line(axes: Axes, xs: np.ndarray, ys: np.ndarray, log: bool) -> None:
    """Draw medians of the complete trials in bins of equal count; too few trials make no line."""
    good = np.isfinite(ys)
    xs, ys = xs[good], ys[good]
    if len(xs) < 10:
        return
    order = np.argsort(np.log(xs) if log else xs)
    parts = np.array_split(order, min(6, len(xs) // 4))
    axes.plot([np.median(xs[p]) for p in parts], [np.median(ys[p]) for p in parts], color="black", lw=1.1)


def _position(value: Any, domain: Domain, number: int) -> float:
    """Return where a value stands on the axis; categories are spread a little so that points do not hide."""
    if not isinstance(domain, Choice):
        return float(value)
    place = domain.options.index(value) if value in domain.options else len(domain.options)
    return place + ((number * 0.618) % 1 - 0.5) * 0.5


def _scale(axes: Axes, domain: Float | Int) -> None:
    if domain.log:
        axes.set_xscale("log")
        wide = math.log10(domain.high / domain.low) > 1.5
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        edge = (domain.high / domain.low) ** 0.04
        axes.set_xlim(domain.low / edge, domain.high * edge)
    else:
        edge = 0.04 * (domain.high - domain.low)
        axes.set_xlim(domain.low - edge, domain.high + edge)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=isinstance(domain, Int)))


def importances(result: StudyResult) -> Figure | None:
    """Return the share of each parameter in the objective's variation."""
    shares = {k: v for k, v in result.importances.items() if math.isfinite(v)}
    if not shares:
        return None
    names = sorted(shares, key=lambda name: -shares[name])[:PANELS]
    figure, axes = _figure(6.0, 0.8 + 0.34 * len(names))
    bars = axes.barh([safe(n) for n in names], [100 * shares[n] for n in names], color=BLUE, height=0.66)
    axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 112 * max(max(shares.values()), 1e-9))
    axes.set_xlabel("share of the objective's variation (%)")
    return figure


def pareto(result: StudyResult) -> Figure | None:
    """Return the first objective against the second one, or against clean validation accuracy."""
    objectives = result.plan.objectives
    y_metric = objectives[0].metric
    x_metric = objectives[1].metric if len(objectives) > 1 else CLEAN
    rows = [r for r in result.lane("search") if x_metric in r.last and y_metric in r.last]
    if not rows or x_metric == y_metric:
        return None
    figure, axes = _figure(6.2, 4.2)
    for state, colour, marker, words in _STATES:
        points = np.array([(r.last[x_metric], r.last[y_metric]) for r in rows if r.state is state])
        if len(points):
            axes.scatter(points[:, 0], points[:, 1], 20, c=colour, marker=marker, alpha=0.5, label=words)
    front = sorted((r.last[x_metric], r.last[y_metric]) for r in rows if r.key in set(result.pareto))
    if front:
        xs, ys = zip(*front, strict=True)
        axes.plot(xs, ys, color="black", lw=1.2, marker="D", markersize=5, mfc="none", label="Pareto front")
    if result.best is not None and result.best in rows:
        last = result.best.last
        axes.scatter(
            [last[x_metric]],
            [last[y_metric]],
            150,
            c=ORANGE,
            marker="*",
            edgecolors="black",
            zorder=5,
            label="winner",
        )
    for floor in result.plan.floors:
        known = floor.below_reference is None or floor.metric in result.reference
        if floor.metric == x_metric and known:
            bound = floor.bound(result.reference.get(floor.metric))
            axes.axvline(bound, color=VERMILION, ls="--", lw=1, label="floor")
    axes.set(xlabel=safe(_capital(metric_label(x_metric))), ylabel=safe(_capital(metric_label(y_metric))))
    _robust_limits(axes, np.array([r.last[y_metric] for r in rows]))
    _robust_limits(axes, np.array([r.last[x_metric] for r in rows]), "x")
    percent(axes, y_metric)
    percent(axes, x_metric, "x")
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none")
    return figure


# -- shared ------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def grid(n: int, height: float, columns: int = COLUMNS, width: float = 2.4) -> tuple[Figure, list[Axes]]:
    """Return a figure of n small panels."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(max(width * columns, 4.0), height * rows + 0.35), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[n:]:
        axes.set_visible(False)
    for axes in panels[:n]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, panels[:n]


def _curve(record: TrialRecord, metric: str) -> list[tuple[float, float]]:
    history = sorted(record.history.items())
    return [(float(epoch), e.metrics[metric]) for epoch, e in history if metric in e.metrics]


def _robust_limits(axes: Axes, values: np.ndarray, which: str = "y") -> None:
    """Frame the finite values; with many, one absurd trial does not squash the rest into a line."""
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if len(values) >= 50:
        low = max(low, float(np.percentile(values, 1)) - (high - float(np.median(values))))
    edge = 0.05 * (high - low) or 0.01 * max(abs(high), 0.1)
    (axes.set_ylim if which == "y" else axes.set_xlim)(low - edge, high + edge)


def percent(axes: Axes, metric: str, which: str = "y") -> None:
    """Label an axis of fractions in percent."""
    if shown_in_percent(metric):
        axis = axes.yaxis if which == "y" else axes.xaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def safe(text: str) -> str:
    """Return text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
