"""Numbers that are none, not finite, too large or inverted are refused in one line, before anything starts."""

import pytest

from tuner.cli import run

LONG = "9" * 400


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--set", "lr=inf", "lr is inf; it must be a finite number"),
        ("--set", "lr=nan", "lr is nan; it must be a finite number"),
        ("--set", "lr=1e999", "lr is inf; it must be a finite number"),
        ("--set", f"lr={LONG}", "lr is about 2**1329; it must be a finite number"),
        ("--set", "batch_size=inf", "batch_size is inf; it must be a whole number of at most 63 bits"),
        (
            "--set",
            f"batch_size=1{'0' * 20}",
            f"batch_size is 1{'0' * 20}; it must be a whole number of at most 63",
        ),
        ("--set", "lr=uniform(0,1e999)", "uniform(0,1e999) must have finite bounds"),
        ("--set", "lr=uniform(nan,1)", "uniform(nan,1) must have finite bounds"),
        ("--set", f"lr=uniform(0,{LONG})", "must have finite bounds"),
        ("--set", f"batch_size=int(1,{LONG})", "must have finite bounds"),
        ("--set", "batch_size=int(1,inf)", "int(1,inf) must have finite bounds"),
        (
            "--set",
            f"batch_size=int(1,1{'0' * 20})",
            "a range of whole numbers must stay within 9007199254740992",
        ),
        ("--set", "batch_size=logint(0,5)", "a logarithmic range must start above 0, not at 0"),
        ("--set", "lr=uniform(2,1)", "range (2, 1) is inverted"),
        ("--set", "lr=choice(inf,1)", "lr is inf; it must be a finite number"),
        ("--set", "lr=\x1b[2J\u202e", r"lr is '\x1b[2J\u202e'; it must be of type float"),
        ("--trials", "9" * 30, "it must be at most 1000000000"),
        ("--trials", "9" * 5000, "it must be a whole number"),
        ("--seed", "9" * 30, "it must be at most 9223372036854775807"),
        ("--max-epochs", "inf", "it must be a whole number"),
        ("--time-budget", f"{LONG}h", "it must be at most 1000000000 seconds"),
        ("--gpu-budget", "nan", "write for example 90s, 30m or 2h"),
        ("--epoch-timeout", "-1s", "write for example 90s, 30m or 2h"),
        ("--gpus-per-trial", "1e999", "it must be from 0 to 1, or a whole number"),
        ("--concurrency", "-1", "it must be at least 1"),
        ("--cpus-per-trial", "9" * 12, "it must be at most 1000000000"),
        ("--pack", "²", "it must be auto, off or a number of trials from 1 to 256"),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    assert run(["--study", "aoe_sigma", "--dry-run", f"{option}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("launch.py: ")
    assert says in err
