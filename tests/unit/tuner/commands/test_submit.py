"""Submitting to a cluster, with a pretend job server; tests/cluster does it with a real one."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainables.base.user_code import OWN_PACKAGES
from tuner.base import environment
from tuner.base.errors import StudyFailed, UsageError
from tuner.commands import submit as submitting
from tuner.commands.source_export import export
from tuner.commands.submit import detached, entrypoint, find_running, follow, job_server, submit


@dataclass
class Info:
    """What Ray tells about a job."""

    status: str = "RUNNING"
    driver_exit_code: int | None = None
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    submission_id: str = "job"


@dataclass
class Server:
    """Answers each poll with the next of `answers`: (state, console so far), or an exception."""

    answers: list[Any]
    listed: list[Info] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)

    def get_job_info(self, job_id: str) -> Info:
        answer = self.answers[0]
        if isinstance(answer, BaseException):
            self.answers.pop(0)
            raise answer
        return answer[0]

    def get_job_logs(self, job_id: str) -> str:
        return self.answers.pop(0)[1]

    def list_jobs(self) -> list[Info]:
        return self.listed

    def submit_job(self, **options: Any) -> str:
        names = sorted(
            str(p.relative_to(options["runtime_env"]["working_dir"]))
            for p in Path(options["runtime_env"]["working_dir"]).rglob("*")
            if p.is_file()
        )
        self.submitted.append(options | {"names": names})
        return str(options["submission_id"])


def followed(answers: list[Any], **options: Any) -> tuple[int, str]:
    shown: list[str] = []
    code = follow(Server(answers), "job", shown.append, poll_s=0, **options)
    return code, "".join(shown)


def test_console_is_shown_once_and_exit_status_passed_on() -> None:
    answers = [(Info(), "a\n"), (Info(), "a\nb\n"), (Info("FAILED", 2), "a\nb\nc\n")]
    assert followed(answers) == (2, "a\nb\nc\n")


@pytest.mark.parametrize(
    ("info", "code"), [(Info("SUCCEEDED", 0), 0), (Info("FAILED", 1), 1), (Info("STOPPED"), 143)]
)
def test_exit_status(info: Info, code: int) -> None:
    assert followed([(info, "")]) == (code, "")


def test_a_lost_connection_is_waited_out() -> None:
    answers = [(Info(), "a\n"), ConnectionError("refused"), OSError(), (Info("SUCCEEDED", 0), "a\nb\n")]
    code, text = followed(answers)
    assert code == 0
    assert text.count("out of reach") == 1
    assert text.startswith("a\n")
    assert text.endswith("b\n")


def test_following_ends_when_the_cluster_stays_away_or_forgot_the_job() -> None:
    with pytest.raises(StudyFailed, match="out of reach for 0 s"):
        followed([ConnectionError(), ConnectionError()], patience_s=0)
    with pytest.raises(StudyFailed, match="continue the run with --resume"):
        followed([RuntimeError("404: Job job does not exist")])
    with pytest.raises(StudyFailed, match="could not be run: no space"):
        followed([(Info("FAILED", None, "no\nspace"), "")])


def test_the_command_keeps_every_word_but_those_of_the_way_there() -> None:
    given = [
        "--study",
        "aoe_sigma",
        "--submit",
        "--address",
        "http://127.0.0.1:8265",
        "--set",
        "a=choice(1, 2)",
    ]
    assert entrypoint(given, "aoe-1") == (
        "python launch.py --study aoe_sigma --set 'a=choice(1, 2)' --run-name aoe-1 --address auto"
    )
    named = ["--run-name=mine", "--study", "s", "--address=http://h:1", "--driver-on", "10.0.0.2", "--submit"]
    assert entrypoint(named, "mine") == "python launch.py --run-name=mine --study s --address auto"
    assert entrypoint(["--submit", "--resume", "r"], "") == "python launch.py --resume r --address auto"


def test_the_address_is_the_job_servers() -> None:
    assert job_server(None) == job_server("auto") == "http://127.0.0.1:8265"
    assert job_server("http://10.0.0.1:8265/") == "http://10.0.0.1:8265"
    with pytest.raises(UsageError, match="must be the job server's"):
        job_server("10.0.0.1:6379")


def test_a_run_that_is_driven_is_followed_not_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Info("FAILED", metadata={"run": "r"}, submission_id="old")
    other = Info(metadata={"run": "s"}, submission_id="other")
    mine = Info(metadata={"run": "r"}, submission_id="mine")
    assert find_running(Server([], [ended, other]), "r") == ""
    server = Server([(Info("SUCCEEDED", 0), "")], [ended, other, mine])
    monkeypatch.setattr(submitting, "connect", lambda address: server)
    assert submit(["--submit", "--resume", "r"], address=None, run="r", new=False) == 0
    assert server.submitted == []


def test_a_new_run_is_packaged_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = Server([(Info("SUCCEEDED", 0), "")])
    monkeypatch.setattr(submitting, "connect", lambda address: server)
    monkeypatch.setattr(submitting, "export", lambda target, more: export(target, checkout(tmp_path), more))
    assert submit(["--study", "s", "--submit"], address=None, run="s-1", new=True, driver_on="10.0.0.2") == 0
    (job,) = server.submitted
    assert job["names"] == [".commit", "launch.py", "tuner/cli.py"]
    assert job["metadata"] == {"run": "s-1"}
    assert job["submission_id"].startswith("s-1-")
    assert job["entrypoint_resources"] == {"node:10.0.0.2": 0.001}


def test_a_job_that_the_cluster_does_not_take_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Full(Server):
        def submit_job(self, **options: Any) -> str:
            raise RuntimeError("Request failed with status code 500:\nNo available agent to submit job")

    monkeypatch.setattr(submitting, "connect", lambda address: Full([]))
    monkeypatch.setattr(submitting, "export", lambda target, more: tmp_path)
    with pytest.raises(StudyFailed) as caught:
        submit(["--study", "s", "--submit"], address="http://h:1", run="s-1", new=True)
    assert str(caught.value) == (
        "the cluster at http://h:1 did not take the job (Request failed with status code 500: No available agent to "
        "submit job); try again"
    )


def checkout(folder: Path) -> Path:
    """Return a checkout with two tracked files, one of them changed, a deleted and an untracked one."""
    root = folder / "checkout"
    (root / "tuner").mkdir(parents=True, exist_ok=True)
    for name in ("launch.py", "tuner/cli.py", "gone.py"):
        (root / name).write_text("1")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    (root / "gone.py").unlink()
    (root / "secret.txt").write_text("not tracked")
    (root / "launch.py").write_text("2")
    return root


def test_export_is_the_tracked_files_as_they_are_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "stale.py").write_text("from an earlier export")
    export(target, checkout(tmp_path))
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == [".commit", "cli.py", "launch.py"]
    assert (target / "launch.py").read_text() == "2"
    monkeypatch.setattr("tuner.commands.source_export.LIMIT_MB", 1e-9)
    with pytest.raises(UsageError, match="its largest file is"):
        export(target, tmp_path / "checkout")


def test_an_installed_project_sends_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a wheel lies in site-packages, also where the environment is in a checkout of the user's own."""
    site = tmp_path / "checkout" / ".venv" / "site-packages"
    files = [f"{name}/__init__.py" for name in OWN_PACKAGES] + ["tuner/report/report.css"]
    for name in (*files, "numpy/__init__.py", "tuner/__pycache__/cli.pyc", "secret.txt"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("1")
    checkout(tmp_path)
    export(tmp_path / "out", site)
    sent = [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert sorted(sent) == sorted([".commit", *files])
    monkeypatch.setattr(environment, "ROOT", site)
    assert entrypoint(["--study", "s", "--submit"], "s-1") == (
        "python -m tuner --study s --run-name s-1 --address auto"
    )


def test_what_is_no_project_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^/.* is no git checkout, and no folder that the project is installed"
    ):
        export(tmp_path / "out", tmp_path)


def test_what_is_said_after_ctrl_c() -> None:
    text = detached("job-1", "http://h:1", "r")
    assert "python launch.py --submit --resume r --address http://h:1" in text
    assert "ray job stop job-1 --address http://h:1" in text


def test_the_users_own_code_is_sent_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own.py").write_text("mine")
    monkeypatch.chdir(tmp_path)
    code = submitting.shipped([f"{tmp_path}/nets/own.py"], tmp_path)
    assert code == submitting.shipped(["nets/own.py"], tmp_path)  # as the plan of a job has it
    export(tmp_path / "out", checkout(tmp_path), code)
    assert (tmp_path / "out" / "nets" / "own.py").read_text() == "mine"
    words = ["--study", "s", "--set", f"network=choice({tmp_path}/nets/own.py:make, wrn_40_2)"]
    assert "'network=choice(nets/own.py:make, wrn_40_2)'" in entrypoint(words, "", code)
    words = ["--study", f"{tmp_path}/nets/own.py:STUDY"]
    assert entrypoint(words, "r", code).startswith("python launch.py --study nets/own.py:STUDY --run-name r")
    with pytest.raises(UsageError) as caught:
        submitting.shipped(["/elsewhere/own.py"], tmp_path)
    assert str(caught.value) == (
        f"--submit sends your own code from {tmp_path} only, and /elsewhere/own.py is not below it"
    )
    with pytest.raises(
        UsageError, match=r"^launch.py is a file of this project too; give yours another name$"
    ):
        export(tmp_path / "out", tmp_path / "checkout", {"launch.py": tmp_path / "nets" / "own.py"})


def test_what_a_job_prints_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(Server([(Info("SUCCEEDED", 0), "one\x1b[2Jtwo\nthree")]), "job", poll_s=0) == 0
    assert capsys.readouterr().out == "one\\x1b[2Jtwo\nthree"
