"""Commands to be copied name no cluster, store or code that only a run folder names."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.study_results import plan
from tuner.commands import tracking_uri
from tuner.commands.named_before import named_options, named_study, remember_address
from tuner.planning.command_line import resume_command
from tuner.planning.launch_options import LaunchOptions

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
