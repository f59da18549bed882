"""Plots of several runs: their arms in one metric, the best trial so far, the ranges they searched."""

from collections.abc import Sequence

from search_spaces.domain import Choice, Domain, Float
from tuner.analysis.comparison import Entry
from tuner.analysis.metric_text import metric_label, setting_text
from tuner.analysis.results import StudyResult
from tuner.analysis.selection import cost_of
from tuner.base.records import State
from tuner.base.text import counted
from tuner.report.axes import Axis, count_axis, metric_axis, parameter_axis
from tuner.report.blocks import Table
from tuner.report.charts_arms import forest_table
from tuner.report.markup import Markup, breaking, element, join
from tuner.report.svg import figure, legend, line_class, path, per_cent, plot, ring, steps, strip

Steps = list[tuple[int, float]]  # (epochs trained so far, best objective)


def forest_of_runs(entries: Sequence[Entry], metric: str) -> Markup:
    """Return the arms of all runs in one metric, run by run; the marked value is the first run's winner."""
    kinds = {"baseline": "baseline", "control": "control"}
    named = []
    for entry in entries:
        if entry.arm.seed_interval(metric).n:
            kind = "winner" if entry.arm.name == "best" else kinds.get(entry.arm.role, "control")
            named.append((join([entry.arm.label, element("small", breaking(entry.run))]), entry.arm, kind))
    return forest_table(named, metric, named[0][1].seed_interval(metric).mean)


def best_so_far(results: Sequence[StudyResult]) -> tuple[Markup, Table] | None:
    """Return the best complete and feasible trial by the epochs trained so far, a line for each run, and as a table.

    Runs of another objective than the first run's are left out; None if fewer than two are left.
    """
    objective = results[0].plan.objectives[0]
    same = [result for result in results if result.plan.objectives[0] == objective]
    lines = {i: made for i, result in enumerate(same) if (made := steps_of(result))}
    if len(lines) < 2:
        return None
    most = max(map(_epochs, same))
    x = count_axis("epochs trained in the search so far", 0, most)
    y = metric_axis(objective.metric, [value for made in lines.values() for _, value in made])
    marks, rings, rows, key = [], [], [], []
    for i, made in lines.items():
        placed = [(x.place(e) or 0.0, y.place(v) or 0.0) for e, v in made]
        end = x.place(_epochs(same[i])) or 0.0
        marks.append(path(steps([*placed, (end, placed[-1][1])]), line_class(i)))
        rings.append(ring(*placed[-1], f"{same[i].plan.run_name}: its best trial"))
        key.append((f"line {line_class(i)}", same[i].plan.run_name))
        rows.append((same[i].plan.run_name, y.text(made[-1][1]), str(made[-1][0]), str(_epochs(same[i]))))
    says = f"Best {y.label} by epochs trained: " + "; ".join(f"{name} {value}" for name, value, *_ in rows)
    drawn = plot(x, y, marks, says, height=260, over=rings, x_label=x.label, class_="lines")
    note = (
        f"{y.label} of the best trial so far that trained to the end and meets every floor, by the epochs that the "
        "search had trained when it ended, trials in the order of their start. The ring is where the best was found."
    )
    header = ("run", "best", "found after epochs", "epochs in all")
    table = Table(header, rows, title=f"Best trial of each search: {metric_label(objective.metric)}")
    return figure("Best so far", note, legend(*key), drawn), table


def _epochs(result: StudyResult) -> int:
    return sum(r.epochs for r in result.lane("search"))


def steps_of(result: StudyResult) -> Steps:
    """Return (epochs trained by then, objective) of each trial of the search that was better than all before it."""
    objective, trained, best = result.plan.objectives[0], 0, float("inf")
    made: Steps = []
    for record in sorted(result.lane("search"), key=lambda r: r.number):
        trained += record.epochs
        cost = cost_of(record, objective)
        if record.state is State.COMPLETE and record.key in result.feasible and cost < best:
            best = cost
            made.append((trained, record.judged[objective.metric]))
    return made


def ranges(results: Sequence[StudyResult]) -> tuple[Markup, Table] | None:
    """Return what each run searched of every parameter and where its winner lies, on one axis for all runs."""
    keys = dict.fromkeys(key for result in results for key in result.plan.lanes[0].space)
    rows, texts = [], []
    for key in keys:
        domains = [(result, result.plan.lanes[0].space.get(key)) for result in results]
        axis = _common_axis(key, [d for _, d in domains if d is not None and not isinstance(d, Choice)])
        for i, (result, domain) in enumerate(domains):
            best = result.best.params.get(key) if result.best else None
            if domain is None:
                fixed = result.plan.lanes[0].fixed.get(key)
                span, plotted = (
                    f"fixed at {setting_text(fixed)}" if fixed is not None else "not searched",
                    None,
                )
            else:
                span = _span(domain)
                plotted = _strip(axis, domain, best) if axis and not isinstance(domain, Choice) else None
            value = "-" if best is None else setting_text(best)
            first = i == 0
            cells = (
                element("th", breaking(key), scope="rowgroup", rowspan=len(domains)) if first else None,
                element("td", result.plan.run_name, class_="word"),
                element("td", plotted, class_="strip") if plotted else element("td", span, class_="word"),
                element("td", value),
            )
            rows.append(element("tr", *cells))
            texts.append((f"`{key}`", result.plan.run_name, span, value))
    if not rows:
        return None
    header = ("parameter", "run", "range", "winner")
    kinds = {"run": "word"}
    head = element("tr", *(element("th", text, scope="col", class_=kinds.get(text)) for text in header))
    table = element("table", element("thead", head), element("tbody", *rows), class_="forest runs")
    box = element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Ranges of the runs")
    return box, Table(header, texts, words=frozenset({0, 1, 2}))


def _common_axis(key: str, domains: Sequence[Domain]) -> Axis | None:
    if not domains:
        return None
    low, high = min(d.low for d in domains), max(d.high for d in domains)  # type: ignore[union-attr]
    log = any(d.log for d in domains) and low > 0  # type: ignore[union-attr]
    return parameter_axis(key, Float(float(low), float(high), log=log))


def _span(domain: Domain) -> str:
    if isinstance(domain, Choice):
        return ", ".join(map(str, domain.options))
    return f"{setting_text(domain.low)} to {setting_text(domain.high)}{', logarithmic' if domain.log else ''}"


def _strip(axis: Axis, domain: Domain, best: object) -> Markup:
    assert not isinstance(domain, Choice)
    low, high = (axis.place(float(end)) or 0.0 for end in (domain.low, domain.high))
    at = axis.place(best)
    span = element("rect", x=per_cent(low), width=per_cent(high - low), height="60%", y="20%", class_="span")
    mark = None if at is None else element("circle", cx=per_cent(at), cy="50%", r=6, class_="ring")
    shown = strip(span, mark)
    return join([shown, element("small", _span(domain))])


def seeds_text(entries: Sequence[Entry], metric: str) -> str:
    """Return over how many fresh seeds the entries were measured."""
    numbers = sorted({e.arm.seed_interval(metric).n for e in entries if e.arm.seed_interval(metric).n})
    if numbers == [1]:
        return "one seed, no interval"
    span = counted(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    return f"mean and 95 % interval over {span}"
