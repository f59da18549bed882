"""The report's section on methods that were tuned alike: a heat map of metrics with ranks and ties, and the cost."""

import math
from collections.abc import Mapping, Sequence

from tuner.analysis.method_ranks import LEVEL, Rank, method_label, methods, ranks
from tuner.analysis.metric_text import duration, interval_text, larger_is_better, metric_label, value_text
from tuner.analysis.results import ArmResult, StudyResult
from tuner.analysis.verdict import measured_headline
from tuner.base.text import counted
from tuner.report.blocks import Block, Figure, Heading, Table, Text
from tuner.report.markup import Markup, element
from tuner.report.page import titled_table
from tuner.report.svg import legend
from tuner.search.budget import Usage

_STRENGTHS = 3  # shades on each side


def methods_compared(result: StudyResult) -> list[Block]:
    """Return methods by headline metric with ranks, and what tuning and training each cost; [] for fewer than three."""
    arms, metrics = methods(result), measured_headline(result)
    if not arms or not metrics:
        return []
    sign = 1 if larger_is_better(metrics[0]) else -1
    ordered = sorted(arms, key=lambda arm: _order(sign * arm.seed_interval(metrics[0]).mean))
    found = {metric: ranks(arms, metric) for metric in metrics}
    pairs = len(arms) * (len(arms) - 1) // 2
    note = (
        f"Rank: two methods differ where a t-test paired by seed tells them apart, at {100 * LEVEL:.0f} % for all "
        f'{pairs} pairs of a metric together (Holm); "2–4" are ranks that stay open. Colour: methods beaten minus '
        "methods that beat it, none where it cannot be told from any. Sorted by the mean in the first metric."
    )
    key = legend(
        ("block b1", "ahead of some of the others"),
        ("block b3", "ahead of all or nearly all"),
        ("block w1", "behind some"),
        ("block w3", "behind all or nearly all"),
    )
    return [
        Heading("Methods compared", "methods", "Methods"),
        Text(_leaders(result, metrics, found)),
        Figure(*_heat_map(result, ordered, metrics, found)),
        Figure(key),
        Text(note, "note"),
        _costs(result, ordered),
    ]


def _order(cost: float) -> tuple[bool, float]:
    return math.isnan(cost), -cost


def _leaders(result: StudyResult, metrics: Sequence[str], found: Mapping[str, Mapping[str, Rank]]) -> str:
    """Return who leads in each metric: the methods that no other is shown to beat."""
    parts = []
    for metric in metrics:
        leading = [
            arm for arm in methods(result) if arm.name in found[metric] and not found[metric][arm.name].worse
        ]
        names = ", ".join(method_label(result.plan, arm) for arm in leading)
        tied = (
            ""
            if len(leading) == 1
            else f" ({counted(len(leading), 'method')} that no other is shown to beat)"
        )
        parts.append(f"{metric_label(metric)}: {names}{tied}")
    return f"First, by metric. {'; '.join(parts)}."


def _heat_map(
    result: StudyResult,
    arms: Sequence[ArmResult],
    metrics: Sequence[str],
    found: Mapping[str, Mapping[str, Rank]],
) -> tuple[Markup, Table]:
    rows, texts = [], []
    for arm in arms:
        label = method_label(result.plan, arm)
        cells, words = [], []
        for metric in metrics:
            own, rank = arm.seed_interval(metric), found[metric].get(arm.name)
            if rank is None:
                cells.append(element("td", "-"))
                words.append("-")
                continue
            cells.append(
                element(
                    "td", value_text(metric, own.mean), element("small", f"rank {rank}"), class_=_shade(rank)
                )
            )
            words.append(f"{interval_text(metric, own)}, rank {rank}")
        kind = "winner" if arm.name == "best" else None
        rows.append(element("tr", element("th", label, scope="row"), *cells, class_=kind))
        texts.append([label, *words])
    header = ("method", *map(metric_label, metrics))
    head = element("tr", *(element("th", text, scope="col") for text in header))
    title = "Means over the fresh seeds, and ranks"
    size = [header, ("", *("rank 10–11" for _ in metrics))]
    shown = titled_table(title, [element("thead", head), element("tbody", *rows)], size, class_="heat")
    return shown, Table(header, texts, title=title)


def _shade(rank: Rank) -> str | None:
    """Return b1 to b3 for a method that beats more than beat it, w1 to w3 for the reverse, None for neither."""
    if not rank.net:
        return None
    strength = min(_STRENGTHS, math.ceil(_STRENGTHS * abs(rank.net)))
    return f"{'b' if rank.net > 0 else 'w'}{strength}"


def _costs(result: StudyResult, arms: Sequence[ArmResult]) -> Table:
    """Return what tuning each method and training it once cost."""
    rows = []
    for arm in arms:
        records = result.lane("search" if arm.name == "best" else arm.name)
        used = Usage.of(records)
        rows.append(
            (
                method_label(result.plan, arm),
                duration(arm.seconds),
                str(len(records)),
                str(used.epochs),
                duration(used.seconds),
                f"{used.gpu_seconds:.0f}",
                f"{used.cpu_seconds:.0f}",
            )
        )
    header = (
        *("method", "one training", "trials of its search", "epochs", "time of its search"),
        *("GPU-seconds", "CPU-seconds"),
    )
    return Table(header, rows, title="What tuning and training cost")
