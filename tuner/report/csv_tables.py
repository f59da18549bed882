"""The CSV files of a run: the study's own trials, and everything it was compared with."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuner.analysis.results import StudyResult
from tuner.base.records import State, TrialRecord

Row = Mapping[str, Any]


def trials_csv(result: StudyResult) -> str:
    """Return one line per trial of the study's own search, in the order of their numbers.

    Columns: number, state, epochs, reason, feasible, the searched parameters, the last epoch's validation
    metrics, the test metrics. `feasible` is empty for a trial that is not complete.
    """
    records = sorted(result.lane("search"), key=lambda r: r.number)
    rows = [
        ({"number": r.number, **_state(result, r)}, r.params, _validation(r), result.tests.get(r.key, {}))
        for r in records
    ]
    return _csv(("number", "state", "epochs", "reason", "feasible"), rows, tuple(result.plan.lanes[0].space))


def arms_csv(result: StudyResult) -> str:
    """Return one line per trial of the other lanes: the baselines' searches and the confirm stage.

    The confirm stage's test metrics come with the arm and seed they belong to; an arm whose trials are not
    among the records is written from its results alone.
    """
    rows = []
    for r in sorted(result.records, key=lambda r: (r.lane == "confirm", r.lane, r.number)):
        if r.lane == "search":
            continue
        tests = result.tests.get(r.key) or _of_seed(result, r.arm, r.seed_index)
        rows.append((_arm_columns(result, r), r.params, _validation(r), tests))
    known = {r.arm for r in result.records if r.lane == "confirm"}
    for arm in result.arms:
        if arm.name in known:
            continue
        for index in range(max(map(len, arm.values.values()), default=0)):
            columns = {"lane": "confirm", "role": arm.role, "arm": arm.name, "seed_index": index}
            rows.append((columns, {}, {}, _of_seed(result, arm.name, index)))
    first = ("lane", "number", "role", "arm", "seed_index", "seed", "state", "epochs", "reason", "feasible")
    params = tuple(dict.fromkeys(key for lane in result.plan.lanes[1:] for key in lane.space))
    return _csv((*first, "seconds"), rows, params)


def _arm_columns(result: StudyResult, record: TrialRecord) -> Row:
    confirm = record.lane == "confirm"
    return {
        "lane": record.lane,
        "number": record.number,
        "role": record.role.value,
        "arm": record.arm if confirm else record.lane,
        "seed_index": record.seed_index if confirm else "",
        "seed": record.seed,
        "seconds": round(record.seconds, 3),
        **_state(result, record),
    }


def _state(result: StudyResult, record: TrialRecord) -> dict[str, Any]:
    complete = record.state is State.COMPLETE and record.lane != "confirm"
    return {
        "state": record.state.value,
        "epochs": record.epochs,
        "reason": " ".join(record.reason.split()),
        "feasible": str(record.key in result.feasible).lower() if complete else "",
    }


def _validation(record: TrialRecord) -> dict[str, float]:
    return {name: value for name, value in record.last.items() if name.startswith("val/")}


def _of_seed(result: StudyResult, arm: str, index: int) -> dict[str, float]:
    found = result.arm(arm)
    values = found.values if found else {}
    return {metric: series[index] for metric, series in values.items() if 0 <= index < len(series)}


def _csv(first: Sequence[str], rows: Sequence[tuple[Row, Row, Row, Row]], params: Sequence[str]) -> str:
    """Return a table: the first columns, parameters in the order of the space, then metrics by name."""
    known = [*params, *_names((row[1] for row in rows), params)]
    columns = [*first, *known, *_names(row[2] for row in rows), *_names(row[3] for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row[0], **row[1], **row[2], **row[3]})
    return text.getvalue()


def _names(parts: Iterable[Row], without: Sequence[str] = ()) -> list[str]:
    return sorted({name for part in parts for name in part} - set(without))
