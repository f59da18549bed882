"""The page of several runs side by side: who leads, arms, paired differences, searches, plans; files of it."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tuner.analysis.comparison import (
    Difference,
    Entry,
    compared_metrics,
    difference,
    entries_of,
    plan_differences,
)
from tuner.analysis.metric_text import difference_text, duration, interval_text, metric_label, setting_text
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import ComparisonOutcome, outcome, verdict
from tuner.base.records import State
from tuner.base.text import counted
from tuner.report.blocks import Block, Figure, Heading, Table, Text
from tuner.report.charts_compare import best_so_far, forest_of_runs, ranges, seeds_text
from tuner.report.markdown import to_markdown
from tuner.report.markup import element
from tuner.report.page import to_page
from tuner.search.budget import Usage

FORMAT = 1
_SIGNS = {ComparisonOutcome.SEPARATED: "▲ ", ComparisonOutcome.PAIRED: "▲ ", ComparisonOutcome.WORSE: "▼ "}


class RunComparison:
    """Several runs of one data set; the first is what the others are compared with.

    Attributes:
        entries: the arms of all runs; the winner's one training of a run without a confirm stage.
        metrics: headline metrics of any of the runs that at least two have measured, the first run's first.
        differences: each entry minus the entry of the same name in the first run, metric by metric.
    """

    def __init__(self, results: Sequence[StudyResult]) -> None:
        self.results = results
        self.entries: list[Entry] = [entry for result in results for entry in entries_of(result)]
        self.metrics = compared_metrics(results, self.entries)
        self.differences = self._differences()

    @property
    def names(self) -> list[str]:
        return [result.plan.run_name for result in self.results]

    def _differences(self) -> list[list[Difference]]:
        first = {e.arm.name: e for e in self.entries if e.run == self.names[0]}
        pairs = [
            (e, first[e.arm.name]) for e in self.entries if e.run != self.names[0] and e.arm.name in first
        ]
        pairs.sort(key=lambda pair: pair[0].arm.name != "best")
        return [[difference(*pair, metric) for metric in self.metrics] for pair in pairs]

    def sentences(self) -> list[str]:
        """Return in words how each run's winner stands to the first run's, in the first metric, and what is odd."""
        if not self.metrics:
            return [
                "Nothing was measured on test data in two of the runs, so only searches and plans are compared."
            ]
        own = [row[0] for row in self.differences if row[0].ours.arm.name == "best"]
        return [*map(difference_sentence, own), *self._unconfirmed()]

    def _unconfirmed(self) -> list[str]:
        runs = [e.run for e in self.entries if not e.confirmed]
        return [
            f"`{run}` has no confirm stage: its winner is the best of many with one seed, which flatters it."
            for run in dict.fromkeys(runs)
        ]

    def obstacles(self) -> list[str]:
        """Return what cannot be compared and why, each reason once with the metrics that it concerns."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for one in (d for row in self.differences for d in row if d.obstacle):
            found.setdefault((one.ours.run, one.obstacle), {})[metric_label(one.metric)] = None
        return [
            f"`{run}` against `{self.names[0]}`, not comparable: {reason} ({'; '.join(metrics)})"
            for (run, reason), metrics in found.items()
        ]


def difference_sentence(one: Difference) -> str:
    """Return how one run's winner stands to another's in a metric."""
    ours, theirs, where = one.ours.run, one.theirs.run, f"in {metric_label(one.metric)}"
    if one.obstacle:
        return f"The winners of `{ours}` and `{theirs}` cannot be compared {where}: {one.obstacle}."
    values = (interval_text(one.metric, e.arm.seed_interval(one.metric)) for e in (one.ours, one.theirs))
    both = " against ".join(values)
    lead = difference_text(one.metric, one.interval)
    unpaired = "not paired, for their seeds differ (Welch)"
    how = f"paired over {one.shared} shared seeds" if one.paired else unpaired
    reading = outcome(one.comparison)
    if reading.better:
        return f"The winner of `{ours}` beats that of `{theirs}` {where}: {both}, difference {lead}, {how}."
    if reading is ComparisonOutcome.WORSE:
        return f"The winner of `{ours}` is worse than that of `{theirs}` {where}: {both}, difference {lead}, {how}."
    if reading is ComparisonOutcome.SAME:
        return f"No difference is shown between the winners of `{ours}` and `{theirs}` {where}: {both}, {lead}, {how}."
    return (
        f"The winners of `{ours}` and `{theirs}` {where}: {both}; without several seeds there is no interval."
    )


