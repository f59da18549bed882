"""Builds the report of a study: its sections in order, written as HTML, Markdown and CSV files."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from trainables.base.storage import Folder
from tuner.analysis.metric_text import difference_text, interval_text, metric_label, setting_text, value_text
from tuner.analysis.results import ArmResult, StudyResult
from tuner.analysis.selection import ranked
from tuner.analysis.trial_columns import STATE_LABELS_AT_END, TrialRow, TrialTable, columns_of
from tuner.analysis.verdict import Level, headline, measured_headline, outcome, paired_comparison, verdict
from tuner.base.records import State, TrialRecord
from tuner.base.text import counted, listed
from tuner.report import evaluation, plots_search, plots_winner
from tuner.report.blocks import Block, Code, Heading, Links, Picture, Table, Text, to_html, to_markdown
from tuner.report.cost import cost
from tuner.report.csv_tables import arms_csv, trials_csv
from tuner.store import warm_start

MOST_ROWS = 200
MOST_NAMES = 20  # of classes
_KINDS = {
    Level.SUPPORTED: "good",
    Level.PARTLY: "partly",
    Level.EXPLAINED: "bad",
    Level.REFUTED: "bad",
    Level.OPEN: "open",
}


def write_report(result: StudyResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, trials.csv, arms.csv and the named figures, each atomically.

    Sections that the result has no data for (no confirm stage, no complete trial) are left out; the answer says
    so. Return the paths.
    """
    title = f"{result.plan.study}: {result.plan.question}"
    blocks = report_blocks(result)
    texts = {
        "report.html": to_html(title, blocks),
        "report.md": to_markdown(title, blocks),
        "trials.csv": trials_csv(result),
        "arms.csv": arms_csv(result),
    }
    files = {name: text.encode("utf-8") for name, text in texts.items()}
    files |= {b.name: b.png for b in blocks if isinstance(b, Picture) and b.name}
    target = Folder(folder)
    for name, data in files.items():
        target.write(name, data)
    return [folder / name for name in files]


def report_blocks(result: StudyResult) -> list[Block]:
    """Return all sections of the report as blocks."""
    sections = (
        answer,
        evaluation.remarks,
        trials,
        partial(pictures, "Learning curves", [plots_search.learning_curves], _CURVES),
        early_stopping,
        effects,
        partial(pictures, "Parameter importances", [plots_search.importances], _IMPORTANCES),
        pareto,
        evaluation.secondary_metrics,
        evaluation.other_scores,
        evaluation.scores,
        attack,
        failures,
        cost,
        use_of_the_model,
        environment,
    )
    return [block for section in sections for block in section(result)]


_CURVES = "Every trial of the search, validation data only. Trials that were stopped early are fainter."
_RUNGS = "How many trials reached each rung; those beyond the last rung trained to the end."
_IMPORTANCES = (
    "How much of the objective's variation over the search each parameter accounts for. Estimated from the "
    "trials that were run: a hint where to look, not a test."
)
_OTHERS = "Paired differences in the other headline metrics"
Figures = Sequence[Callable[[StudyResult], Figure | None]]


def pictures(title: str, figures: Figures, caption: str, result: StudyResult) -> list[Block]:
    """Return a section of figures, or nothing if none has data."""
    made = [figure for figure in (draw(result) for draw in figures) if figure is not None]
    return [Heading(title), *(Picture(plots_search.png(figure), caption) for figure in made)] if made else []


# -- the answer --------------------------------------------------------------------------------------------


def answer(result: StudyResult) -> list[Block]:
    """Return verdict, winner, and the winner beside its baselines and controls."""
    plan, judged = result.plan, verdict(result)
    about = f"Claim {judged.level.value} on {plan.dataset}. " if plan.claim else ""
    blocks: list[Block] = [Text(f"Claim: {plan.claim}.")] if plan.claim else []
    blocks.append(Text(f"{about}{judged.sentences[0]}", _KINDS[judged.level]))
    blocks += [Text(sentence) for sentence in judged.sentences[1:]]
    blocks += [Text(problem, "warning") for problem in result.problems]
    blocks += [Text(line) for line in result.test_data]
    if plan.trains_one:
        rows = [
            (f"`{key}`", setting_text(value)) for key, value in plan.lanes[0].fixed.items() if value != ""
        ]
        blocks.append(Table(("option that was set", "value"), rows))
    elif result.best is not None:
        best = result.best
        own = "; ".join(_objectives(result, best))
        blocks.append(Text(f"Winner: trial {best.number} of {len(result.lane('search'))} ({own})."))
        rows = [(f"`{key}`", setting_text(value)) for key, value in best.params.items()]
        blocks.append(Table(("searched parameter", "value"), rows))
    return blocks + (_arms(result) if result.arms else _single_runs(result))


def _objectives(result: StudyResult, record: TrialRecord) -> list[str]:
    names = [o.metric for o in result.plan.objectives]
    return [f"{metric_label(name)} {value_text(name, record.last.get(name))}" for name in names]


