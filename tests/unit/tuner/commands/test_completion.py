"""Completion as a shell asks for it: bash with argcomplete's own function, the program found on PATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.base import environment

pytest.importorskip("argcomplete")

ASK = """
eval "$(register-python-argcomplete robust-tune)"
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMPREPLY=()
    _python_argcomplete robust-tune </dev/null
    printf '%s;' "${COMPREPLY[@]}"; echo
done
"""
PROGRAM = """#!{python}
import sys
sys.path.insert(0, {root!r})
from tuner.__main__ import main
main()
"""


def completed(folder: Path, *lines: str) -> list[list[str]]:
    """Return what bash offers for each command line."""
    program = folder / "robust-tune"
    program.write_text(PROGRAM.format(python=sys.executable, root=str(environment.ROOT)))
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", ASK],
        input="".join(f"{line}\n" for line in lines),
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [[word.strip() for word in line.split(";") if word] for line in done.stdout.splitlines()]


@pytest.mark.slow  # a process of Python for each line
def test_bash_completes_options_names_runs_and_files(tmp_path: Path) -> None:
    for name in ("first", "other"):
        (tmp_path / "kept" / name).mkdir(parents=True)
        (tmp_path / "kept" / name / "plan.json").write_text("{}")
    options, studies, arms, runs, key, values, folders, numbers = completed(
        tmp_path,
        "robust-tune --study",
        "robust-tune --study aoe_s",
        "robust-tune --study aoe_sigma --arms oe,g",
        "robust-tune --storage kept --resume f",
        "robust-tune --study aoe_sigma --set attack.na",
        "robust-tune --study aoe_sigma --set attack.name=p",
        "robust-tune --data-dir k",
        "robust-tune --study aoe_sigma --trials ",
    )
    assert options == ["--study", "--study-storage"]
    assert studies == ["aoe_sigma"]
    assert arms == ["oe,gauss"]
    assert runs == ["first"]
    assert key == ["attack.name="]
    assert values == ["pgd"]
    assert folders == ["kept/"]
    assert numbers == []


def test_without_argcomplete_the_shell_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuner.commands.completion import complete

    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(SystemExit) as ended:
        complete()
    assert ended.value.code == 1
