"""--compare on runs as they are stored: which are refused, what is written, and that nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runs import StoredRun
from tuner.cli import run as launch

CLAIM = "test/robust_auroc_0.1/near"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs without a confirm stage, each with one evaluated winner."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 0.7), ("b", 0.8)):
        made = StoredRun(tmp_path / "runs", name, trials=4)
        queue = made.queue()
        for level in (0.5, 0.6, 0.7, value):
            made.trial(queue, [level] * 9)
        for number in range(4):
            made.lanes["search"].note(f"evaluation/{number:04d}", {CLAIM: value, "test/accuracy/clean": 0.9})
    return tmp_path / "runs"


def files(root: Path) -> dict[str, bytes]:
    """Return every file but the database's, which SQLite tidies when its last reader leaves."""
    found = (p for p in sorted(root.rglob("*")) if p.is_file() and not p.name.startswith("study.db"))
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def test_it_writes_the_page_and_leaves_the_runs_as_they_are(runs: Path, capsys: Any) -> None:
    before = files(runs)
    assert launch(["--compare", "a", "b"]) == 0
    printed = capsys.readouterr().out
    assert "run  configuration  robust AUROC (ε 0.1), near OOD  minus a" in printed
    assert "a has no confirm stage" in printed
    assert printed.rstrip().endswith("page: comparisons/a-vs-b/compare.html")
    assert sorted(p.name for p in Path("comparisons/a-vs-b").iterdir()) == [
        "compare.html",
        "compare.json",
        "compare.md",
    ]
    assert files(runs) == before


def test_json(runs: Path, capsys: Any) -> None:
    assert launch(["--compare", "b", "a", "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert [one["run"] for one in stored["runs"]] == ["b", "a"]
    (claim,) = [d for d in stored["differences"] if d["metric"] == CLAIM]
    assert (claim["run"], claim["mean"], claim["half"]) == ("a", pytest.approx(-0.1), None)
    assert not Path("comparisons").exists()
    assert launch(["--compare", "a", "b", "--json", "x.json", "--output", "here"]) == 0
    assert json.loads(Path("x.json").read_text()) == json.loads(Path("here/compare.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a"], "--compare a names one run; name two or more (--status lists them)"),
        (["a", "a"], "--compare a names one run"),
        (["a", "c"], "run 'c' does not exist in runs"),
        (["a", "b/0003"], "--compare is 'b/0003'; a name may hold only letters"),
        (["a", "b", "--trials", "3"], "--trials does not go with --compare"),
        (["a", "b", "--output", "runs/a/plan.json"], "--output runs/a/plan.json cannot be written"),
    ],
)
def test_what_is_refused(runs: Path, arguments: list[str], says: str, capsys: Any) -> None:
    assert launch(["--compare", *arguments]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_runs_of_two_data_sets_are_refused(runs: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tuner.commands import compare
    from tuner.commands.run_state import read_run

    def read(name: str, *where: Any) -> Any:
        found = read_run(name, *where)
        return replace(found, plan=replace(found.plan, dataset="cifar10")) if name == "b" else found

    monkeypatch.setattr(compare, "read_run", read)
    assert launch(["--compare", "a", "b"]) == 2
    assert "runs a and b are of two data sets, digits-open and cifar10" in capsys.readouterr().err
    assert not Path("comparisons").exists()