def _arms(result: StudyResult) -> list[Block]:
    metrics = measured_headline(result)
    rows = [
        [_arm_name(arm), *(interval_text(m, arm.seed_interval(m)) for m in metrics)] for arm in result.arms
    ]
    seeds = max((arm.seed_interval(m).n for arm in result.arms for m in metrics), default=0)
    strong = frozenset(i for i, arm in enumerate(result.arms) if arm.name == "best")
    what = (
        f"mean and 95 % t-interval over {seeds} fresh seeds" if seeds > 1 else "one fresh seed, no interval"
    )
    blocks: list[Block] = [
        Text(f"Test metrics, {what}:"),
        Table(("arm", *map(metric_label, metrics)), rows, strong),
    ]
    differences = _differences(result, metrics)
    if differences:
        header = ("winner minus", "metric", "difference", "reading")
        blocks += [
            Text(
                "The winner minus each arm, paired by seed (same initial network, same data order). The "
                "verdict rests on the first metric alone, named beforehand; the others are shown without a "
                "correction for looking at several."
            ),
            Table(header, [row for row in differences if row[1] == metric_label(metrics[0])], text_columns=2),
            Table(
                header,
                [row for row in differences if row[1] != metric_label(metrics[0])],
                frozenset(),
                2,
                _OTHERS,
            ),
        ]
    figure = plots_winner.forest(result)
    if figure is not None:
        blocks.append(Picture(plots_search.png(figure), "Mean, 95 % interval and single seeds of each arm."))
    return blocks


def _differences(result: StudyResult, metrics: Sequence[str]) -> list[tuple[str, ...]]:
    winner = result.arm("best")
    if winner is None:
        return []
    rows: list[tuple[str, ...]] = []
    for arm in result.arms:
        for metric in metrics:
            comparison = paired_comparison(winner, arm, metric) if arm.name != "best" else None
            if comparison is not None:
                text = difference_text(metric, comparison.difference)
                rows.append((arm.name, metric_label(metric), text, outcome(comparison).value))
    return rows


def _arm_name(arm: ArmResult) -> str:
    if arm.name == "best":
        return arm.label
    return f"{arm.name} ({arm.role}{': ' + arm.about if arm.about else ''})"


def _single_runs(result: StudyResult) -> list[Block]:
    """Return the test metrics of the best trial of each search, where no arm was retrained."""
    rows = []
    for lane in result.plan.lanes:
        best = result.best if lane.name == "search" else best_of(result, lane.name)
        tests = result.tests.get(best.key, {}) if best else {}
        if best and tests:
            name = "winner" if lane.name == "search" else f"{lane.name} ({lane.role})"
            which = lane.method if result.plan.trains_one else f"{name}, trial {best.number}"
            rows.append([which, *_row(tests, headline(result.plan))])
    if not rows:
        return []
    one = "Test metrics of one training with one seed, no interval."
    words = "Test metrics of single runs: one seed each, no interval, so no comparison can be drawn."
    words = one if result.plan.trains_one else words
    return [Text(words), Table(("trial", *map(metric_label, headline(result.plan))), rows)]


def _row(values: Mapping[str, float], metrics: Sequence[str]) -> list[str]:
    return [value_text(metric, values.get(metric)) for metric in metrics]


def best_of(result: StudyResult, lane: str) -> TrialRecord | None:
    """Return a lane's best complete, feasible trial by the first objective."""
    candidates = [r for r in result.lane(lane) if r.state is State.COMPLETE and r.key in result.feasible]
    return next(iter(ranked(candidates, result.plan.objectives[0])), None)


# -- the search --------------------------------------------------------------------------------------------


def trials(result: StudyResult) -> list[Block]:
    """Return the ten best trials, and a folded table of all unless the first has them."""
    records = result.lane("search")
    if not records or (result.plan.trains_one and all(r.state is State.COMPLETE for r in records)):
        return []
    counts = ", ".join(
        f"{result.count('search', state)} {label}"
        for state, label in STATE_LABELS_AT_END.items()
        if result.count("search", state)
    )
    blocks: list[Block] = [
        Heading("Trials"),
        Text(f"{len(records)} of {result.plan.trials} trials: {counts}."),
        *(Text(f"{line[0].upper()}{line[1:]}.") for line in warm_start.lines(result.plan)),
    ]
    complete = [r for r in records if r.state is State.COMPLETE]
    top = sorted(ranked(complete, result.plan.objectives[0]), key=lambda r: r.key not in result.feasible)[:10]
    if top:
        floors = "; ".join(map(str, result.plan.floors))
        blocks.append(Text(f"The best complete trials{f' (floor: {floors})' if floors else ''}:"))
        blocks.append(_trial_table(result, top))
    if len(top) < len(records):
        shown = sorted(records, key=lambda r: r.number)[:MOST_ROWS]
        more = f", the first {MOST_ROWS}; the rest is in trials.csv" if len(records) > MOST_ROWS else ""
        blocks.append(_trial_table(result, shown, f"All trials{more}"))
    return blocks


