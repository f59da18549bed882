"""How a launch ends: exit status, what is raised, what is stored in the run folder and told to MLflow."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit import study_results
from trainables.base.errors import InputError
from tuner.base.errors import Interrupted, LeaseLost, StudyFailed, StudyHalted, UsageError
from tuner.base.records import State
from tuner.base.signals import Signals
from tuner.commands.publishing import what_helps
from tuner.commands.session import MLFLOW_STATUS, LaunchOutcome, Session
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.store.retention import Retention
from tuner.store.run_folder import RunFolder

RESUME = "python launch.py --study aoe_sigma --resume one --address auto --storage "


@dataclass
class Screen:
    """Records what a console is told."""

    lines: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        self.lines.append(line)

    def interrupted(self, command: str) -> None:
        self.lines.append(f"interrupted: {command}")

    def close(self) -> None:
        self.lines.append("closed")


@dataclass
class MlflowRun:
    """Records the status that a tracker is closed with."""

    unsent: int = 0
    status: str = ""
    last_error: str = "connection refused"
    problems: tuple[str, ...] = ()
    failing: bool = False
    waited_s: list[float] = field(default_factory=list)

    def flush(self, timeout_s: float) -> int:
        self.waited_s.append(timeout_s)
        return self.unsent

    def close(self, status: str, timeout_s: float) -> int:
        self.status = status
        self.waited_s.append(timeout_s)
        return self.unsent


@dataclass
class Held:
    """A lease without a problem."""

    problem: str = ""


def session(root: Path, unsent: int = 0) -> Session:
    options = LaunchOptions("aoe_sigma", address="auto", storage=str(root))
    plan = resolve(options, "one", "python launch.py --study aoe_sigma")
    folder = RunFolder(str(root), "one")
    folder.create(plan, {})
    fakes: dict[str, Any] = {"lease": Held(), "console": Screen(), "tracker": MlflowRun(unsent)}
    return Session(
        plan=plan,
        folder=folder,
        options=options,
        signals=Signals(),
        retention=Retention(folder.files),
        uri="sqlite:///mlflow.db",
        storage_url="sqlite:///study.db",
        facts={},
        timings={},
        access_note="",
        **fakes,
    )


def work(result: int | BaseException) -> Any:
    def done(session: Session) -> int:
        if isinstance(result, BaseException):
            raise result
        return result

    return done


def stored(launch: Session) -> Any:
    return json.loads((launch.folder.local / "plan.json").read_text()).get("ended")


@pytest.mark.parametrize(
    ("result", "code", "outcome", "status"),
    [
        (0, 0, LaunchOutcome.DONE, "FINISHED"),
        (1, 1, LaunchOutcome.FAILED, "FAILED"),
        (Interrupted(143), 143, LaunchOutcome.INTERRUPTED, "KILLED"),
    ],
)
def test_a_launch_that_returns(
    tmp_path: Path, result: int | BaseException, code: int, outcome: LaunchOutcome, status: str
) -> None:
    launch = session(tmp_path)
    assert launch.carry_out(work(result)) == code
    launch.close()
    assert launch.outcome is outcome
    assert launch.tracker.status == status  # type: ignore[attr-defined]
    assert stored(launch)["state"] == outcome.value
    assert json.loads((launch.folder.local / "timings.json").read_text())["total"] > 0
    interrupted = [f"interrupted: {RESUME}{tmp_path}"] if outcome is LaunchOutcome.INTERRUPTED else []
    assert launch.console.lines == [*interrupted, "closed"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "raised", "says", "reason"),
    [
        (StudyFailed("every trial failed"), StudyFailed, "^every trial failed$", "every trial failed"),
        (
            StudyFailed("no winner", "add trials"),
            StudyFailed,
            "^no winner; add trials$",
            "no winner",
        ),
        (
            StudyHalted("the disk is full"),
            StudyFailed,
            f"^the disk is full, then continue with: {RESUME}",
            "the disk is full",
        ),
        (UsageError("no GPU here"), UsageError, "^no GPU here$", "no GPU here"),
        (InputError("a bad file"), InputError, "^a bad file$", "a bad file"),
        (
            ZeroDivisionError("token=abc\nb"),
            StudyFailed,
            f"logs/driver.log; continue with: {RESUME}",
            "ZeroDivisionError: token=*** b",
        ),
    ],
)
def test_a_launch_that_fails(
    tmp_path: Path, error: Exception, raised: type[Exception], says: str, reason: str
) -> None:
    launch = session(tmp_path)
    with pytest.raises(raised, match=says):
        launch.carry_out(work(error))
    launch.close()
    assert launch.tracker.status == "FAILED"  # type: ignore[attr-defined]
    assert (stored(launch)["state"], stored(launch)["reason"]) == ("failed", reason)
    assert (launch.folder.local / "logs" / "driver.log").exists() == isinstance(error, ZeroDivisionError)


def test_the_first_cause_is_named(tmp_path: Path) -> None:
    try:
        raise RuntimeError("a layer above") from ConnectionError("the database is gone")
    except RuntimeError as error:
        with pytest.raises(StudyFailed, match=r"^ConnectionError: the database is gone; details in"):
            session(tmp_path).carry_out(work(error))


def test_a_lost_lease_leaves_the_run_folder_alone(tmp_path: Path) -> None:
    launch = session(tmp_path)
    before = (launch.folder.local / "plan.json").read_bytes()
    with pytest.raises(LeaseLost):
        launch.carry_out(work(LeaseLost("another driver has it")))
    launch.close()
    assert (launch.folder.local / "plan.json").read_bytes() == before
    assert not (launch.folder.local / "timings.json").exists()
    assert launch.tracker.status == "KILLED"  # type: ignore[attr-defined]


def test_what_mlflow_has_not_got_is_said_with_the_way_to_send_it(tmp_path: Path) -> None:
    launch = session(tmp_path, unsent=3)
    launch.carry_out(work(0))
    launch.close()
    (line, _) = launch.console.lines  # type: ignore[attr-defined]
    assert line.startswith("MLflow does not answer (connection refused): 3 events are kept in ")
    assert line.endswith(f"send them with: {RESUME}{tmp_path}")


@pytest.mark.parametrize(("failing", "waited_s"), [(True, [30, 1, 1]), (False, [30, 30, 30])])
def test_an_mlflow_that_does_not_answer_is_waited_for_once(
    tmp_path: Path, failing: bool, waited_s: list[float]
) -> None:
    launch = session(tmp_path, unsent=3)
    launch.tracker.failing = failing  # type: ignore[misc]
    assert (launch.send_to_mlflow(), launch.send_to_mlflow()) == (False, False)
    launch.close()
    assert launch.tracker.waited_s == waited_s  # type: ignore[attr-defined]


def test_what_mlflow_lacks_for_good_is_said_once_whatever_the_outcome(tmp_path: Path) -> None:
    launch = session(tmp_path)
    launch.tracker.problems = ("0007: no file files/a.png to upload (and 2 more like it)",)  # type: ignore[misc]
    launch.carry_out(work(1))
    launch.close()
    assert launch.console.lines == [  # type: ignore[attr-defined]
        "MLflow: 0007: no file files/a.png to upload (and 2 more like it)",
        "closed",
    ]


def test_every_outcome_has_a_status_in_mlflow() -> None:
    assert set(MLFLOW_STATUS) == set(LaunchOutcome)


@pytest.mark.parametrize(
    ("ended", "helps"),
    [
        (
            3,
            "what may help: a new run with other values (--set) or more epochs (--max-epochs), or more trials: "
            f"{RESUME}ROOT --trials 6",
        ),
        (2, f"continue with: {RESUME}ROOT"),
    ],
)
def test_what_helps_a_study_without_a_winner(tmp_path: Path, ended: int, helps: str) -> None:
    launch = session(tmp_path)
    launch.plan = study_results.plan(3)
    launch.plan = replace(launch.plan, run_name="one")
    records = [study_results.record(n, (0.5,), State.FAIL) for n in range(ended)]
    found = study_results.result(plan=launch.plan, records=tuple(records))
    assert what_helps(launch, found) == helps.replace("ROOT", str(tmp_path))
