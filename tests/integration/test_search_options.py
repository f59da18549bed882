"""A search by another sampler and scheduler within a budget, and one that starts with what it found out."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Launcher
from tests.integration.test_main_job import rows, runs_of, small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
STAGES = ["--stages", "search,report", "--concurrency", "1"]


def plan_of(launcher: Launcher, name: str) -> dict:  # type: ignore[type-arg]
    data: dict = json.loads((launcher.folder / "runs" / name / "plan.json").read_text())["plan"]  # type: ignore[type-arg]
    return data


def test_another_search_and_a_warm_start_from_it(launcher: Launcher) -> None:
    """Six trials a lane asked for; 8 epochs allow fewer, the rest of the two lanes is left out and said so."""
    first = launcher.run(
        *small("first", 6, *STAGES, "--sampler", "random", "--scheduler", "median", "--epoch-budget", "8"),
        timeout=580,
    )
    assert first.code == 0, first.out + first.err
    assert "the budget is spent: 9 of 12 trials were not started" in first.out
    found = rows(launcher, "first")
    assert [row["epochs"] for row in found] == ["3"] * len(found)  # too few trials for a median
    report = (launcher.folder / "runs" / "first" / "report.md").read_text()
    assert "Epoch budget of the search: 8; used: 9." in report
    assert "random, median" in report
    parent, _ = runs_of(launcher, "first")
    assert parent.data.metrics["used/epochs"] == 9
    assert parent.data.metrics["used/cpu_seconds"] > 0
    assert parent.data.tags["sampler"] == "random"

    planned = launcher.run(*small("next", 2, "--warm-start", "first", "--dry-run"))
    assert planned.code == 0, planned.out + planned.err
    assert "(at the pace of first)" in planned.out
    assert not (launcher.folder / "runs" / "next").exists()

    arguments = [*STAGES, "--warm-start", "first", "--scheduler", "none"]
    second = launcher.run(*small("second", 1, *arguments), timeout=580)
    assert second.code == 0, second.out + second.err
    line = f"warm start of search: {len(found)} trials of first"
    assert line in second.out
    assert line in (launcher.folder / "runs" / "second" / "report.md").read_text().lower()
    plan = plan_of(launcher, "second")
    assert (plan["sampler"], plan["scheduler"]) == ("tpe", "none")
    assert [o["source"] for o in plan["lanes"][0]["prior"]] == [f"first/{n:04d}" for n in range(len(found))]

    parent, _ = runs_of(launcher, "second")
    assert parent.data.metrics["used/epochs"] == 6  # one trial in each of two lanes, three epochs

    # a resume needs the earlier run no more
    (launcher.folder / "runs" / "first").rename(Path(launcher.folder) / "moved")
    third = launcher.run("--resume", "second", "--trials", "2", *STAGES, timeout=580)
    assert third.code == 0, third.out + third.err
    assert [row["number"] for row in rows(launcher, "second")] == ["0", "1"]
    parent, _ = runs_of(launcher, "second")
    assert parent.data.metrics["used/epochs"] == 12
