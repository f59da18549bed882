"""Keyword arguments become the command line that asks for the same, so that both go one way."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robust_tuner as rt
from robust_tuner.arguments import command_line, keywords
from robust_tuner.options import EvaluateArguments, ResumeArguments, RunArguments
from tuner.planning.command_line import parse
from tuner.planning.launch_options import LaunchOptions


def options(**values: Any) -> LaunchOptions:
    return parse(["--study", "s", *command_line("study", values)])


def test_values_are_those_of_the_command_line() -> None:
    assert options(
        trials=9,
        seed=np.int64(3),
        time_budget="1.5h",
        gpus_per_trial=0.25,
        pack="off",
        stages=("report", "search"),
        allow_duplicates=True,
        data_dir=Path("/data"),
        warm_start=["x", "y"],
        max_epochs=None,
    ) == LaunchOptions(
        study="s",
        trials=9,
        seed=3,
        time_budget_s=5400.0,
        gpus_per_trial=0.25,
        pack=1,
        stages=("search", "report"),
        allow_duplicates=True,
        data_dir="/data",
        warm_start=("x", "y"),
    )


def test_what_judges_a_study() -> None:
    both = ("accuracy/clean>=0.9", "auroc/all>=0.8")
    floors = [floor.metric for floor in options(floor=both).floor if floor is not None]
    assert floors == ["val/accuracy/clean", "val/auroc/all"]
    assert len(options(floor=both[0]).floor) == 1
    assert options(eval_epsilon=(0.1, 0.2), objective="accuracy/clean").eval_epsilon == (0.1, 0.2)


@pytest.mark.parametrize(
    ("value", "arms"), [((), ()), ("none", ()), (["oe", "gauss"], ("oe", "gauss")), (None, None)]
)
def test_arms(value: Any, arms: Any) -> None:
    assert options(arms=value).arms == arms


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (np.float32(0.5), "0.5"),
        (np.float64(0.1), "0.1"),
        (1e-05, "1e-05"),
        (3, "3"),
        (True, "true"),
        ("pgd", "pgd"),
        (Path("/a b"), "/a b"),
        (rt.Float(1e-4, 1e-2, log=True), "loguniform(0.0001, 0.01)"),
        (rt.Int(1, 9), "int(1, 9)"),
        (rt.Choice(("a", 2)), "choice(a, 2)"),
        ("loguniform(1e-4, 1e-2)", "loguniform(1e-4, 1e-2)"),
    ],
)
def test_settings(value: Any, text: str) -> None:
    assert options(settings={"key": value}).settings == (f"key={text}",)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"trails": 3}, "unknown option 'trails'; did you mean trials?"),
        ({"set": {}}, "unknown option 'set'; did you mean "),
        ({"resume": "r"}, "unknown option 'resume'; "),
        ({"submit": True}, "unknown option 'submit'; "),
        ({"train": "yes"}, "train is 'yes'; it must be True or False"),
        ({"settings": ["lr=1"]}, "settings is ['lr=1']; it must be a mapping such as {'lr': 0.001}"),
        ({"settings": {"lr": object}}, "lr is <class 'object'>; give a number, a text or a range"),
    ],
)
def test_what_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(rt.UsageError) as told:
        command_line("study", values)
    assert str(told.value).startswith(says)


@pytest.mark.parametrize(
    ("function", "action"), [(rt.run, "study"), (rt.resume, "resume"), (rt.evaluate, "evaluate")]
)
def test_help_spells_the_options_out(function: Any, action: str) -> None:
    parameters = inspect.signature(function).parameters
    assert set(keywords(action)) <= set(parameters)
    assert parameters["settings"].kind is inspect.Parameter.KEYWORD_ONLY
    documented = inspect.getdoc(function)
    assert documented is not None
    for name, option in keywords(action).items():
        assert f"{name}: {option.help}" in documented


@pytest.mark.parametrize(
    ("types", "action"),
    [(RunArguments, "study"), (ResumeArguments, "resume"), (EvaluateArguments, "evaluate")],
)
def test_every_option_has_a_type(types: Any, action: str) -> None:
    assert set(types.__annotations__) == set(keywords(action))


def test_each_function_takes_what_goes_with_its_action() -> None:
    study, resume, evaluate = map(keywords, ("study", "resume", "evaluate"))
    assert set(study) - set(resume) == {"train", "preset", "run_name"}
    assert set(resume) - set(study) == {"allow_changed_code"}
    assert "network" in evaluate
    assert not {"trials", "json"} & set(evaluate)
