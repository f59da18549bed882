"""The report's section on cost: in all, by part of the study, budgets, wall time by stage."""

from tuner.analysis.metric_text import duration
from tuner.analysis.results import StudyResult
from tuner.base.text import counted
from tuner.report.blocks import Block, Heading, Table, Text
from tuner.search.budget import Usage


def cost(result: StudyResult) -> list[Block]:
    """Return when and how long the study ran, epochs, training and device time by part, the budgets, time by stage."""
    rows = []
    for lane in dict.fromkeys(r.lane for r in result.records):
        records = result.lane(lane)
        used, full = Usage.of(records), len(records) * result.plan.max_epochs
        saved = f"{100 * (1 - used.epochs / full):.0f} %" if lane != "confirm" else "-"
        rows.append((_part(lane), str(len(records)), str(used.epochs), str(full), saved, *_times(used)))
    if not rows:
        return []
    total = Usage.of(result.records)
    rows.append(("in all", str(len(result.records)), str(total.epochs), "", "", *_times(total)))
    header = ("part", "trials", "epochs trained", "without early stopping", "saved")
    blocks: list[Block] = [
        Heading("Cost", "cost"),
        Text(_in_all(result, total)),
        Table((*header, "training time", "GPU-seconds", "CPU-seconds"), rows, frozenset({len(rows) - 1})),
        *(Text(line) for line in _budgets(result)),
    ]
    if result.timings:
        times = [(name, duration(seconds)) for name, seconds in result.timings.items()]
        times.append(("in all", duration(sum(result.timings.values()))))
        blocks.append(Table(("stage", "wall time"), times, frozenset({len(times) - 1})))
    return blocks


def _part(lane: str) -> str:
    return {"search": "search", "confirm": "fresh seeds"}.get(lane, f"search of the baseline {lane}")


def _in_all(result: StudyResult, total: Usage) -> str:
    wall = duration(sum(result.timings.values())) if result.timings else ""
    began = min((start for record in result.records for start in record.starts), default="")
    parts = [
        f"{counted(len(result.records), 'trial')}, {counted(total.epochs, 'epoch')}",
        f"{wall} in all" if wall else "",
        f"first trial started {began[:16].replace('T', ' ')} UTC" if began else "",
    ]
    return f"{'; '.join(filter(None, parts))}."


def _times(used: Usage) -> tuple[str, str, str]:
    return duration(used.seconds), f"{used.gpu_seconds:.0f}", f"{used.cpu_seconds:.0f}"


def _budgets(result: StudyResult) -> list[str]:
    """Return a line for each budget of the search, with what was used of it."""
    plan, used = result.plan, Usage.of([r for r in result.records if r.lane != "confirm"])
    lines = []
    if plan.epoch_budget is not None:
        lines.append(f"Epoch budget of the search: {plan.epoch_budget}; used: {used.epochs}.")
    if plan.gpu_budget_s is not None:
        spent = used.gpu_seconds + used.cpu_seconds
        lines.append(f"Device budget of the search: {duration(plan.gpu_budget_s)}; used: {duration(spent)}.")
    if plan.time_budget_s is not None:
        took = duration(result.timings.get("search", float("nan")))
        lines.append(
            f"Time budget of the search: {duration(plan.time_budget_s)}; used in this launch: {took}."
        )
    return lines
