"""What a launch shows on MLflow's pages, as it is told to the tracker."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from tests.unit.study_results import plan, realistic, result
from tuner.commands.mlflow_pages import note_on_model, open_pages, show_answer, show_arms
from tuner.tracking.notes import CLOSING

TRIALS = "/runs?workflowType=machine_learning&viewStateShareKey=search-"


@dataclass
class Told:
    """Records what a tracker is told."""

    views: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, bool, str]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    of_experiment: dict[str, str] = field(default_factory=dict)

    def view(self, name: str, view: Any, title: str) -> None:
        self.views[name] = title

    def note(self, text: str, *, on: str, first: bool = False) -> None:
        self.notes.append((on, first, text))

    def tag(self, key: str, tags: dict[str, str]) -> None:
        assert key == ""
        self.tags |= tags

    def experiment_tags(self, tags: dict[str, str]) -> None:
        self.of_experiment |= tags

    def experiment_id(self) -> str:
        return "7"

    def parent_id(self) -> str:
        return "p0"

    def child_id(self, key: str) -> str:
        return f"run-{key}"


def session(told: Told, **changes: Any) -> Any:
    return SimpleNamespace(tracker=told, plan=plan(**changes))


def test_who_looks_while_the_study_runs_finds_trials_and_no_empty_page() -> None:
    told = Told()
    open_pages(session(told))
    assert told.views == {"search": "aoe_sigma-test"}
    assert [(on, first) for on, first, _ in told.notes] == [("experiment", True), ("run", True)]
    for _, _, text in told.notes:
        line = text.splitlines()[0]
        assert f"[trials](<#/experiments/$(experiment){TRIALS}$(parent)>)" in line
        for nothing_yet in ("arms", "report", "winner", "model"):
            assert nothing_yet not in line
        assert CLOSING in text
    show_arms(session(told))
    assert list(told.views) == ["search", "arms"]


def test_the_answer_with_links_to_everything_there_is() -> None:
    told = Told()
    found = replace(realistic(), model="aoe_sigma.digits-open/3")
    best = found.best
    assert best is not None
    show_answer(session(told), found)
    assert told.tags["best_trial"] == best.label
    assert told.tags["winner"].startswith(f"t{best.number} ")
    assert told.tags["model"] == found.model
    assert told.of_experiment == {"claim": "yes, +11.0 ± 0.9 points vs oe"}
    texts = {on: text for on, first, text in told.notes if not first}
    assert set(texts) == {"experiment", "run"}
    for on, text in texts.items():
        line = text.splitlines()[0]
        assert line.startswith(
            f"Winner: {told.tags['winner']}, +11.0 ± 0.9 points vs oe, 5 seeds; claim supported. ["
        )
        assert f"<#/experiments/$(experiment)/runs/$(run:{best.key})?workflowType=machine_learning>" in line
        assert "[model](<#/models/aoe_sigma.digits-open/versions/3>)" in line
        assert "[charts of the arms](<#/experiments/$(experiment)/runs?" in text
        assert "arms-$(parent)&compareRunsMode=CHART>" in text
        assert ("[this run and its files]" in text) == (on == "experiment")
        assert len(text) <= 7800
    of_model = note_on_model(session(told), found)
    assert "[trials](<#/experiments/7/runs?workflowType=machine_learning>)" in of_model  # no view was taken
    assert f"[winner](<#/experiments/7/runs/run-{best.key}?" in of_model
    assert "$(" not in of_model
    show_arms(session(told))
    assert "[charts of the arms](<#/experiments/7/" in note_on_model(session(told), found)


def test_no_winner_no_model_no_arms() -> None:
    told = Told()
    show_answer(session(told), result())
    assert told.tags == {}
    assert told.of_experiment == {"claim": "not judged"}
    for _, _, text in told.notes:
        assert text.startswith("No winner.")
        for missing in ("[winner]", "[model]", "arms-"):
            assert missing not in text