def _trial_table(result: StudyResult, records: Sequence[TrialRecord], folded: str = "") -> Table:
    """Return trials as rows: columns of `trial_columns`, objectives, floors, the claim's test metric, parameters."""
    plan, table = result.plan, TrialTable.REPORT
    validated = list(dict.fromkeys([o.metric for o in plan.objectives] + [f.metric for f in plan.floors]))
    tested = [m for m in headline(plan)[:1] if any(m in result.tests.get(r.key, {}) for r in records)]
    params = list(plan.lanes[0].space)
    first, last = columns_of(table), columns_of(table, at_end=True)
    header = (
        *(column.headings[table] for column in first),
        *map(metric_label, validated),
        *(f"test: {metric_label(m)}" for m in tested),
        *(f"`{p}`" for p in params),
        *(column.headings[table] for column in last),
    )
    rows = []
    for record in records:
        row = TrialRow(record, record.key in result.feasible)
        cells = [column.cell(row, table) for column in first]
        cells += _row(record.last, validated) + _row(result.tests.get(record.key, {}), tested)
        cells += [setting_text(record.params[p]) if p in record.params else "" for p in params]
        rows.append([*cells, *(column.cell(row, table) for column in last)])
    strong = frozenset(
        i for i, r in enumerate(records) if result.best is not None and r.key == result.best.key
    )
    words = max(i + 1 for i, column in enumerate(first) if column.words)
    return Table(header, rows, strong, words, folded)


def early_stopping(result: StudyResult) -> list[Block]:
    if result.plan.trains_one:
        return []
    return pictures("Early stopping", [plots_search.rung_survival], _RUNGS, result)


def effects(result: StudyResult) -> list[Block]:
    """Return the effect of each parameter the study asks about."""
    blocks: list[Block] = []
    for parameter in result.plan.effects:
        figure = plots_search.effect(result, parameter)
        if figure is not None:
            caption = (
                f"Effect of {parameter}: the objective (validation data), then the test metric of each OOD "
                "set. One point per trial, the other parameters vary too; star: winner; line: median of "
                "complete trials. Test values were measured after the search and did not steer it."
            )
            blocks += [Heading(f"Effect of {parameter}"), Picture(plots_search.png(figure), caption)]
    return blocks


def pareto(result: StudyResult) -> list[Block]:
    several = len(result.plan.objectives) > 1
    caption = "The objectives against each other." if several else "The objective against clean accuracy."
    made = pictures(
        "Trade-off", [plots_search.pareto], f"{caption} Validation data, last epoch of each trial.", result
    )
    if made and result.pareto:
        known = {r.key: r for r in result.records}
        front = [known[key] for key in result.pareto if key in known][:MOST_ROWS]
        made.append(_trial_table(result, front, f"The Pareto front: {counted(len(result.pareto), 'trial')}"))
    return made


def attack(result: StudyResult) -> list[Block]:
    label = str(result.attack_examples.get("label", "")) if result.attack_examples else ""
    caption = f"Outliers before and after the attack{f' ({label})' if label else ''}."
    return pictures("What the attack does to outliers", [plots_winner.attack_examples], caption, result)


def failures(result: StudyResult) -> list[Block]:
    """Return how often each reason of failure occurred, whatever the epoch that it names."""
    failed = [r for r in result.records if r.state is State.FAIL]
    if not failed:
        return []
    reasons = Counter(
        re.sub(r"epoch \d+", "epoch …", " ".join(r.reason.split())) or "unknown" for r in failed
    )
    example = {
        re.sub(r"epoch \d+", "epoch …", " ".join(r.reason.split())) or "unknown": r.key
        for r in reversed(failed)
    }
    rows = [(reason, example[reason], str(n)) for reason, n in reasons.most_common(20)]
    return [Heading("Failures"), Table(("reason", "first trial", "trials"), rows, text_columns=2)]


def use_of_the_model(result: StudyResult) -> list[Block]:
    """Return how the winner is used elsewhere."""
    if not result.export_command:
        return []
    blocks: list[Block] = [Heading("Use the model")]
    if result.model_lines:
        blocks += [Text("In Python, with mlflow and torch alone:"), Code("\n".join(result.model_lines))]
    return [*blocks, Text("As files (PyTorch, TorchScript, ONNX):"), Code(result.export_command)]


# -- how it was made ---------------------------------------------------------------------------------------


def environment(result: StudyResult) -> list[Block]:
    """Return the command, versions and settings that reproduce the run, and its links into MLflow."""
    plan = result.plan
    rows = [
        ("run", plan.run_name),
        ("data set", plan.dataset),
        *([("classes", listed(result.classes, MOST_NAMES))] if result.classes else []),
        ("method", plan.method),
        ("seed", str(plan.seed)),
        ("sampler, scheduler", f"{plan.sampler}, {plan.scheduler}"),
        ("plan", plan.content_hash),
        *([("source", plan.source)] if plan.source else []),
        *result.environment.items(),
    ]
    blocks: list[Block] = [Heading("How to run it again")]
    commands = result.environment.get("command") or plan.command
    if commands:
        blocks.append(Code(commands))
    blocks.append(Table(("what", "value"), rows, text_columns=2))
    if result.links or result.ui_command:
        blocks.append(Heading("MLflow"))
    if result.ui_command:
        blocks.append(Code(result.ui_command))
    if result.links:
        blocks.append(Links(list(result.links.items())))
    return blocks
