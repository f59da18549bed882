"""The user's code in a plan: its digests, and a resume with other code refused or accepted."""

import re
from pathlib import Path

import pytest

from trainables.base.errors import InputError
from trainables.base.user_code import APPROVED, approved
from trainables.options.networks import refuse_unapproved
from tuner.base.errors import UsageError
from tuner.planning.amend import amend
from tuner.planning.command_line import parse
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve
from tuner.planning.user_code import remember_code

SOURCE = "from torch import nn\ndef make(classes, size):\n    return nn.Linear(classes, size)\n"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan with a network of the user's own and a built-in one, as plan.json holds it, launched with."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "own.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    settings = ["--set", "network=choice(./own.py:make, small_cnn)"]
    plan = from_dict(to_dict(resolve(parse(["--study", "aoe_sigma", *settings]), "run-1")))
    remember_code(plan)
    return plan


def resume(plan: Plan, *flags: str) -> Plan:
    return amend(plan, parse(["--resume", "run-1", *flags]), "")


def test_a_plan_holds_the_digest_of_each_file(stored: Plan, tmp_path: Path) -> None:
    assert list(stored.code) == [f"{tmp_path}/own.py"]
    assert re.fullmatch("[0-9a-f]{64}", stored.code[f"{tmp_path}/own.py"])
    assert stored.lanes[0].values("network") == (f"{tmp_path}/own.py:make", "small_cnn")
    assert resume(stored).code == stored.code


def test_other_code_is_another_question(stored: Plan, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(f"{SOURCE}# changed\n")
    with pytest.raises(UsageError) as caught:
        resume(stored)
    assert str(caught.value) == (
        f"{tmp_path}/own.py has changed since run run-1 began, so its trials would not be comparable; restore it, "
        "or go on with it as it is: --allow-changed-code"
    )
    accepted = resume(stored, "--allow-changed-code")
    assert accepted.code != stored.code
    assert accepted.content_hash != stored.content_hash
    remember_code(accepted)
    assert resume(accepted).code == accepted.code  # asked once


def test_code_that_is_gone_is_told(stored: Plan, tmp_path: Path) -> None:
    (tmp_path / "own.py").unlink()
    with pytest.raises(
        UsageError, match=r"^run run-1 needs code that is not there: .*own\.py is not a file$"
    ):
        resume(stored, "--allow-changed-code")


def test_code_that_only_a_run_folder_names_is_not_run(
    stored: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run folder that somebody sent, with a plan that names a file of theirs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv(APPROVED, "")
    with pytest.raises(UsageError) as caught:
        resume(stored)
    assert str(caught.value) == (
        f"run run-1 would run the code in {tmp_path}/own.py, which you have not launched with on this machine; look at "
        "it, then go on with --allow-changed-code"
    )
    name = f"{tmp_path}/own.py:make"
    with pytest.raises(
        InputError, match=r"^its network is the code .*own\.py:make, which you have not launched with"
    ):
        refuse_unapproved(name)
    resume(stored, "--allow-changed-code")
    refuse_unapproved(name)
    remember_code(stored)
    monkeypatch.setenv(APPROVED, "")
    resume(stored)  # launched with before
    assert approved() == set(stored.code.values())


def test_a_run_of_an_earlier_version_has_no_code_and_its_hash() -> None:
    plan = resolve(parse(["--study", "aoe_sigma"]), "run-1")
    data = to_dict(plan)
    del data["code"]
    earlier = from_dict(data)
    assert earlier.code == {}
    assert earlier.content_hash == plan.content_hash


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "torchvision:vit_b_16@heads.head", "launch.py:main"]
)
def test_names_with_a_colon_are_no_references_of_specs(name: str) -> None:
    plan = resolve(parse(["--study", "aoe_sigma", "--set", f"network={name}"]), "run-1")
    assert plan.lanes[0].fixed["network"] == name
    assert list(plan.code) == (["launch.py"] if name == "launch.py:main" else [])


def test_a_network_that_is_not_there_is_refused_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, InputError)) as caught:
        resolve(parse(["--study", "aoe_sigma", "--set", "network=./gone.py:make"]), "run-1")
    assert str(caught.value) == f"network ./gone.py:make: {tmp_path}/gone.py is not a file"
