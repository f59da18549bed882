"""`launch.py --status [RUN]`: the state of one run or of all, as text or as JSON."""

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.analysis.metric_text import duration, metric_label, setting_text, value_text
from tuner.analysis.verdict import no_winner_reason, verdict
from tuner.base.checksums import Damaged
from tuner.base.errors import UsageError
from tuner.base.records import State, TrialRecord
from tuner.base.text import aligned, as_line, counted
from tuner.commands.run_state import RunSnapshot, RunState, TimeLeft, UnreadRun, read_run, read_runs
from tuner.commands.stored_result import result_of
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.own_study import find_study, name_of_study
from tuner.planning.task_options import EVERY
from tuner.store.run_folder import RunFolder

MAX_LISTED = 12  # running trials


def answer(options: LaunchOptions) -> str:
    """Return what --status prints.

    Raises:
        UsageError: there is no such run, or it cannot be read.
    """
    options = replace(options, study=name_of_study(options.study))
    if options.status == EVERY:
        return _answer_all(options)
    assert options.status is not None
    try:
        run = read_run(options.status, options.storage, options.study_storage)
    except UsageError as error:
        if not options.json or not RunFolder(options.storage, options.status).exists():
            raise
        unread = UnreadRun(options.status, str(error), isinstance(error, Damaged))
        return json.dumps(unread_as_json(unread), indent=2)
    if options.study and options.study != run.plan.study:
        raise UsageError(f"run {options.status!r} is of study {run.plan.study}, not {options.study}")
    return json.dumps(as_json(run), indent=2) if options.json else as_text(lines_of(run))


def _answer_all(options: LaunchOptions) -> str:
    there = "://" in options.storage or Path(options.storage).is_dir()
    if not there and options.storage != LaunchOptions().storage:
        raise UsageError(f"--storage {options.storage}: there is no such folder")
    runs, unread = read_runs(options.storage, options.study, options.study_storage)
    if options.json:
        return json.dumps([*map(as_json, runs), *map(unread_as_json, unread)], indent=2)
    if options.study and not runs:
        find_study(options.study)  # a misspelt name has no runs either
    if runs:
        lines = table(runs)
    elif there:
        of_study = f" of study {options.study}" if options.study else ""
        lines = [f"no runs{of_study} in {options.storage}{' that can be read:' if unread else ''}"]
    else:
        lines = [f"no runs: there is no folder {Path(options.storage).resolve()}"]
    return as_text([*lines, *map(str, unread)])


def as_text(lines: Iterable[str]) -> str:
    """Return lines as text: a line feed in a name, a host or a stored command begins no line of its own."""
    return "\n".join(map(as_line, lines))


# -- one line each -----------------------------------------------------------------------------------------


def table(runs: Sequence[RunSnapshot]) -> list[str]:
    """Return one line for each run, under a header."""
    rows = [("run", "study", "state", "trials", "best so far", "age")]
    rows += [
        (
            run.folder.name,
            run.plan.study,
            _cut(state_text(run)),
            f"{run.ended}/{run.total}",
            best_text(run),
            age(run.facts["created"]),
        )
        for run in runs
    ]
    return aligned(rows, words=frozenset(range(len(rows[0]))))


def state_text(run: RunSnapshot) -> str:
    """Return "running here (process 12)", "interrupted in confirm", "failed: why", "done", "copy of one"."""
    if run.original is not None:
        return f"copy of {run.original.name}"
    match run.state:
        case RunState.RUNNING if run.claim is not None and run.claim.is_here:
            return f"running here (process {run.claim.pid})"
        case RunState.RUNNING:
            return f"running elsewhere ({run.claim})"
        case RunState.RESTARTING:
            return f"{run.restart or 'restarting'}"
        case RunState.SILENT:
            return f"no sign of life of {run.claim}"
        case RunState.INTERRUPTED:
            return f"interrupted in {run.stage}" if run.stage else "interrupted"
        case RunState.FAILED:
            return f"failed: {run.reason}" if run.reason else "failed"
    return "done" if run.facts.get("finished") else f"done with {','.join(run.plan.stages)} only"


def _cut(text: str) -> str:
    return text if len(text) <= 48 else f"{text[:47]}…"


