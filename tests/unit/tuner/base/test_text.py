"""What reaches the terminal holds no character that steers it."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.base.text import (
    aligned,
    as_line,
    counted,
    encodable,
    listed,
    one_line,
    short_reason,
    show,
    visible,
)

LAUNCHER = Path(__file__).resolve().parents[4] / "launch.py"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AUROC 0.9 ± 0.1, ε − …\nsecond line", "AUROC 0.9 ± 0.1, ε − …\nsecond line"),
        ("a\x1b[2J\x1b]0;title\x07b", r"a\x1b[2J\x1b]0;title\x07b"),
        ("a\rb\tc\x00\x7f\x9b1m", r"a\rb\tc\x00\x7f\x9b1m"),
        ("abc\u202egnp.exe\u2066\u200b\ufeff", r"abc\u202egnp.exe\u2066\u200b\ufeff"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("half \ud800", r"half \ud800"),
        ("café\u00a0au\u202flait 猫 🐈", "café\u00a0au\u202flait 猫 🐈"),  # spaces of any width are seen
        ("\ue000 \u0378 \U000f0000 \u0600", r"\ue000 \u0378 \U000f0000 \u0600"),  # looks different everywhere
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).encode("utf-8").decode() == shown


def test_messages_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("bad\x1b[31m\nname") == r"bad\x1b[31m name"
    show("run \x1b[1A\nnext")
    assert capsys.readouterr().out == "run \\x1b[1A\nnext\n"


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        (
            [RuntimeError("Max retries"), ConnectionRefusedError(111, "Connection refused")],
            "Connection refused",
        ),
        ([OSError("HTTPConnectionPool: read timeout"), TimeoutError("timed out")], "no answer in time"),
        ([RuntimeError("error 500\nof http://me:secret@h")], "error 500 of http://***@h"),
    ],
)
def test_the_reason_of_a_failed_connection_is_short(causes: list[Exception], reason: str) -> None:
    for error, cause in itertools.pairwise(causes):
        error.__cause__ = cause
    assert short_reason(causes[0]) == reason


def test_nouns_are_counted() -> None:
    assert [counted(n, "fresh seed") for n in (0, 1, 2)] == ["0 fresh seeds", "1 fresh seed", "2 fresh seeds"]


def test_long_lists_are_cut_with_their_length() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c"], most=2) == "a, b, ... (3 in all)"
    assert listed([]) == ""


def test_columns_stand_below_each_other() -> None:
    rows = [("run", "value"), ("first", "1"), ("b", "22.5")]
    assert aligned(rows) == ["run    value", "first      1", "b       22.5"]
    assert aligned(rows, frozenset({0, 1})) == ["run    value", "first  1", "b      22.5"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "AUROC 0.9 ± 0.1, ε − … é"),
        ("ascii", "AUROC 0.9 +/- 0.1, eps - ... ?"),
        ("latin-1", "AUROC 0.9 +/- 0.1, eps - ... ?"),
        ("none", "AUROC 0.9 +/- 0.1, eps - ... ?"),
    ],
)
def test_an_encoding_gets_what_it_can_hold(encoding: str, text: str) -> None:
    assert encodable("AUROC 0.9 ± 0.1, ε − … é", encoding) == text


def shown_by(redirect: str, **variables: str) -> tuple[int, str, str]:
    """Return exit status, output and errors of a command that shows ± at this place."""
    code = (
        "from tuner import cli; from tuner.base import text; cli._list = lambda: text.show('0.9 ± 0.1') or 0;"
        "import sys; sys.exit(cli.run(['--list']))"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_standard_output_without_utf_8() -> None:
    assert shown_by("", PYTHONIOENCODING="ascii") == (0, "0.9 +/- 0.1\n", "")


@pytest.mark.parametrize(
    ("redirect", "reason"),
    [
        ("> /dev/full", "standard output cannot be written to: No space left on device"),
        (">&-", "standard output is closed, so that the answer cannot be shown"),
    ],
)
def test_a_standard_output_that_takes_nothing_is_told_in_one_line(redirect: str, reason: str) -> None:
    status, _, errors = shown_by(redirect)
    assert status == 2
    assert errors.partition(": ")[2] == f"{reason}\n"


def test_a_line_feed_begins_no_line_in_a_table() -> None:
    assert as_line("a\nb\x1b[2J") == r"a\nb\x1b[2J"
    assert aligned([("run", "1"), ("a\nb", "2")]) == ["run   1", r"a\nb  2"]


def test_a_deleted_working_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    for arguments in (["--status"], ["--study", "aoe_sigma", "--dry-run"], ["--study", "aoe_sigma"]):
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = subprocess.run(
            ["/bin/sh", "-c", 'rmdir "$PWD"; exec "$0" "$@"', sys.executable, LAUNCHER, *arguments],
            cwd=tmp_path / "gone",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr == "launch.py: the working folder was deleted; change to one that exists\n"
