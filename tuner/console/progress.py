"""The console during a run: a progress bar and a table on a terminal, few plain lines elsewhere, and console.log.

console.log has one line per event, whatever the screen shows. Imports nothing heavy; rich only on a terminal.
"""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainables.base.permissions import created, make_folder
from tuner.analysis.checks import checks
from tuner.analysis.metric_text import (
    duration,
    interval_text,
    metric_label,
    setting_text,
    settings_text,
    value_text,
)
from tuner.analysis.results import StudyResult
from tuner.analysis.selection import cost_of
from tuner.analysis.trial_columns import STATE_LABELS, TrialRow, TrialTable, columns_of
from tuner.analysis.verdict import headline, verdict
from tuner.base.records import State, TrialRecord
from tuner.base.text import counted, visible
from tuner.base.trial_listener import TrialListener
from tuner.console.preview import plan_text
from tuner.console.safe_stream import SafeStream
from tuner.planning.plan import Plan

if TYPE_CHECKING:
    from tuner.console.live_table import LiveTable

CLEAN = "val/accuracy/clean"
ROWS = 8
REFRESH_S = 0.25
MOST_FAILURES, MOST_BESTS, SHARES = 20, 30, 20  # lines of each kind on a plain screen


class Console(TrialListener):
    """Shows the progress of a run; a listener of the trial queue.

    All calls come from the driver's thread, and it has no other.

    Args:
        total_trials: of the search stage, over all its lanes.
        log: the run's console.log; appended to. None writes none.
        plain: lines instead of the live table; None decides by the stream.
        clock: seconds, for elapsed times and the pace of redrawing.
        width: of the screen in characters; None asks the terminal.
    """

    def __init__(
        self,
        plan: Plan,
        total_trials: int,
        *,
        log: Path | None = None,
        stream: TextIO | None = None,
        plain: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        width: int | None = None,
    ) -> None:
        self.plan, self.clock = plan, clock
        self.out = SafeStream(sys.stdout if stream is None else stream)
        self.plain = (not self.out.isatty() or os.environ.get("TERM") == "dumb") if plain is None else plain
        self._asked_width = width
        self.width = width or shutil.get_terminal_size((100, 24)).columns
        self.reference: Mapping[str, float] = {}
        self._began = clock()
        self._totals = {"search": total_trials, "confirm": (len(plan.arms) + 1) * plan.confirm_seeds}
        self._stage, self._detail = "search", ""
        self._records: dict[str, TrialRecord] = {}
        self._done: Counter[str] = Counter()
        self._line_counts: Counter[str] = Counter()
        self._best: TrialRecord | None = None
        self._bar: tuple[int, int, str] | None = None
        self._live: Any = None
        self._drawn = -REFRESH_S
        if log is not None:
            make_folder(log.parent)
        self._log = open(created(log), "a", encoding="utf-8", buffering=1) if log is not None else None  # noqa: SIM115

    # -- events of the queue ---------------------------------------------------------------------------

    def load_earlier(self, records: Iterable[TrialRecord]) -> None:
        """Count the trials of the launches before a resume, without a line for each."""
        for record in records:
            self._records[record.key] = record
            if record.state is not State.RUNNING:
                self._done[_stage_of(record)] += 1
                self._update_best(record)
        if self._done:
            self._say(f"resumed: {counted(sum(self._done.values()), 'trial')} had ended before")

    def started(self, record: TrialRecord) -> None:
        self._records[record.key] = record
        again = f", attempt {record.attempt} from epoch {record.epochs}" if record.attempt > 1 else ""
        self._write_log(f"trial {record.key} started{again}: {settings_text(record)}")
        self._draw()

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        self._records[record.key] = record
        metrics = record.history[epoch].metrics if epoch in record.history else {}
        shown = ", ".join(f"{name}={value:.5g}" for name, value in metrics.items())
        self._write_log(f"trial {record.key} epoch {epoch}: {shown}")
        self._draw()

    def ended(self, record: TrialRecord) -> None:
        self._records[record.key] = record
        stage = _stage_of(record)
        self._done[stage] += 1
        reason = f": {_line(record.reason)}" if record.reason else ""
        took = duration(record.seconds)
        self._write_log(f"trial {record.key} {record.state.value} at epoch {record.epochs}, {took}{reason}")
        if record.state is State.FAIL:
            self._say_limited("failures", MOST_FAILURES, f"trial {record.key} failed{reason}")
        elif self._update_best(record):
            value = self._objective_text(record)
            settings = f" ({settings_text(record)})" if record.params else ""
            self._say_limited("bests", MOST_BESTS, f"best so far: trial {record.number}, {value}{settings}")
        if self._is_milestone(stage):
            self._say(self._count_line(stage))
        self._draw()

    def _update_best(self, record: TrialRecord) -> bool:
        """Remember a complete search trial that meets the floors and beats the best so far; return whether it did."""
        if record.lane != "search" or record.state is not State.COMPLETE or not self._meets_floors(record):
            return False
        if self._best is not None and self._cost(record) >= self._cost(self._best):
            return False
        self._best = record
        return True

    def _meets_floors(self, record: TrialRecord) -> bool:
        """Return False if a floor is missed; one whose reference is not known yet counts as met."""
        for floor in self.plan.floors:
            reference = self.reference.get(floor.metric)
            if floor.below_reference is not None and reference is None:
                continue
            if record.last.get(floor.metric, float("-inf")) < floor.bound(reference):
                return False
        return True

    def _cost(self, record: TrialRecord) -> float:
        return cost_of(record, self.plan.objectives[0])

    def _is_milestone(self, stage: str) -> bool:
        total, done = max(self._totals[stage], 1), self._done[stage]
        return done * SHARES // total > (done - 1) * SHARES // total

    def _count_line(self, stage: str) -> str:
        records = [r for r in self._records.values() if _stage_of(r) == stage]
        counts = Counter(r.state for r in records)
        parts = [f"{counts[state]} {words}" for state, words in STATE_LABELS.items() if counts[state]]
        best = f"; best {self._objective_text(self._best)} (trial {self._best.number})" if self._best else ""
        done = f"{self._name_of(stage)}: {self._done[stage]} of {self._totals[stage]} trials ended"
        return f"{done}: {', '.join(parts)}{best}"

    def _name_of(self, stage: str) -> str:
        return "training" if self.plan.trains_one and stage == "search" else stage

    def _objective_text(self, record: TrialRecord) -> str:
        metric = self.plan.objectives[0].metric
        return f"{metric_label(metric)} {value_text(metric, record.last.get(metric))}"

    # -- events of the run -----------------------------------------------------------------------------

    def stage(self, name: str, detail: str = "") -> None:
        """Announce a stage."""
        self._stage, self._detail, self._bar = name, detail, None
        self._say(f"== {name}{': ' + detail if detail else ''}")
        self._draw(now=True)

    def note(self, text: str) -> None:
        """Show one remark."""
        self._say(text)

    def progress(self, done: int, total: int, what: str) -> None:
        """Show the progress of a stage that has no trials of its own."""
        self._bar = (done, total, what)
        self._write_log(f"{what}: {done} of {total}")
        if self.plain and total and (done == total or done * 5 // total > (done - 1) * 5 // total):
            self._print(f"{what}: {done} of {total}")
        self._draw(now=done == total)

    def answer(self, result: StudyResult, folder: Path, failure: str = "") -> None:
        """Show the answer and where to read more; a failure, which the launch ends with, only in the log."""
        self._stop_live()
        self._block(answer_lines(result, folder, failure))
        self._write_log(failure)

    def interrupted(self, resume_command: str) -> None:
        """Show the command that resumes the run."""
        self._stop_live()
        self._block(["", "interrupted; everything is saved. To go on:", f"  {resume_command}"])

    def close(self) -> None:
        """End the live display and close the log."""
        self._stop_live()
        if self._log is not None:
            self._log.close()
            self._log = None

    # -- writing ---------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Write one line to log and screen."""
        self._write_log(text)
        self._print(_line(text))

    def _say_limited(self, kind: str, most: int, text: str) -> None:
        """Show a line of a kind that may come often; beyond `most` lines only the log has it."""
        self._line_counts[kind] += 1
        if not self.plain or self._line_counts[kind] < most:
            self._say(text)
        elif self._line_counts[kind] == most:
            self._say(f"{text}; further {kind} are in the log only")
        else:
            self._write_log(text)

    def _block(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._write_log(line)
            self.out.write(visible(line) + "\n")
        self.out.flush()

    def _print(self, text: str) -> None:
        minutes, seconds = divmod(int(self.clock() - self._began), 60)
        line = visible(f"[{minutes:02d}:{seconds:02d}] {text}")
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self.out.write(line + "\n")
            self.out.flush()

    def _write_log(self, text: str) -> None:
        if self._log is not None and text:
            self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {visible(_line(text))}\n")

    # -- the live table --------------------------------------------------------------------------------

    def _draw(self, now: bool = False) -> None:
        """Redraw, at most every REFRESH_S: with many short trials drawing would cost more than training."""
        if self.plain or self.out.closed_by_reader:
            return
        if not now and self.clock() - self._drawn < REFRESH_S:
            return
        from tuner.console.live_table import start, view

        self._drawn = self.clock()
        if self._live is None:
            self._live = start(self.out, self.width if self._asked_width or not self.out.isatty() else None)
        self._live.update(view(self._bar_now(), self._table()), refresh=True)

    def _bar_now(self) -> tuple[int, int, str]:
        if self._bar is not None:
            return self._bar
        stage = "confirm" if self._stage == "confirm" else "search"
        return self._done[stage], self._totals[stage], f"{self._name_of(stage)} {self._detail}".strip()

    def _table(self) -> "LiveTable":
        """Return the best trials so far, finished or not."""
        from tuner.console.live_table import LiveTable

        table, metric = TrialTable.LIVE, self.plan.objectives[0].metric
        params = list(self.plan.lanes[0].space)[: max(1, (self.width - 60) // 14)]
        columns = columns_of(table)
        own = [
            TrialRow(r, self._meets_floors(r))
            for r in self._records.values()
            if r.lane == "search" and r.history and r.state is not State.FAIL
        ]
        rows = []
        for row in sorted(
            own, key=lambda row: (not row.meets_floors, self._cost(row.record), row.record.number)
        )[:ROWS]:
            record = row.record
            values = [value_text(name, record.last.get(name)) for name in (metric, CLEAN)]
            cells = [column.cell(row, table) for column in columns]
            rows.append([*cells, *values, *(_param(record, p) for p in params)])
        header = [*(column.headings[table] for column in columns), "objective", "val. accuracy"]
        words = {column.headings[table] for column in columns if column.words} | set(params)
        return LiveTable([*header, *params], rows, frozenset(words), len(columns))

    def _stop_live(self) -> None:
        if self._live is not None:
            self._drawn = -REFRESH_S
            self._draw(now=True)
            self._live.stop()
            self._live = None


# -- the answer --------------------------------------------------------------------------------------------


def answer_lines(result: StudyResult, folder: Path, failure: str = "") -> list[str]:
    """Return the end of a run: the winner, its metrics beside the arms', the verdict, where to look.

    Args:
        failure: why the study has failed, if it has; it is the last line of the launch and takes the verdict's place.
    """
    judged = verdict(result)
    lines = ["", f"== {result.plan.question}"]
    if result.best is not None and not result.plan.trains_one:
        lines += [f"winner: trial {result.best.number}"]
        lines += [f"  {key} = {setting_text(value)}" for key, value in result.best.params.items()]
    lines += _metric_table(result)
    lines += ["", f"claim {judged.level.value}: {result.plan.claim}"] if result.plan.claim else [""]
    lines += [] if failure else [f"  {sentence}" for sentence in judged.sentences]
    lines += [f"caution: {sentence}" for check in checks(result) for sentence in check.findings]
    lines += [f"note: {problem}" for problem in result.problems]
    name = "the network" if result.plan.trains_one else "the winner"
    if result.model_lines:
        lines += ["", f"{name} as a model, in Python:", *(f"  {line}" for line in result.model_lines)]
    if result.export_command:
        lines += ["", f"{name} as files:", f"  {result.export_command}"]
    lines += ["", f"report: {folder / 'report.html'}"]
    if result.ui_command:
        lines.append(f"MLflow: {result.ui_command}")
    lines += [f"  {name}: {url}" for name, url in result.links.items()]
    return lines


def _metric_table(result: StudyResult) -> list[str]:
    metrics = headline(result.plan)
    if result.arms:
        head = ["test metric", *(arm.label for arm in result.arms)]
        rows = [
            [metric_label(m), *(interval_text(m, arm.seed_interval(m)) for arm in result.arms)]
            for m in metrics
        ]
        seeds = max(arm.seed_interval(m).n for arm in result.arms for m in metrics)
        note = (
            f"mean and 95 % interval over {seeds} fresh seeds" if seeds > 1 else "one fresh seed, no interval"
        )
    else:
        tests = result.tests.get(result.best.key, {}) if result.best else {}
        head, rows = (
            ["test metric", result.plan.method if result.plan.trains_one else "winner"],
            [[metric_label(m), value_text(m, tests.get(m))] for m in metrics],
        )
        note = "one seed, no interval"
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    if not rows:
        return []
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    table = [
        "  "
        + "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return ["", *table, f"  ({note})"]


def _stage_of(record: TrialRecord) -> str:
    return "confirm" if record.lane == "confirm" else "search"


def _param(record: TrialRecord, name: str) -> str:
    return setting_text(record.params[name]) if name in record.params else ""


def _line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["Console", "answer_lines", "plan_text"]
