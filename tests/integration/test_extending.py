"""docs/extending.md and docs/own_code.md, followed to the letter.

A recipe of the first in a copy of the project, the second in a folder of a user; then the commands that they give.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE, OWN = ROOT / "docs" / "extending.md", ROOT / "docs" / "own_code.md"
COPIED = ("tuner", "trainables", "search_spaces", "tests", "docs", "launch.py", "pyproject.toml")
RECIPES = ("study", "method", "attack", "detector", "data set", "sampler")
MOST_FILES = 3  # that a recipe may touch besides tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# `path`: words, then a fenced block of code
STEP = re.compile(
    r"^`(?P<path>[\w/.]+)` (?:[^\n]+\n)+\n```(?P<kind>\w+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
COMMANDS = re.compile(r"^```sh\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


def recipes() -> dict[str, str]:
    """Return {what is added: the section's text}."""
    parts = re.split(r"^## An? (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def apply(root: Path, path: str, kind: str, text: str) -> None:
    """Write a new file, or put the lines with a plus behind the lines of context above them."""
    file = root / path
    if kind != "diff":
        assert not file.exists(), f"{path} is there already; the recipe has to show what changes in it"
        file.write_text(text)
        return
    before = "".join(line[1:] for line in text.splitlines(keepends=True) if line[0] in " -")
    after = "".join(line[1:] for line in text.splitlines(keepends=True) if line[0] in " +")
    content = file.read_text()
    assert content.count(before) == 1, f"{path} does not hold these lines once:\n{before}"
    file.write_text(content.replace(before, after))


def test_every_recipe_is_there() -> None:
    assert tuple(recipes()) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_written(name: str, tmp_path: Path) -> None:
    for part in COPIED:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / part)
    section = recipes()[name]
    steps = list(STEP.finditer(section))
    product = {step["path"] for step in steps if not step["path"].startswith("tests/")}
    assert 1 <= len(product) <= MOST_FILES
    for step in steps:
        (tmp_path / step["path"]).parent.mkdir(parents=True, exist_ok=True)
        apply(tmp_path, step["path"], step["kind"], step["text"])
    carry_out(section, tmp_path, tmp_path)


def test_own_code_as_written(tmp_path: Path) -> None:
    page = OWN.read_text()
    for step in STEP.finditer(page):
        apply(tmp_path, step["path"], step["kind"], step["text"])
    carry_out(page, tmp_path, ROOT)


def carry_out(text: str, folder: Path, project: Path) -> None:
    """Run the commands of a page in a folder."""
    commands = [line for block in COMMANDS.finditer(text) for line in block["text"].splitlines()]
    assert commands
    private = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CACHE", "STATE")}
    for command in commands:
        words = [str(project / word) if word == "launch.py" else word for word in shlex.split(command)]
        assert words[0] == "python"
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=folder,
            env={**os.environ, **private, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
