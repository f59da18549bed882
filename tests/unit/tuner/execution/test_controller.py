"""What the controller does before it trains, without Ray: its jobs are called in this process."""

from types import SimpleNamespace
from typing import Any

import pytest

from trainables.base.registry import resolve_reference
from trainables.data.loading.leakage import leakage_notes
from tuner.execution.controller import Controller
from tuner.planning.command_line import parse
from tuner.planning.resolve import resolve


def look(stored: dict[str, Any], *arguments: str) -> list[tuple[Any, ...]]:
    """Return the arguments of the jobs that look for leaks, given what plan.json holds besides the plan."""
    plan = resolve(parse(["--study", "aoe_sigma", *arguments]), "r")
    folder = SimpleNamespace(entries=lambda: stored, update=lambda **values: stored.update(values))
    asked: list[tuple[Any, ...]] = []

    def remote(reference: str, gpu: bool) -> Any:
        assert resolve_reference(reference) is leakage_notes
        return lambda *given: asked.append(given) or ("a note",)

    fake = SimpleNamespace(plan=plan, folder=folder, _remote=remote, _wait=lambda jobs: jobs)
    Controller._look_for_leaks(fake)  # type: ignore[arg-type]
    return asked


def test_leaks_are_looked_for_once_and_what_was_found_is_in_plan_json() -> None:
    stored: dict[str, Any] = {}
    assert look(stored) == [("digits-open", "", [], False)]
    assert stored == {"duplicates": ["a note"]}
    assert look(stored) == []


@pytest.mark.parametrize("flag", [[], ["--allow-duplicates"]])
def test_every_file_of_outliers_is_compared(flag: list[str]) -> None:
    settings = ("outliers.generator=npz", "outliers.path=/data/o", "outliers.sigma=choice(1.0, 2.0)")
    ((*_, files, allowed),) = look({}, *flag, *(word for text in settings for word in ("--set", text)))
    assert {(o.generator, o.path, o.sigma) for o in files} == {
        ("npz", "/data/o", 1.0),
        ("npz", "/data/o", 2.0),
    }
    assert allowed is bool(flag)
