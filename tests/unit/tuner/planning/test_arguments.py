"""Command lines as they are stored and printed: exact, and without passwords."""

import pytest

from tuner.base.urls import without_password
from tuner.planning.arguments import as_command, parse, resume_command

URL = "postgresql+psycopg2://me:pa%40ss@db.example:5432/studies?sslmode=require"
BARE = "postgresql+psycopg2://me@db.example:5432/studies?sslmode=require"


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


def test_the_resume_command_has_what_differs_from_the_defaults() -> None:
    assert resume_command("s", "r", parse([])) == "python launch.py --study s --resume r"
    options = parse(["--storage", "s3://b/x", "--study-storage", URL, "--trials", "9", "--address", "auto"])
    assert resume_command("s", "r", options) == (
        f"python launch.py --study s --resume r --storage s3://b/x --study-storage '{BARE}' --address auto"
    )
