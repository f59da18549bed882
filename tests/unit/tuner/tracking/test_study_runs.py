"""A study's MLflow runs found or created, on a client that only remembers. With real stores: tests/tracking."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.tracking.study_runs import KIND, StudyRuns

ENTITIES = SimpleNamespace(ViewType=SimpleNamespace(ALL=3))


class Page(list[Any]):
    """One page of a search."""

    token = None


def run(number: int, tags: dict[str, str], metrics: int = 0, stage: str = "active") -> Any:
    held = {f"m{i}": 1.0 for i in range(metrics)}
    proto = SimpleNamespace(metrics=[SimpleNamespace(key=name, step=3) for name in held])
    data = SimpleNamespace(tags=tags, metrics=held, params={}, to_proto=lambda: proto)
    info = SimpleNamespace(run_id=f"r{number}", status="RUNNING", end_time=None, lifecycle_stage=stage)
    return SimpleNamespace(data=data, info=info)


class Client:
    """Remembers experiments and runs; `doubled`: a lost answer, after which the request is executed twice."""

    def __init__(self, experiment: Any = None, runs: list[Any] | None = None, doubled: bool = False) -> None:
        self.experiment, self.runs, self.doubled = experiment, runs or [], doubled
        self.numbers = itertools.count(100)
        self.deleted: list[str] = []

    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiment

    def create_experiment(self, name: str, location: Any, tags: dict[str, str]) -> str:
        self.experiment = SimpleNamespace(experiment_id="7", tags=dict(tags), lifecycle_stage="active")
        return "7"

    def set_experiment_tag(self, experiment: str, name: str, value: str) -> None:
        self.experiment.tags[name] = value

    def create_run(self, experiment: str, start: Any, tags: dict[str, str], name: str) -> Any:
        made = [run(next(self.numbers), dict(tags)) for _ in range(1 + self.doubled)]
        self.runs += made
        return made[0]

    def delete_run(self, run_id: str) -> None:
        self.deleted.append(run_id)
        self.runs = [found for found in self.runs if found.info.run_id != run_id]

    def search_runs(self, experiments: list[str], query: str, **_: Any) -> Page:
        name, _, value = query.partition(" and ")[0].partition(" = ")
        key = name.removeprefix("tags.`").removesuffix("`")
        return Page(r for r in self.runs if r.data.tags.get(key) == value.strip("'"))


def study(client: Client, uri: str = "http://h", problems: list[str] | None = None) -> StudyRuns:
    told = problems if problems is not None else []
    made = StudyRuns(uri, "aoe", "one", "one-abc", told.append)
    made.client, made.entities = client, ENTITIES
    return made


def test_a_new_experiment_is_one_of_machine_learning() -> None:
    client = Client()
    found = study(client)
    assert found.find() is True
    assert client.experiment.tags == KIND
    assert found.experiment_id == "7"
    assert list(found.runs) == [""]
    assert found.find() is False  # it is there now


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": "b"}, {"a": "b", **KIND}),
        ({"mlflow.experimentKind": "mine"}, {"mlflow.experimentKind": "mine"}),
    ],
)
def test_the_kind_that_a_user_chose_stays(before: dict[str, str], after: dict[str, str]) -> None:
    client = Client(SimpleNamespace(experiment_id="7", tags=dict(before), lifecycle_stage="active"))
    study(client).find()
    assert client.experiment.tags == after


def test_a_request_executed_twice_leaves_one_run() -> None:
    client = Client(doubled=True)
    found = study(client)
    found.find()
    assert len(client.deleted) == 1
    child = found.of({"op": "child", "key": "0007", "name": "t7", "t": 1})
    assert found.of({"op": "metrics", "key": "0007", "t": 2}) is child
    assert len(client.deleted) == 2
    assert [r.data.tags.get("key") for r in client.runs] == [None, "0007"]


def test_of_two_runs_of_a_trial_the_fuller_is_kept_and_the_other_told() -> None:
    tags = {"mlflow.parentRunId": "r1", "key": "0007"}
    parent = run(1, {"run_id": "one-abc"})
    problems: list[str] = []
    client = Client(runs=[parent, run(2, tags, 1), run(3, tags, 5), run(4, tags)])
    found = study(client, problems=problems)
    assert found.find() is False
    assert found.runs["0007"].id == "r3"
    assert found.runs["0007"].steps == {f"m{i}": 3 for i in range(5)}
    assert client.deleted == ["r4"]  # it holds nothing
    assert problems == ["0007: a second MLflow run, r2, is left as it is"]
