"""Kill, Ctrl-C, SIGTERM and failing trials: nothing lost, nothing twice, the truth in every state."""

import os
import signal
import time
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Launcher
from tests.integration.test_main_job import rows, runs_of, small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEARCH = ["--stages", "search,evaluate,report", "--concurrency", "1"]
ALONE = ["--stages", "search,report", "--arms", "none", "--concurrency", "1"]


def comparable(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows without wall-clock times: everything else must be equal to the last bit."""
    return [{k: v for k, v in row.items() if "seconds" not in k and k != "attempt"} for row in found]


def check_mlflow(launcher: Launcher, name: str, trials: int) -> None:
    import mlflow

    _, children = runs_of(launcher, name)
    numbers = sorted(int(c.data.tags["trial"]) for c in children if c.data.tags["role"] == "search")
    assert numbers == list(range(trials))
    store = mlflow.MlflowClient(f"sqlite:///{launcher.folder}/mlflow.db")
    for child in children:
        steps = [m.step for m in store.get_metric_history(child.info.run_id, "seconds")]
        assert steps == list(range(1, len(steps) + 1)), child.data.tags["trial"]
        assert child.info.status == "FINISHED"


@pytest.mark.long
def test_killed_in_mid_search_and_resumed_equals_uninterrupted(launcher: Launcher) -> None:
    """Three kill -9 of the driver at different moments; one worker, so every number must be the same."""
    whole = launcher.run(*small("whole", 5, *SEARCH))
    assert whole.code == 0, whole.out + whole.err
    process = launcher.start(*small("cut", 5, *SEARCH))
    for count in (2, 9, 14):
        launcher.wait_for("cut", " epoch ", count, process)
        launcher.kill(process)
        process = launcher.start("--study", "aoe_sigma", "--resume", *SEARCH)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, out + err
    assert comparable(rows(launcher, "cut")) == comparable(rows(launcher, "whole"))
    assert comparable(rows(launcher, "cut", "arms.csv")) == comparable(rows(launcher, "whole", "arms.csv"))
    check_mlflow(launcher, "cut", 5)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_print_how_to_go_on(launcher: Launcher, number: int, code: int) -> None:
    """To the whole process group, as a terminal and a batch system send them: Ray must not get them."""
    process = launcher.start(*small("stopped", 3, *ALONE), group=0)
    launcher.wait_for("stopped", " epoch ", 2, process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    command = f"python {ROOT}/launch.py --study aoe_sigma --resume stopped"
    assert command in out + err
    assert "Traceback" not in out + err
    done = launcher.run(*command.split()[2:])
    assert done.code == 0, done.out + done.err
    assert [row["number"] for row in rows(launcher, "stopped")] == ["0", "1", "2"]
    check_mlflow(launcher, "stopped", 3)


def test_two_drivers_are_refused(launcher: Launcher) -> None:
    process = launcher.start(*small("mine", 3, *ALONE))
    launcher.wait_for("mine", " epoch ", 1, process)
    second = launcher.run("--resume", "mine")
    assert second.code == 2
    assert "is being driven by process" in second.err
    launcher.kill(process)
    time.sleep(0.5)


def states(launcher: Launcher, name: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows(launcher, name):
        found.setdefault(row["state"], []).append(row)
    return found


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("lr=choice(0.003, 1e30)", "diverged"),
        ("outliers.count=choice(100, 1000000000)", "out of memory"),
    ],
)
def test_a_failing_trial_has_its_reason_and_the_study_goes_on(
    launcher: Launcher, setting: str, reason: str
) -> None:
    arguments = small("some", 6, *ALONE, "--set", "attack.epsilon=0.1")
    name = setting.partition("=")[0]
    instead = [n for n, word in enumerate(arguments) if word.startswith(f"{name}=")]  # a key is set once
    if instead:
        arguments[instead[0]] = setting
    else:
        arguments += ["--set", setting]
    done = launcher.run(*arguments)
    assert done.code == 0, done.out + done.err
    found = states(launcher, "some")
    assert found["FAIL"], found
    assert found["COMPLETE"], found
    for row in found["FAIL"]:
        assert reason in row["reason"]
    _, children = runs_of(launcher, "some")
    failed: list[Any] = [c for c in children if c.data.tags["state"] == "FAIL"]
    assert all(c.info.status == "FAILED" and reason in c.data.tags["reason"] for c in failed)


def test_when_every_trial_fails_the_commonest_reason_is_said(launcher: Launcher) -> None:
    done = launcher.run(*small("none", 3, "--set", "lr=1e30"))
    assert done.code == 1
    assert "every trial failed" in done.err
    assert "diverged" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert runs_of(launcher, "none")[0].info.status == "FAILED"
