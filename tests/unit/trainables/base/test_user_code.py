"""References to the user's code: what is read of it before it is imported, and which files belong to it."""

import hashlib
import sys
from pathlib import Path

import pytest

from trainables.base.errors import CodeError
from trainables.base.user_code import PROJECT, UserCode, portable_path

FILES = {
    "net.py": "import os\nimport parts\nfrom trainables.networks import build\ndef make(): return parts.half\n",
    "parts.py": "from lib.deep import layer\nhalf = 2\ndef later(): import robust_tuner\n",
    "lib/__init__.py": "",
    "lib/deep.py": "from . import sibling\nfrom .sibling import x as layer\n",
    "lib/sibling.py": "x = 1\n",
    "lib/unused.py": "",
    "robust_tuner/__init__.py": "",  # as beside the file that a job on a cluster brings
    "os.py": "raise SystemExit\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("net", "parts", "lib", "lib.deep", "lib.sibling"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("reference", ["./net.py:make", "net:make"])
def test_files_are_the_named_one_and_what_it_imports_beside_it(reference: str, folder: Path) -> None:
    code = UserCode(reference)
    names = ["lib/__init__.py", "lib/deep.py", "lib/sibling.py", "net.py", "os.py", "parts.py"]
    assert [str(path.relative_to(folder)) for path in code.files()] == names
    assert "net" not in sys.modules
    digests = code.digests()
    assert digests[f"{folder}/parts.py"] == hashlib.sha256(FILES["parts.py"].encode()).hexdigest()
    assert code.load()() == 2


@pytest.mark.parametrize(
    ("raises", "says"),
    [
        ("raise BaseException('no')", "BaseException: no"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Own(BaseException): pass\nraise Own('this\\nthat')", "Own: this that"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_an_import_raises_is_one_line(folder: Path, raises: str, says: str) -> None:
    (folder / "raising.py").write_text(f"make = 5\n{raises}\n")
    with pytest.raises(CodeError) as caught:
        UserCode("./raising.py:make").load()
    line = raises.count("\n") + 2
    assert str(caught.value) == f"{folder}/raising.py cannot be imported: {says} (raising.py, line {line})"


def test_an_interrupt_while_importing_is_one(folder: Path) -> None:
    (folder / "raising.py").write_text("make = 5\nraise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        UserCode("./raising.py:make").load()


def test_a_file_never_takes_the_place_of_a_module(folder: Path) -> None:
    """`json.py` of the user beside the standard library's."""
    import json

    (folder / "json.py").write_text("make = 5\n")
    assert UserCode("./json.py:make").load() == 5
    assert sys.modules["json"] is json


def test_a_trial_of_ray_tune_finds_a_path_from_its_own_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(folder))
    monkeypatch.chdir("/")
    assert str(UserCode("./net.py:make")) == f"{folder}/net.py:make"


def test_a_path_below_the_project_is_kept_relative_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job on a cluster has the project elsewhere, and each of its nodes too."""
    monkeypatch.chdir(PROJECT / "docs")
    assert portable_path("../launch.py") == "launch.py"
    assert UserCode("launch.py:main").module == "launch.py"
    assert portable_path("/somewhere/net.py") == "/somewhere/net.py"


@pytest.mark.parametrize(
    ("encoding", "first"), [("utf-8", ""), ("utf-8-sig", ""), ("latin-1", "# -*- coding: latin-1 -*-\n")]
)
def test_files_are_read_in_the_encoding_that_python_reads_them_in(
    encoding: str, first: str, folder: Path
) -> None:
    name = f"own_{encoding.replace('-', '_')}"
    text = f"{first}from lib.sibling import x\nmake = 'für'\n"
    (folder / f"{name}.py").write_text(text, encoding=encoding)
    code = UserCode(f"./{name}.py:make")
    assert [path.name for path in code.files()] == ["__init__.py", "sibling.py", f"{name}.py"]
    assert code.load() == "für"


def test_a_module_that_another_of_its_name_hides_is_told(folder: Path) -> None:
    """`parts.py` beside the file, and `parts` installed, which Python finds first."""
    other = folder / "installed" / "parts.py"
    other.parent.mkdir()
    other.write_text("half = 3\n")
    sys.path.insert(0, str(other.parent))
    with pytest.raises(CodeError) as caught:
        UserCode("./net.py:make").load()
    assert str(caught.value) == (
        f"{folder}/net.py imports parts, and gets {other}; rename {folder}/parts.py, which is of the same name"
    )
    del sys.modules["parts"]
    other.unlink()
    other.symlink_to(folder / "parts.py")  # the same file by another path is no other module
    assert UserCode("./net.py:make").load()() == 2