def difference_cell(one: Difference) -> str:
    """Return "▲ +2.0 ± 0.5", "not comparable"; an asterisk marks one that is not paired."""
    if one.obstacle:
        return "-" if one.obstacle.startswith("not measured") else "not comparable"
    text = difference_text(one.metric, one.interval).removesuffix(" points")
    return f"{_SIGNS.get(outcome(one.comparison), '')}{text}{'' if one.paired else ' *'}"


# -- tables ------------------------------------------------------------------------------------------------


def arms_table(made: RunComparison) -> Table:
    """Return every arm of every run in every metric."""
    rows = [
        (entry.run, entry.arm.label, *(interval_text(m, entry.arm.seed_interval(m)) for m in made.metrics))
        for entry in made.entries
    ]
    strong = frozenset(i for i, entry in enumerate(made.entries) if entry.arm.name == "best")
    seeds = seeds_text(made.entries, made.metrics[0])
    header = ("run", "configuration", *map(metric_label, made.metrics))
    return Table(header, rows, strong, frozenset({0, 1}), title=f"Test metrics, {seeds}")


def differences_table(made: RunComparison) -> Table | None:
    """Return each arm minus the arm of the same name in the first run; None if none has the name of another."""
    rows = [
        (row[0].ours.run, row[0].ours.arm.label, *map(difference_cell, row))
        for row in made.differences
        if row
    ]
    if not rows:
        return None
    header = ("run", "configuration", *map(metric_label, made.metrics))
    title = f"Minus the same of {made.names[0]}, in percentage points"
    return Table(header, rows, words=frozenset({0, 1}), title=title)


def runs_table(made: RunComparison) -> Table:
    """Return what each run is: study, state of its trials, winner, verdict, cost."""
    rows = []
    for result in made.results:
        plan, used = result.plan, Usage.of(result.records)
        searched = result.lane("search")
        ended = sum(r.state is not State.RUNNING for r in searched)
        best = "none" if result.best is None else f"trial {result.best.number}"
        claim = verdict(result).level.value if plan.claim else "-"
        rows.append(
            (plan.run_name, plan.study, plan.method, f"{ended} of {plan.trials}", best, claim, str(used.epochs),
             duration(used.seconds), f"{used.gpu_seconds:.0f}", f"{used.cpu_seconds:.0f}")
        )  # fmt: skip
    header = ("run", "study", "method", "trials", "winner", "claim", "epochs", "training time", "GPU-seconds",
              "CPU-seconds")  # fmt: skip
    return Table(
        header, rows, words=frozenset({0, 1, 2, 4, 5}), title="The runs, and what all of their trials cost"
    )


def winners_table(made: RunComparison) -> Table:
    """Return the searched parameters of the winners, one column for each run."""
    keys = dict.fromkeys(key for result in made.results if result.best for key in result.best.params)
    rows = [(f"`{key}`", *(_setting(result, key) for result in made.results)) for key in keys]
    return Table(("parameter", *made.names), rows, title="The winners' settings")


def _setting(result: StudyResult, key: str) -> str:
    if result.best is None:
        return "-"
    return setting_text(result.best.configuration.get(key, result.best.params.get(key, "-")))


# -- blocks and files --------------------------------------------------------------------------------------


