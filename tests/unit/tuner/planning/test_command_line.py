"""Command lines: parsed into typed options, stored without passwords, repeated by a resume, forwarded to a cluster."""

import pytest

from tuner.base.errors import UsageError
from tuner.base.urls import without_password
from tuner.planning.command_line import as_command, checked, forwarded, parse, resume_command
from tuner.planning.launch_options import EVERY, NEWEST, STDOUT, LaunchOptions

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
        ("--storage=s3://b/x --stop r", LaunchOptions(storage="s3://b/x", stop="r")),
    ],
)
def test_options_without_a_value_and_with_two(words: str, expected: LaunchOptions) -> None:
    assert parse(words.split()) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--study s --trials many", "--trials is 'many'; it must be a whole number"),
        ("--study s --trials", "--trials: expected one argument (see --help)"),
        ("--study s --seed -1", "--seed is '-1'; it must be at least 0"),
        ("--study s --time-budget=", "--time-budget is empty; write for example 90s, 30m or 2h"),
        ("--study s --frob 1", "unrecognized arguments: --frob 1 (see --help)"),
        ("--study s extra", "unrecognized arguments: extra (see --help)"),
        ("--why r", "--why: expected 2 arguments (see --help)"),
        ("--list --status", "--list and --status exclude each other; give one of them"),
        ("--study s --json", "--json goes with --evaluate or --status"),
        ("--trials 3", "name a study with --study"),
    ],
)
def test_what_cannot_be_parsed(words: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(UsageError, match="unrecognized arguments"):
        parse(["--study", "aoe_sigma", *arguments])


def test_the_driver_s_node_needs_a_cluster() -> None:
    with pytest.raises(UsageError, match="--driver-on goes with --submit"):
        checked(parse(["--study", "aoe_sigma", "--driver-on", "10.0.0.2"]))