def best_text(run: RunSnapshot) -> str:
    if run.best is None:
        return "-"
    metric = run.plan.objectives[0].metric
    return f"{value_text(metric, run.best.judged[metric])} (trial {run.best.number})"


def age(since: str) -> str:
    """Return how long ago a stored UTC time was, by this machine's clock."""
    try:
        began = datetime.datetime.fromisoformat(since)
        return duration(max(0.0, (datetime.datetime.now(datetime.UTC) - began).total_seconds()))
    except (ValueError, TypeError):
        return "-"


# -- one run -----------------------------------------------------------------------------------------------


def lines_of(run: RunSnapshot) -> list[str]:
    """Return the lines of one run: driver, trials, best, time left, how to go on, links."""
    lines = [
        f"run {run.folder.name}, study {run.plan.study}: {state_text(run)}, began {age(run.facts['created'])} ago"
    ]
    alive = run.state is RunState.RUNNING
    if alive and run.claim is not None:
        lines.append(f"driver: {run.claim}, since {run.claim.since}; stage: {run.stage or 'not known yet'}")
    for block in (_lanes(run, alive), [*_running(run, alive), *_waiting(run)], _best(run)):
        lines += ["", *block] if block else []
    lines += [
        f"evaluated: {counted(len(run.evaluated), 'trial')}; "
        f"trained with fresh seeds: {run.confirmed} of {run.to_confirm}"
    ]
    if run.state not in (RunState.DONE, RunState.FAILED):
        lines.append(time_text(run.time_left))
    if run.original is not None:
        lines.append(f"a copy of {run.original.uri}, as it was then; only that one goes on")
    if not goes_on(run):
        lines += ["to go on:", f"  {run.resume_command}"]
    return lines + _links(run)


def goes_on(run: RunSnapshot) -> bool:
    """Return whether nothing is to be done: the run is driven, restarts by itself, or has finished."""
    return run.state in (RunState.RUNNING, RunState.RESTARTING) or bool(run.facts.get("finished"))


