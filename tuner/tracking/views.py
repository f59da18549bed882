"""Shared views of MLflow's runs table: a link opens on the trials or on the arms, with filter, order, columns, charts.

MLflow keeps such a view in a tag of the experiment. It does not document the form; this one was read from MLflow 3.17
and is held by `tests/browser/test_mlflow_ui.py`. What a view does not name has MLflow's default.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.analysis.metric_text import larger_is_better, metric_label
from tuner.analysis.verdict import claim_metric, headline
from tuner.planning.plan import Plan
from tuner.tracking.run_names import judged_name

State = dict[str, Any]
TAG = "mlflow.sharedViewState."  #: of the experiment, followed by the view's key
PARENT = "$(parent)"  #: stands for the id of the study's run until the store has given it one
SEARCH, ARMS = "search", "arms"
_FIRST = {
    "attributes.`Run Name`": 250,
    "runDateAndNestInfo": 130,
}  # columns that are always there: their widths
MOST_COLUMNS = 12  # of parameters
MOST_TAG = 20_000  # characters that MLflow takes


def search_view(plan: Plan) -> State:
    """Return the study's own trials: objective, floors, first headline metric, parameters, and why a trial ended."""
    objective = plan.objectives[0]
    judged = judged_name(plan, objective.metric)
    params = list(plan.lanes[0].space)
    columns = [
        *(_column("metrics", judged_name(plan, name)) for name in plan.judged_metrics),
        _column("metrics", claim_metric(plan)),
        *(_column("params", name) for name in params[:MOST_COLUMNS]),
        *(_column("tags", name) for name in ("state", "reason")),
        _column("attributes", "Duration"),
    ]
    curves = [_chart("LINE", objective.metric, "objective"), _chart("BAR", judged, "objective")]
    charts = [*([_parallel(params, judged)] if params else []), *curves]
    sections = {
        "settings": _section("Which settings work: the best trials", 1),
        "objective": _section(f"The objective: {metric_label(objective.metric)}", 2),
    }
    shown = {chart["metricSectionId"]: sections[chart["metricSectionId"]] for chart in charts}
    state = _state("search", judged, objective.direction == "maximize", columns, charts, shown)
    return state | {"runsHiddenMode": "FIRST_20_RUNS"}


def arms_view(plan: Plan) -> State:
    """Return the runs of the confirm stage, a row per arm with its mean over the seeds."""
    metrics, claim = headline(plan), claim_metric(plan)
    columns = [_column("metrics", name) for name in metrics]
    charts = [_chart("BAR", name, "headline") for name in metrics]
    sections = {"headline": _section("Test metrics, mean over the fresh seeds", 2)}
    return _state("confirm", claim, larger_is_better(claim), columns, charts, sections) | {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "arm"}]},
        "runsHiddenMode": "SHOW_ALL",
    }


def _state(
    lane: str,
    order_by: str,
    largest_first: bool,
    columns: Sequence[str],
    charts: Sequence[State],
    sections: Mapping[str, State],
) -> State:
    widths = {column: min(max(90, 7 * len(column.partition("`")[2]) + 15), 200) for column in columns}
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{PARENT}' and tags.lane = '{lane}'",
        "orderByKey": _column("metrics", order_by),
        "orderByAsc": not largest_first,
        "selectedColumns": list(columns),
        "columnOrder": [*_FIRST, *columns],
        "columnWidths": {**_FIRST, **widths},
        "compareRunCharts": list(charts),
        "compareRunSections": [{"uuid": key, **section} for key, section in sections.items()],
        "isAccordionReordered": True,
    }


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _section(title: str, columns: int) -> State:
    return {"name": title, "display": True, "isReordered": True, "columns": columns}


def _chart(kind: str, metric: str, section: str) -> State:
    chart: State = {"metricKey": metric}
    if kind == "LINE":
        chart |= {"selectedMetricKeys": [metric], "useGlobalXaxisKey": True, "yAxisKey": "metric"}
    return _card(kind, metric, section, chart)


def _parallel(params: Sequence[str], metric: str) -> State:
    chart = {"selectedParams": list(params), "selectedMetrics": [metric], "showAllRuns": False}
    return _card("PARALLEL", metric, "settings", chart)


def _card(kind: str, metric: str, section: str, chart: State) -> State:
    place = {"uuid": f"{kind}-{metric}", "type": kind, "metricSectionId": section}
    return {**place, **chart, "runsCountToCompare": 20, "deleted": False, "isGenerated": False}


def view_key(name: str, parent_id: str) -> str:
    """Return the key of a study's view, for the tag and for links."""
    return f"{name}-{parent_id}"


def view_tag(name: str, state: State, parent_id: str, run: str, time_ms: int) -> tuple[str, str]:
    """Return the name and the value of the experiment's tag that holds a view.

    Args:
        run: name of the study's run, for the list of views.
        time_ms: when it was written, in milliseconds since 1970.

    Raises:
        ValueError: it is longer than MLflow takes.
    """
    text = json.dumps(state, separators=(",", ":")).replace(PARENT, parent_id)
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    value = json.dumps({"name": f"{name}: {run}", "createdAt": time_ms, "state": packed})
    if len(value) > MOST_TAG:
        raise ValueError(f"the view {name} has {len(value)} characters, MLflow takes {MOST_TAG}")
    return TAG + view_key(name, parent_id), value
