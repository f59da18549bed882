"""Commands to be copied name no cluster, store or code that only a run folder names."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.runs import StoredRun
from tests.unit.study_results import plan
from tuner.base.errors import UsageError
from tuner.commands import tracking_uri
from tuner.commands.named_before import named_options, named_study, remember_address, remember_cache
from tuner.commands.open_run import stored_run
from tuner.execution.ray_tune_adapter import configuration
from tuner.execution.trial_queue import Assignment
from tuner.planning.command_line import resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import to_dict

HOSTILE = LaunchOptions(
    address="evil.example:6379", tracking_uri="http://evil.example:5000", data_dir="/data"
)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_what_only_the_folder_names_is_left_out() -> None:
    command = resume_command("aoe_sigma", "one", named_options(HOSTILE))
    assert command.endswith("--study aoe_sigma --resume one --data-dir /data")


def test_what_the_user_has_named_stays() -> None:
    tracking_uri.remember(HOSTILE.tracking_uri or "")
    remember_address(HOSTILE)
    assert named_options(HOSTILE) == HOSTILE
    assert named_options(replace(HOSTILE, address="auto")).address == "auto"
    assert named_options(replace(HOSTILE, address="evil.example:6380")).address is None


@pytest.mark.parametrize("study", ["./evil.py", "evil:make", "/tmp/evil.py:STUDY"])
def test_code_in_place_of_a_study_s_name_is_left_out(study: str) -> None:
    assert named_study(plan()) == "aoe_sigma"
    assert named_study(replace(plan(), study="method-standard")) == "method-standard"
    command = resume_command(named_study(replace(plan(), study=study)), "one", LaunchOptions())
    assert command.endswith("launch.py --resume one")


def resumed_cache(root: Path, *settings: str) -> str:
    return stored_run(LaunchOptions(resume="one", storage=str(root), settings=settings), "")[1].cache_dir


def test_a_cache_folder_that_only_the_run_names_is_refused(tmp_path: Path) -> None:
    """It would be written to, and stored evaluations in it believed."""
    run = StoredRun(tmp_path / "runs")
    assert resumed_cache(tmp_path / "runs") == ""
    foreign = replace(
        run.plan, lanes=tuple(replace(x, fixed={**x.fixed, "cache_dir": "/evil"}) for x in run.plan.lanes)
    )
    run.folder.update(plan=to_dict(foreign))
    with pytest.raises(UsageError) as refused:
        resumed_cache(tmp_path / "runs")
    assert str(refused.value) == (
        "plan.json of run 'one' names the cache folder /evil, which you have never named; "
        "name it, or another: --set cache_dir=FOLDER"
    )
    assert resumed_cache(tmp_path / "runs", "cache_dir=/mine") == "/mine"
    with pytest.raises(UsageError, match="--set cannot change a run that exists, but for cache_dir"):
        resumed_cache(tmp_path / "runs", "cache_dir=/mine", "lr=0.1")
    remember_cache(foreign)
    assert resumed_cache(tmp_path / "runs") == "/evil"


def test_trials_use_the_cache_of_the_plan_whatever_is_stored_of_them() -> None:
    stored = Assignment("0000", "search", 0, "aoe", {"cache_dir": "/evil", "lr": 0.1}, 1, 1, "", 0, 1)
    assert configuration(stored, "/run", {}, 1, "/mine")["cache_dir"] == "/mine"
    assert configuration(stored, "/run", {}, 1)["cache_dir"] == ""