def comparison_blocks(made: RunComparison) -> list[Block]:
    """Return the sections of the page."""
    first, *others = made.sentences()
    blocks: list[Block] = [Heading("Answer", "answer"), Text(first), *map(Text, others)]
    blocks += [Text(f"{line}.", "warning") for line in made.obstacles()]
    blocks.append(runs_table(made))
    if made.metrics:
        blocks += [Heading("Arms side by side", "arms", "Arms"), arms_table(made)]
        panels = [forest_of_runs(made.entries, metric) for metric in made.metrics]
        blocks.append(Figure(element("div", *panels, class_="panels forests")))
        compared = differences_table(made)
        if compared is not None:
            blocks += [compared, Text(DIFFERENCES, "note")]
    found = best_so_far(made.results)
    if found is not None:
        blocks += [Heading("Best so far", "best"), Figure(*found)]
    settings = winners_table(made)
    spans = ranges(made.results)
    if spans is not None:
        blocks += [Heading("Ranges searched", "ranges", "Ranges"), Figure(*spans)]
    if settings.rows:
        blocks.append(settings)
    differing = plan_differences(made.results)
    blocks.append(Heading("What the plans differ in", "plans", "Plans"))
    if differing:
        header = ("what", *made.names)
        rows = [(what, *values) for what, values in differing]
        blocks.append(Table(header, rows, words=frozenset(range(len(header)))))
    else:
        blocks.append(Text("Nothing that decides a result."))
    return blocks


DIFFERENCES = (
    "Two seeds that are the same in both runs give the same initial network and the same order of the data, so "
    "differences are paired by seed; * marks those between other seeds, with Welch's interval. ▲ better, ▼ worse: the "
    "95 % interval excludes 0. Without a correction for looking at several."
)


def comparison_files(made: RunComparison, now: datetime | None = None) -> Mapping[str, str]:
    """Return {file: text} of compare.html, compare.md and compare.json.

    Args:
        made: of runs of one data set (see `check_same_data`), two or more.
        now: when it is made; by default the present.
    """
    blocks, results = comparison_blocks(made), made.results
    title = f"{counted(len(results), 'run')} of {results[0].plan.dataset} compared"
    kicker = f"{', '.join(made.names)} · {now or datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return {
        "compare.html": to_page(title, kicker, blocks),
        "compare.md": to_markdown(title, blocks),
        "compare.json": comparison_json(made),
    }


def comparison_json(made: RunComparison) -> str:
    """Return everything the page shows as JSON: entries by seed, differences, what the plans differ in."""
    value = {
        "format": FORMAT,
        "dataset": made.results[0].plan.dataset,
        "runs": [_run_json(result) for result in made.results],
        "metrics": made.metrics,
        "entries": [
            {
                "run": e.run,
                "arm": e.arm.name,
                "role": e.arm.role,
                "confirmed": e.confirmed,
                "seeds": list(e.arm.seeds),
                "values": {m: list(map(_number, e.arm.values[m])) for m in made.metrics if m in e.arm.values},
            }
            for e in made.entries
        ],
        "differences": [
            {
                "run": d.ours.run,
                "minus": d.theirs.run,
                "arm": d.ours.arm.name,
                "metric": d.metric,
                "mean": _number(d.interval.mean),
                "half": _number(d.interval.half),
                "n": d.interval.n,
                "paired": d.paired,
                "reading": outcome(d.comparison).value,
                "not_comparable": d.obstacle or None,
            }
            for row in made.differences
            for d in row
        ],
        "plans_differ_in": dict(plan_differences(made.results)),
    }
    return json.dumps(value, indent=1, allow_nan=False)


def _run_json(result: StudyResult) -> dict[str, Any]:
    best = result.best
    return {
        "run": result.plan.run_name,
        "study": result.plan.study,
        "method": result.plan.method,
        "claim": verdict(result).level.value if result.plan.claim else None,
        "best": None if best is None else {"trial": best.label, "params": dict(best.params)},
        "used": {
            name: getattr(Usage.of(result.records), name)
            for name in ("epochs", "seconds", "gpu_seconds", "cpu_seconds")
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
