"""Command lines: parsed into typed options, stored without passwords, repeated by a resume, forwarded to a cluster."""

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from tuner import cli
from tuner.base.errors import UsageError
from tuner.base.urls import without_password
from tuner.commands.submit import DEFAULT_ADDRESS, detached
from tuner.planning.command_line import (
    as_command,
    forwarded,
    parse,
    parse_stored,
    resume_command,
    training_command,
)
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.task_options import EVERY, NEWEST, STDOUT

URL = "postgresql+psycopg2://me:pa%40ss@db.example:5432/studies?sslmode=require"
BARE = "postgresql+psycopg2://me@db.example:5432/studies?sslmode=require"


def test_a_command_line_becomes_typed_options() -> None:
    assert parse(["--study", "s"]) == LaunchOptions(study="s")
    words = "--study s --trials 9 --time-budget 1.5h --gpus-per-trial 0.25 --pack off --stages report,search --dry-run"
    assert parse([*words.split(), "--set", "a=1", "--warm-start", "x, y", "--set", "b=choice(1, 2)"]) == (
        LaunchOptions(
            study="s",
            trials=9,
            time_budget_s=5400.0,
            gpus_per_trial=0.25,
            pack=1,
            stages=("search", "report"),
            dry_run=True,
            settings=("a=1", "b=choice(1, 2)"),
            warm_start=("x", "y"),
        )
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--resume --study s", LaunchOptions(study="s", resume=NEWEST)),
        ("--resume r", LaunchOptions(resume="r")),
        ("--status", LaunchOptions(status=EVERY)),
        ("--status --json", LaunchOptions(status=EVERY, json=STDOUT)),
        ("--status r --json f.json", LaunchOptions(status="r", json="f.json")),
        ("--why r oe-0003", LaunchOptions(why=("r", "oe-0003"))),
        ("--list", LaunchOptions(list_studies=True)),
        ("--version", LaunchOptions(version=True)),
        ("--storage=s3://b/x --stop r", LaunchOptions(storage="s3://b/x", stop="r")),
    ],
)
def test_options_without_a_value_and_with_two(words: str, expected: LaunchOptions) -> None:
    assert parse(words.split()) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--study s --trials many", "--trials is 'many'; it must be a whole number"),
        ("--study s --trials", "argument --trials: expected one argument (see --help)"),
        ("--study s --seed -1", "--seed is '-1'; it must be at least 0"),
        ("--study s --time-budget=", "--time-budget is empty; write for example 90s, 30m or 2h"),
        ("--study s extra", "'extra' belongs to no option (see --help)"),
        ("--why r", "argument --why: expected 2 arguments (see --help)"),
        ("--trials 3", "name a study with --study (see --list), for example --study aoe_sigma"),
        ("--study s --trials 3 --trials 4", "--trials is given twice, as 3 and as 4; give it once"),
        ("--study s --study=t", "--study is given twice, as s and as t; give it once"),
        ("--why r 1 --why r 2", "--why is given twice, as ['r', '1'] and as ['r', '2']; give it once"),
    ],
)
def test_what_cannot_be_parsed(words: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert str(caught.value) == says


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--study", "s", "--max-epoch=1"])
    known = r"known: (--[a-z-]+, ){5}--[a-z-]+ and \d+ more \(see --help\)"
    assert re.fullmatch(
        rf"unknown option '--max-epoch'; did you mean --max-epochs\? {known}", str(caught.value)
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--list --status", "--status does not go with --list; give one of them"),
        ("--stop r --resume r", "--stop does not go with --resume; give one of them"),
        ("--list --trials 3", "--trials does not go with --list; it goes with --study or --resume"),
        ("--status --trials 3", "--trials does not go with --status; it goes with --study or --resume"),
        ("--why r 1 --seed 1", "--seed does not go with --why; it goes with --study or --resume"),
        ("--stop r --study s", "--study does not go with --stop; it goes with --resume or --status"),
        ("--status --list --json", "--status does not go with --list; give one of them"),
        (
            "--study s --json",
            "--json does not go with --study; it goes with --evaluate or --status or --compare or "
            "--check-data",
        ),
        (
            "--evaluate f --study s",
            "--study does not go with --evaluate; it goes with --resume or --status",
        ),
        ("--resume r --run-name x", "--run-name does not go with --resume; it goes with --study"),
        ("--study s --driver-on h", "--driver-on does not go with --study; it goes with --submit"),
        (
            "--status --address auto",
            "--address does not go with --status; it goes with --study or --resume or --submit",
        ),
        (
            "--list --submit",
            "--submit does not go with --list; it goes with --study or --resume or --status or --why or --stop "
            "or --evaluate",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert str(caught.value) == says


def test_an_option_may_be_repeated_with_the_same_value() -> None:
    words = ["--study", "s", "--trials", "3", "--trials=3", "--dry-run", "--dry-run"]
    assert parse(words) == LaunchOptions(study="s", trials=3, dry_run=True)


def test_options_go_together_with_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_ADDRESS", "auto")
    assert parse(["--status"]).address == "auto"
    submitted = parse(["--status", "r", "--submit", "--address", "http://h:1"])
    assert (submitted.submit, submitted.address) == (True, "http://h:1")


@pytest.mark.parametrize(
    "program", ["python launch.py", "python /srv/launch.py", "robust-tune", "python -m tuner"]
)
def test_a_stored_command_is_read_whatever_the_program(program: str) -> None:
    stored = f"{program} --study s --resume r --address auto --set 'a=choice(1, 2)' --run-name x"
    assert parse_stored(stored) == LaunchOptions(
        study="s", resume="r", address="auto", settings=("a=choice(1, 2)",), run_name="x"
    )


@pytest.mark.parametrize(
    ("called", "words", "name"),
    [
        ("launch.py", "python launch.py", "launch.py"),
        ("/srv/my code/launch.py", "python '/srv/my code/launch.py'", "launch.py"),
        ("/venv/bin/robust-tune", "robust-tune", "robust-tune"),
        ("C:/venv/Scripts/robust-tune.exe", "robust-tune", "robust-tune"),
        ("/site-packages/tuner/__main__.py", "python -m tuner", "python -m tuner"),
        ("/site-packages/pytest/__main__.py", "python launch.py", "launch.py"),
    ],
)
def test_commands_and_messages_name_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], called: str, words: str, name: str
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    assert resume_command("s", "r", LaunchOptions()) == f"{words} --study s --resume r"
    assert detached("job", DEFAULT_ADDRESS, "r").splitlines()[1].endswith(f": {words} --submit --resume r")
    assert cli.run(["--trials", "3"]) == 2
    assert capsys.readouterr().err.startswith(f"{name}: name a study with --study")
    with pytest.raises(SystemExit):
        cli.run(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_the_environment_takes_the_place_of_defaults_and_the_command_line_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in (
        ("TUNER_ADDRESS", "auto"),
        ("TUNER_STORAGE", "s3://bucket/runs"),
        ("TUNER_STUDY_STORAGE", URL),
    ):
        monkeypatch.setenv(variable, value)
    options = parse(["--study", "s"])
    assert (options.address, options.storage, options.study_storage) == ("auto", "s3://bucket/runs", URL)
    assert parse(["--study", "s", "--storage", "here"]).storage == "here"
    assert resume_command("s", "r", options) == (
        f"python launch.py --study s --resume r --address auto --storage s3://bucket/runs --study-storage '{BARE}'"
    )
    monkeypatch.setenv("TUNER_STORAGE", "")
    assert parse(["--study", "s"]).storage == "runs"


def test_rays_own_variable_is_the_address_and_ours_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6399")
    options = parse(["--study", "s"])
    assert options.address == "127.0.0.1:6399"
    assert resume_command("s", "r", options).endswith("--resume r --address 127.0.0.1:6399")
    monkeypatch.setenv("TUNER_ADDRESS", "auto")
    assert parse(["--study", "s"]).address == "auto"
    assert parse(["--study", "s", "--address", "local"]).address is None


def test_a_password_leaves_a_url_and_nothing_else_does() -> None:
    assert without_password(URL) == BARE
    for url in (BARE, "sqlite:///runs/one/study.db", "s3://bucket/runs", "runs", "http://[broken"):
        assert without_password(url) == url


@pytest.mark.parametrize("words", [["--study-storage", URL], [f"--study-storage={URL}"]])
def test_no_password_in_a_command(words: list[str]) -> None:
    command = as_command(["--study", "aoe_sigma", *words, "--set", "lr=loguniform(1e-4, 1e-2)"])
    assert "pa%40ss" not in command
    assert BARE in command
    assert command.startswith("python launch.py --study aoe_sigma ")
    assert command.endswith("--set 'lr=loguniform(1e-4, 1e-2)'")


def test_the_resume_command_repeats_where_the_run_is_kept() -> None:
    assert resume_command("s", "r", LaunchOptions()) == "python launch.py --study s --resume r"
    options = LaunchOptions(storage="s3://b/x", study_storage=URL, trials=9, address="auto", data_dir="/data")
    assert resume_command("s", "r", options) == (
        "python launch.py --study s --resume r --data-dir /data --address auto --storage s3://b/x "
        f"--study-storage '{BARE}'"
    )


def test_the_data_folder_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for text, found in (("a b/../c", f"{tmp_path}/c"), ("~/x", "/home/me/x"), ("s3://b/x", "s3://b/x")):
        assert parse(["--study", "aoe_sigma", "--data-dir", text]).data_dir == found


def test_local_options_are_dropped_however_they_are_written() -> None:
    kept = ["--study", "s", "--set", "a=choice(1, 2)"]
    for local in (
        ["--address", "http://h:1"],
        ["--address=http://h:1"],
        ["--driver-on", "10.0.0.2"],
    ):
        assert forwarded([*kept[:2], *local, "--submit", *kept[2:]]) == kept


@pytest.mark.parametrize("arguments", [["--tri", "3"], ["--dry"], ["--max-epoch=2"]])
def test_options_are_not_shortened(arguments: list[str]) -> None:
    """A shortened --dry-run would be one letter away from starting a study."""
    with pytest.raises(UsageError, match="unknown option"):
        parse(["--study", "aoe_sigma", *arguments])


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/etc", "~/x", "", ".hidden", "a b"])
@pytest.mark.parametrize(
    "words",
    [
        ["--study", "s", "--warm-start"],
        ["--study", "s", "--warm-start", "fine"],
        *(["--resume"], ["--status"], ["--stop"], ["--study", "s", "--run-name"]),
    ],
)
def test_no_name_of_a_run_leads_out_of_its_root(words: list[str], name: str) -> None:
    last = f"{words[3]},{name}" if len(words) == 4 else name
    if "--warm-start" in words and not name:
        assert parse([*words[:3], last]).warm_start == tuple(filter(None, [last.strip(",")]))
        return
    with pytest.raises(UsageError, match="a name may hold only letters, digits"):
        parse([*words[:3], last] if len(words) == 4 else [*words, name])


@pytest.mark.parametrize("words", [("../x", "3"), ("x", "../3"), ("x", "a/b")])
def test_no_name_of_a_trial_leads_out_of_its_run(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="a name may hold only letters, digits"):
        parse(["--why", *words])


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"robust-tuner": "1.2.3"}.__getitem__)
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == "robust-tuner 1.2.3\n"

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == "robust-tuner unknown\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "python launch.py --train --study aoe_sigma SETTINGS"),
        (
            "python x/launch.py --study aoe_sigma --trials 40 --run-name r --dataset=cifar10 --data-dir 'a b' "
            "--set lr=0.5 --set 'batch_size=32' --set=epochs.x=1 --max-epochs 3 --dry-run",
            "python x/launch.py --train --study aoe_sigma --dataset=cifar10 --data-dir 'a b' --max-epochs 3 "
            "--set batch_size=32 --set epochs.x=1 SETTINGS",
        ),
        (
            "robust-tune --study aoe_sigma --sampler gp --time-budget 2h",
            "robust-tune --train --study aoe_sigma SETTINGS",
        ),
    ],
)
def test_a_command_that_trains_one_configuration(command: str, expected: str) -> None:
    found = training_command(command, "aoe_sigma", {"lr": 0.001, "attack.name": "eba pgd"})
    settings = "--set lr=0.001 --set 'attack.name=eba pgd'"
    options = parse([word for word in shlex.split(found)[1:] if not word.endswith("launch.py")])
    assert (options.train, options.study, options.settings[-2:]) == (
        True,
        "aoe_sigma",
        ("lr=0.001", "attack.name=eba pgd"),
    )
    assert found == expected.replace("SETTINGS", settings)
