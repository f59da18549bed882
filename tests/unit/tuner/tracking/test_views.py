"""Shared views of MLflow's runs table: what they filter, order and show. That MLflow opens them: tests/browser."""

from dataclasses import replace

from search_spaces.study import Objective
from tests.unit.study_results import CLAIM, CLEAN, OBJECTIVE, plan
from tuner.tracking.views import MOST_TAG, arms_view, search_view, view_tag


def test_the_search_by_its_objective_with_every_parameter() -> None:
    study = plan()
    found = search_view(study)
    assert found["searchFilter"] == "tags.`mlflow.parentRunId` = '$(parent)' and tags.lane = 'search'"
    assert (found["orderByKey"], found["orderByAsc"]) == (f"metrics.`{OBJECTIVE}`", False)
    assert found["selectedColumns"][:3] == [f"metrics.`{name}`" for name in (OBJECTIVE, CLEAN, CLAIM)]
    for name in study.lanes[0].space:
        assert f"params.`{name}`" in found["selectedColumns"]
    parallel = found["compareRunCharts"][0]
    assert parallel["selectedParams"] == list(study.lanes[0].space)
    assert parallel["selectedMetrics"] == [OBJECTIVE]


def test_trials_that_are_judged_by_their_best_epoch_are_ordered_by_it() -> None:
    """MLflow shows the last value of a metric; the curve is that of the objective itself."""
    found = search_view(replace(plan(), epoch="best"))
    assert found["orderByKey"] == f"metrics.`judged/{OBJECTIVE}`"
    assert found["selectedColumns"][:3] == [
        f"metrics.`{name}`" for name in (f"judged/{OBJECTIVE}", f"judged/{CLEAN}", CLAIM)
    ]
    assert [chart.get("metricKey") for chart in found["compareRunCharts"]][1:] == [
        OBJECTIVE,
        f"judged/{OBJECTIVE}",
    ]


def test_smaller_is_better_comes_first() -> None:
    study = plan(objectives=(Objective("val/fpr95_id_pos/far", "minimize"),))
    assert search_view(study)["orderByAsc"] is True


def test_the_arms_in_every_headline_metric_averaged_over_seeds() -> None:
    study = plan()
    found = arms_view(study)
    assert found["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "arm"}]
    assert found["groupBy"]["aggregateFunction"] == "average"
    assert (found["orderByKey"], found["orderByAsc"]) == (f"metrics.`{CLAIM}`", False)
    assert found["selectedColumns"] == [f"metrics.`{name}`" for name in study.headline]
    assert [chart["metricKey"] for chart in found["compareRunCharts"]] == list(study.headline)


def test_every_chart_has_its_section() -> None:
    for view in (search_view(plan()), arms_view(plan())):
        sections = [section["uuid"] for section in view["compareRunSections"]]
        assert list(dict.fromkeys(chart["metricSectionId"] for chart in view["compareRunCharts"])) == sections
        charts = [chart["uuid"] for chart in view["compareRunCharts"]]
        assert len(set(charts)) == len(charts)


def test_a_study_that_searches_nothing_has_no_parallel_coordinates() -> None:
    study = plan()
    study = replace(study, lanes=(replace(study.lanes[0], space={}), *study.lanes[1:]))
    view = search_view(study)
    assert [chart["type"] for chart in view["compareRunCharts"]] == ["LINE", "BAR"]
    assert [section["uuid"] for section in view["compareRunSections"]] == ["objective"]


def test_a_space_of_many_parameters_fits_into_the_tag() -> None:
    study = plan()
    many = {
        f"option_{i}.of_some_length": domain for i in range(50) for domain in study.lanes[0].space.values()
    }
    study = replace(study, lanes=(replace(study.lanes[0], space=many), *study.lanes[1:]))
    view = search_view(study)
    name, value = view_tag("search", view, "0" * 32, "one", 1)
    assert name == "mlflow.sharedViewState.search-" + "0" * 32
    assert len(value) < MOST_TAG / 4
    assert len([column for column in view["selectedColumns"] if column.startswith("params")]) == 12
