"""What the wheel holds: the packages, one command, and no module that could be anybody's."""

import tomllib
from typing import Any

from setuptools import find_packages

from tests.unit.test_architecture import ROOT
from trainables.base.registry import resolve_reference

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_wheel_holds_the_packages_and_nothing_at_the_top_level() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert setuptools["py-modules"] == []
    packages = find_packages(str(ROOT), **setuptools["packages"]["find"])
    assert {name.split(".")[0] for name in packages} == {
        "robust_tuner",
        "search_spaces",
        "trainables",
        "tuner",
    }
    folders = {
        path.parent
        for top in ("robust_tuner", "search_spaces", "trainables", "tuner")
        for path in (ROOT / top).rglob("*.py")
    }
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} <= set(packages)


def test_the_command_is_there() -> None:
    from tuner.__main__ import main

    assert PROJECT["project"]["scripts"] == {"robust-tune": "tuner.__main__:main"}
    assert resolve_reference("tuner.__main__:main") is main


def test_extras_that_others_include_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for needs in extras.values():
        for need in needs:
            if need.startswith("robust-tuner["):
                assert set(need.partition("[")[2].rstrip("]").split(",")) <= set(extras)


def test_what_is_no_python_beside_the_code_is_in_the_wheel() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    declared = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    tops = ("robust_tuner", "search_spaces", "trainables", "tuner")
    beside = {
        path
        for top in tops
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name[0] != "."
    }
    assert beside == declared
