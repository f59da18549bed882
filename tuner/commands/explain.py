"""`launch.py --why RUN TRIAL`: why a trial ended as it did, from its stored decisions, attempts and log."""

import re

from trainables.base.storage import read_file
from tuner.analysis.metric_text import duration, metric_label, setting_text, value_text
from tuner.analysis.selection import point_of, reaches
from tuner.base.errors import UsageError
from tuner.base.records import Decision, State, TrialRecord, trial_key
from tuner.base.text import as_line
from tuner.commands.run_state import RunSnapshot, RunState, read_run
from tuner.planning.launch_options import LaunchOptions
from tuner.search.learning_curves import rank

LOG_LINES = 12


def answer(options: LaunchOptions) -> str:
    """Return what --why prints.

    Raises:
        UsageError: there is no such run or trial.
    """
    assert options.why is not None
    name, trial = options.why
    run = read_run(name, options.storage, options.study_storage)
    return "\n".join(map(as_line, lines_of(run, find_trial(run, trial))))


def find_trial(run: RunSnapshot, trial: str) -> TrialRecord:
    """Return the trial that a user named: "3", "0003" or "search-3"; "oe-3" or "oe-0003".

    Raises:
        UsageError: there is none, with those there are.
    """
    match = re.fullmatch(r"(?:(.+)-)?(\d+)", trial)
    lane, number = (match[1] or "search", int(match[2])) if match else ("", -1)
    for record in run.lane(lane):
        if record.number == number:
            return record
    lanes = dict.fromkeys(record.lane for record in run.records)
    known = [f"{trial_key(lane, 0)} to {trial_key(lane, len(run.lane(lane)) - 1)}" for lane in lanes]
    there = f"it has {', '.join(known)}" if known else "it has none yet"
    raise UsageError(f"run {run.folder.name} has no trial {trial!r}; {there}")


def lines_of(run: RunSnapshot, record: TrialRecord) -> list[str]:
    """Return everything that explains a trial's state."""
    lines = [f"trial {record.key} of run {run.folder.name} ({record.role}): {state_text(run, record)}"]
    if record.reason:
        lines.append(f"reason: {record.reason}")
    lines += ["", *_rungs(run, record), *_floors(run, record)]
    lines += ["", f"method {record.method}, data set {run.plan.dataset}, seed {record.seed}"]
    if record.arm:
        lines.append(f"arm {record.arm}, fresh seed {record.seed_index}")
    shown = record.params or record.configuration  # a confirm trial searches nothing
    lines += [f"  {key} = {setting_text(value)}" for key, value in shown.items()]
    lines += ["", *_attempts(record)]
    if record.judged_epoch:
        lines.append(f"judged by epoch {record.judged_epoch}, the best on validation data")
    if record.checkpoint:
        lines.append(f"checkpoint: {record.checkpoint}")
    return lines + _log(run, record)


def state_text(run: RunSnapshot, record: TrialRecord) -> str:
    """Return the state in words, with the epoch reached."""
    reached = f"epoch {record.epochs} of {run.plan.max_epochs}"
    if record.state is State.RUNNING:
        if run.state in (RunState.RUNNING, RunState.SILENT):
            return f"RUNNING, {reached} done"
        return f"interrupted after {reached}; --resume {(run.original or run.folder).name} continues it"
    took = f", {duration(record.seconds)} of training" if record.history else ""
    return f"{record.state} at {reached}{took}"


def _rungs(run: RunSnapshot, record: TrialRecord) -> list[str]:
    """Return a line for each epoch at which the trial was compared, from the stored decisions."""
    objectives = run.plan.objectives
    epochs = [
        epoch
        for epoch, entry in record.history.items()
        if epoch in run.plan.rungs or entry.decision is Decision.PRUNE
    ]
    if record.lane == "confirm":
        return ["confirm trials are never stopped"]
    if not epochs:
        return [_uncompared(run, record)]
    lines = [f"compared by {', '.join(metric_label(o.metric) for o in objectives)}:"]
    for epoch in epochs:
        own = record.history[epoch]
        values = ", ".join(value_text(o.metric, own.metrics.get(o.metric)) for o in objectives)
        decision = "stopped" if own.decision is Decision.PRUNE else "went on"
        lines.append(f"  at epoch {epoch}: {values}, {_place(run, record, epoch)}: {decision}")
    return lines


def _uncompared(run: RunSnapshot, record: TrialRecord) -> str:
    """Return why there is no comparison to show of a trial of a search."""
    first = run.plan.schedule.first
    if first is None:
        return "compared with no other trial: every trial trains to its end"
    if record.epochs >= first:
        return "went on at every comparison"
    if record.state is State.RUNNING:
        return f"compared with no other trial yet; the first comparison is at epoch {first}"
    return f"compared with no other trial: it ended before the first comparison, at epoch {first}"


def _place(run: RunSnapshot, record: TrialRecord, epoch: int) -> str:
    """Return the trial's place when it was decided, and the one it has now if more have got there since."""
    own = record.history[epoch]
    objectives = run.plan.objectives
    others = [
        point_of(objectives, r.history[epoch].metrics)
        for r in run.lane(record.lane)
        if epoch in r.history and r.number != record.number
    ]
    now = 1 + rank(point_of(objectives, own.metrics), others), 1 + len(others)
    then = own.place or now
    text = f"{ordinal(then[0])} of {then[1]} when it was decided"
    return text if then == now else f"{text} ({ordinal(now[0])} of {now[1]} by now)"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, 11th, 21st ..."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _floors(run: RunSnapshot, record: TrialRecord) -> list[str]:
    if record.state is not State.COMPLETE:
        return []
    reference = run.notes.get("reference", {})
    lines = []
    for floor in run.plan.floors:
        if floor.metric not in record.judged or (
            floor.below_reference is not None and floor.metric not in reference
        ):
            continue
        value, bound = record.judged[floor.metric], floor.bound(reference.get(floor.metric))
        met = "met" if reaches(value, bound) else "missed, so it cannot win"
        shown = f"{value_text(floor.metric, value)}, at least {value_text(floor.metric, bound)}"
        lines.append(f"floor: {metric_label(floor.metric)} {shown}: {met}")
    return lines


def _attempts(record: TrialRecord) -> list[str]:
    times = ", ".join(record.starts)
    if record.attempt <= 1:
        return [f"started once: {times}" if times else "never started"]
    return [
        f"started {record.attempt} times: {times}; each but the first after a lost worker or a lost driver"
    ]


def _log(run: RunSnapshot, record: TrialRecord) -> list[str]:
    """Return the end of the trial's log: tracebacks, lost workers."""
    path = run.folder.local / "logs" / f"{record.key}.log"
    try:
        text = read_file(path).decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        where = (
            f"is on the driver's machine, not here ({path})"
            if run.folder.remote
            else "is empty: nothing went wrong"
        )
        return [f"its log {where}"]
    except OSError as error:
        return [f"its log {path} cannot be read: {error.strerror or error}"]
    deaths = sum("worker lost: " in line for line in text)
    lines = [f"workers lost: {deaths}"] if deaths else []
    return [*lines, f"last lines of {path}:", *(f"  {line}" for line in text[-LOG_LINES:])]