def _lanes(run: RunSnapshot, alive: bool) -> list[str]:
    """Return a table of the lanes; without a driver a trial that has begun and not ended waits to be continued."""
    begun = "running" if alive else "waiting"
    rows: list[tuple[str, ...]] = [("trials", "planned", "complete", "stopped early", "failed", begun)]
    planned = {lane.name: lane.trials for lane in run.plan.lanes} | {"confirm": run.to_confirm}
    for lane, total in planned.items():
        counts = run.counts(lane)
        if total or counts:
            states = (State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING)
            rows.append((lane, str(total), *(str(counts[state]) for state in states)))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    return [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _running(run: RunSnapshot, alive: bool) -> list[str]:
    """Return a line for each trial that has begun and not ended."""
    running = [record for record in run.records if record.state is State.RUNNING]
    lines = [trial_text(run, record, alive) for record in running[:MAX_LISTED]]
    if len(running) > MAX_LISTED:
        lines.append(f"and {len(running) - MAX_LISTED} more")
    return lines


def trial_text(run: RunSnapshot, record: TrialRecord, alive: bool) -> str:
    """Return how far a trial that has begun and not ended has come."""
    what = f"trial {record.key} {'runs' if alive else 'waits to be continued'}: "
    what += f"{record.epochs} of {counted(run.plan.max_epochs, 'epoch')} done"
    if record.starts:
        what += f", {'began' if record.attempt == 1 else 'went on'} {age(record.starts[-1])} ago"
    return what + (f" (attempt {record.attempt})" if record.attempt > 1 else "")


def _waiting(run: RunSnapshot) -> list[str]:
    parts = [
        f"{lane.trials - len(run.lane(lane.name))} of {lane.name}"
        for lane in run.plan.lanes
        if lane.trials > len(run.lane(lane.name)) and "search" in run.plan.stages
    ]
    current = len([r for r in run.lane("confirm") if r.state is not State.FAIL])
    if run.to_confirm > current:
        parts.append(f"up to {run.to_confirm - current} of confirm")
    return [f"not begun yet: {', '.join(parts)}"] if parts else []


def _best(run: RunSnapshot) -> list[str]:
    if run.best is None:
        return [f"best so far: {no_winner_reason(run.plan, run.lane('search'))}"]
    values = ", ".join(
        f"{metric_label(o.metric)} {value_text(o.metric, run.best.judged[o.metric])}"
        for o in run.plan.objectives
    )
    over = bool(run.facts.get("finished"))
    return [
        f"{'winner' if over else 'best so far'}: trial {run.best.number}, {values}",
        *(f"  {key} = {setting_text(value)}" for key, value in run.best.params.items()),
        *(_verdict(run) if over else []),
    ]


def _verdict(run: RunSnapshot) -> list[str]:
    """Return whether the claim of a finished run holds, and why."""
    judged = verdict(result_of(run))
    claim = [f"claim {judged.level.value}: {run.plan.claim}"] if run.plan.claim else []
    return [*claim, *(f"  {sentence}" for sentence in judged.sentences[: judged.deciding])]


def time_text(left: TimeLeft) -> str:
    """Return the estimate of the training that is left, and what it rests on."""
    if left.seconds is None:
        return "time left: not known before the first epoch"
    if not round(left.epochs):
        return "time left: no training; evaluation and report are under way or to come"
    return (
        f"time left: about {duration(left.seconds)} of training, estimated from {duration(left.per_epoch)} per epoch "
        f"(measured over {left.measured}) for {counted(round(left.epochs), 'epoch')}, {left.concurrency} at a time; "
        "evaluation and report come on top"
    )


def _links(run: RunSnapshot) -> list[str]:
    lines = []
    if run.facts.get("finished"):
        lines.append(f"report: {run.folder.uri}/report.html")
    shown = run.facts.get("ui_command")
    lines.append(f"MLflow: {shown or run.facts.get('tracking_uri') or 'not known'}")
    return lines + [f"  {name}: {url}" for name, url in (run.facts.get("links") or {}).items()]


# -- JSON --------------------------------------------------------------------------------------------------


def unread_as_json(run: UnreadRun) -> dict[str, Any]:
    """Return what is known of a run that cannot be read, with the keys that `as_json` has for it."""
    return {"run": run.name, "state": "damaged" if run.damaged else "unreadable", "reason": run.reason}


def as_json(run: RunSnapshot) -> dict[str, Any]:
    """Return a run's state as JSON values; times in seconds, wall-clock times in UTC."""
    left = run.time_left
    driver = None
    if run.claim is not None and run.state in (RunState.RUNNING, RunState.SILENT):
        driver = {
            "host": run.claim.host,
            "pid": run.claim.pid,
            "here": run.claim.is_here,
            "since": run.claim.since,
        }
    begun = [
        {"trial": r.label, "epoch": r.epochs, "max_epochs": run.plan.max_epochs, "starts": list(r.starts)}
        for r in run.records
        if r.state is State.RUNNING
    ]
    alive = run.state is RunState.RUNNING
    return {
        "run": run.folder.name,
        "study": run.plan.study,
        "id": run.plan.run_id,
        "folder": run.folder.uri,
        "copy_of": run.original.uri if run.original else None,
        "created": run.facts["created"],
        "state": run.state.value,
        "finished": bool(run.facts.get("finished")),
        "reason": run.reason,
        "restart": None
        if run.restart is None
        else {"at": run.restart.at, "number": run.restart.number, "of": run.restart.of},
        "driver": driver,
        "stage": run.stage,
        "trials": {"ended": run.ended, "total": run.total},
        "lanes": {
            lane: {state.value: count for state, count in run.counts(lane).items()}
            for lane in [*(p.name for p in run.plan.lanes), "confirm"]
        },
        "running": begun if alive else [],
        "waiting": [] if alive else begun,
        "best": None
        if run.best is None
        else {
            "trial": run.best.label,
            "objectives": {o.metric: run.best.judged[o.metric] for o in run.plan.objectives},
            "params": dict(run.best.params),
        },
        "evaluated": len(run.evaluated),
        "confirmed": {"complete": run.confirmed, "total": run.to_confirm},
        "seconds_left": None if run.state in (RunState.DONE, RunState.FAILED) else left.seconds,
        "resume": None if goes_on(run) else run.resume_command,
        "mlflow": {"uri": run.facts.get("tracking_uri"), "links": run.facts.get("links") or {}},
    }
