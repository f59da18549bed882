"""Bad input: exit status 2, one line that says what would be right, no traceback, nothing written."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import Launcher, launcher_in

STUDY = ["--study", "aoe_sigma"]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """In an empty folder: nothing may be written."""
    yield from launcher_in(tmp_path, store=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a study with --study"),
        (["--study", "aoe_sigm"], "did you mean aoe_sigma?"),
        (["--study", "zzz"], "known: "),
        ([*STUDY, "--set", "attack.epsilno=0.1"], "did you mean attack.epsilon?"),
        ([*STUDY, "--set", "attack.epsilon=big"], "must be of type float"),
        ([*STUDY, "--set", "attack.epsilon=-0.1"], "must be at least 0"),
        ([*STUDY, "--set", "lr=uniform(1, 0)"], "inverted"),
        ([*STUDY, "--set", "lr=uniform(-1, 1)"], "must be at least 0"),
        ([*STUDY, "--set", "lr=loguniform(0, 1)"], "above 0"),
        ([*STUDY, "--set", "attack.steps=uniform(1, 3)"], "whole number"),
        (
            [*STUDY, "--set", "attack.name=choice(fgsm, nope)"],
            "attack.name is 'nope'; did you mean none? known: ",
        ),
        ([*STUDY, "--set", "lr"], "KEY=VALUE"),
        ([*STUDY, "--set", "epochs=3"], "--max-epochs"),
        ([*STUDY, "--trials", "0"], "at least 1"),
        ([*STUDY, "--trials", "many"], "--trials"),
        ([*STUDY, "--max-epochs", "-1"], "at least 1"),
        ([*STUDY, "--concurrency", "0"], "at least 1"),
        ([*STUDY, "--seed", "-1"], "at least 0"),
        ([*STUDY, "--confirm-seeds", "0"], "at least 1"),
        ([*STUDY, "--time-budget", "soon"], "30m"),
        ([*STUDY, "--epoch-budget", "0"], "at least 1"),
        ([*STUDY, "--gpu-budget", "much"], "--gpu-budget is 'much'"),
        ([*STUDY, "--sampler", "tpee"], "did you mean tpe?"),
        ([*STUDY, "--sampler", "cmaes"], "attack.name is a choice"),
        ([*STUDY, "--sampler", "grid"], "choice("),
        ([*STUDY, "--scheduler", "hyperband"], "known: asha, median, none"),
        ([*STUDY, "--warm-start", "never-was"], "does not exist"),
        ([*STUDY, "--gpus-per-trial", "1.5"], "whole number"),
        ([*STUDY, "--gpus-per-trial", "some"], "auto or a number"),
        ([*STUDY, "--dataset", "digit"], "did you mean digits"),
        ([*STUDY, "--stages", "search,evalute"], "did you mean evaluate"),
        ([*STUDY, "--stages", ""], "--stages is empty"),
        ([*STUDY, "--resume"], "no unfinished run"),
        (["--resume"], "needs --study"),
        (["--resume", "never-was"], "does not exist"),
        ([*STUDY, "--run-name", "a/b"], "letters, digits"),
        ([*STUDY, "--data-dir", "/nowhere/at/all"], "not a folder"),
        ([*STUDY, "--tracking-uri", "./mlruns"], "sqlite:///"),
        ([*STUDY, "--storage", "s3://bucket/x"], "--study-storage"),
        ([*STUDY, "--address", "127.0.0.1:1"], "no Ray cluster at --address 127.0.0.1:1"),
        ([*STUDY, "--frobnicate"], "--frobnicate"),
    ],
)
def test_one_line_and_nothing_written(
    launcher: Launcher,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    from tuner.cli import run

    monkeypatch.chdir(launcher.folder)
    assert run(arguments) == 2
    _check(capsys.readouterr().err, says)
    assert list(launcher.folder.iterdir()) == []


def _check(err: str, says: str) -> None:
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("launch.py: ")
    assert says in lines[0]
    assert "Traceback" not in err


def test_the_process_itself(launcher: Launcher) -> None:
    done = launcher.run("--study", "aoe_sigm")
    assert done.code == 2
    _check(done.err, "did you mean aoe_sigma?")
    assert done.out == ""


def _npz(path: Path, kind: str) -> None:
    good = np.zeros((4, 1, 8, 8), np.uint8)
    if kind == "key":
        np.savez(path, images=good)
    elif kind == "dtype":
        np.savez(path, x=good.astype(np.float64))
    elif kind == "shape":
        np.savez(path, x=np.zeros((4, 3, 32, 32), np.uint8))
    elif kind == "pickled":
        np.savez(path, x=np.array([{"a": 1}], dtype=object))
    elif kind == "truncated":
        np.savez(path, x=good)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "empty archive":
        zipfile.ZipFile(path, "w").close()


@pytest.mark.parametrize("kind", ["key", "dtype", "shape", "pickled", "truncated", "text", "empty archive"])
def test_malformed_outlier_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from tuner.cli import run

    work, data = tmp_path / "work", tmp_path / "data"
    work.mkdir()
    data.mkdir()
    _npz(data / "samples-2.0.npz", kind)
    monkeypatch.chdir(work)
    settings = ["outliers.generator=npz", f"outliers.path={data}", "outliers.sigma=2.0"]
    assert run([*STUDY, *[word for s in settings for word in ("--set", s)]]) == 2
    _check(capsys.readouterr().err, "samples-2.0.npz")
    assert list(work.iterdir()) == []


def test_outlier_files_for_a_continuous_sigma_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.cli import run

    monkeypatch.chdir(tmp_path)
    assert run([*STUDY, "--set", "outliers.generator=npz", "--set", f"outliers.path={tmp_path}"]) == 2
    _check(capsys.readouterr().err, "choice(")


def test_a_name_that_exists_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.cli import run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "plan.json").write_text("{}")
    assert run([*STUDY, "--run-name", "old"]) == 2
    _check(capsys.readouterr().err, "--resume old")


def test_dry_run_and_list_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.cli import run

    monkeypatch.chdir(tmp_path)
    assert run([*STUDY, "--dry-run", "--set", "attack.epsilon=0.03"]) == 0
    plan = capsys.readouterr().out
    assert "attack.epsilon" in plan
    assert "0.03 (fixed)" in plan
    assert "val/robust_auroc_0.1/near" in plan
    assert run(["--list"]) == 0
    assert "aoe_sigma " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
