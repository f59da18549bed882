"""docs/extending.md, followed to the letter: each recipe in a copy of the project, then the commands it ends with."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
COPIED = ("tuner", "trainables", "search_spaces", "tests", "docs", "launch.py", "pyproject.toml")
RECIPES = ("network", "study", "method", "attack", "detector", "data set", "sampler")
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
    commands = [line for block in COMMANDS.finditer(section) for line in block["text"].splitlines()]
    assert commands
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "python"
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
