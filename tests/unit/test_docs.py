"""Links of the documentation lead to files and headings that are there, every page is linked, and examples parse."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_architecture import ROOT, relative
from tuner.planning.command_line import parse

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return a page without its blocks of code, in which brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)


def links(page: Path) -> set[str]:
    return {target for target in LINK.findall(prose(page)) if "://" not in target}


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in sorted(links(page)):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{relative(page)} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{relative(page)} links to {target}"


def test_the_readme_links_to_every_page() -> None:
    linked = {target.partition("#")[0] for target in links(ROOT / "README.md")}
    assert {relative(page) for page in PAGES[3:]} - linked == set()


def test_the_readme_comes_to_the_point() -> None:
    """Its main job, then the user's own pictures, then the result."""
    lines = (ROOT / "README.md").read_text().splitlines()
    heads = [line for line in lines if line.startswith("## ")]
    assert heads[:2] == ["## Your own pictures", "## Using the result"]
    assert "launch.py --study aoe_sigma" in "\n".join(lines[: lines.index(heads[0])])
    assert lines.index(heads[1]) < 45


def commands() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", ROOT / "docs" / "commands.md"):
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("python launch.py "):
                    yield relative(page), line


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_are_those_of_the_program(page: str, line: str) -> None:
    parse([word for word in shlex.split(line, comments=True)[2:] if word != "--help"])


def test_the_notebook_is_stored_without_output_and_its_cells_are_python() -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))
