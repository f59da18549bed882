"""Code of the user that a command line names: `package.module:attribute`, or the path of a file, `./file.py:attribute`.

Free of torch. A path is kept absolute, so that it means the same in every process; below the project's own folder it is
kept relative to that, because a cluster's nodes have the project elsewhere.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.base.errors import InputError, nearest
from trainables.base.registry import find_module, names_in, resolve_reference

PROJECT = Path(__file__).resolve().parents[2]
APPROVED = "TUNER_APPROVED_CODE"  #: variable of the digests that `approve` keeps
OWN_PACKAGES = ("trainables", "tuner", "search_spaces")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class UserCode:
    """A reference to an object in the user's code; nothing of it is imported before `load`.

    Attributes:
        module: a dotted name, or the path of a file.
        attribute: a name that it defines.
    """

    def __init__(self, text: str) -> None:
        """Read a reference.

        Raises:
            InputError: it is not of either form, or the file, the module or the attribute is not there.
        """
        module, _, self.attribute = text.rpartition(":")
        self.is_file = module.endswith(".py") or "/" in module
        if not self.attribute.isidentifier() or not (self.is_file or _MODULE.fullmatch(module)):
            raise InputError(f"{text!r} is not module:attribute or ./file.py:attribute")
        self.module = portable_path(module) if self.is_file else module
        names = self._names()
        if self.attribute not in names:
            raise InputError(f"{module} has no {self.attribute}; {nearest(self.attribute, names)}")

    def __str__(self) -> str:
        """Return the text by which every process finds it."""
        return f"{self.module}:{self.attribute}"

    def _names(self) -> set[str]:
        if self.is_file:
            path = find_file(self.module)
            try:
                return names_in(path.read_text(), str(path))
            except (SyntaxError, ValueError) as error:
                raise InputError(f"{self.module} is not Python: {str(error).splitlines()[0]}") from error
        _add_to_path(os.getcwd())
        spec = find_module(self.module)
        if spec is None:
            raise InputError(f"there is no module {self.module}, neither installed nor in {os.getcwd()}")
        if self.module in sys.modules:
            return set(vars(sys.modules[self.module]))
        if not spec.origin or not spec.origin.endswith(".py"):
            return {self.attribute}  # compiled: its import will tell
        return names_in(Path(spec.origin).read_text(), spec.origin)

    def load(self) -> Any:
        """Import the module and return the object; a file's folder is importable from then on.

        Raises:
            InputError: the import raises, or there is no such attribute after all.
        """
        try:
            if not self.is_file:
                return resolve_reference(str(self))
            return getattr(_load_file(find_file(self.module)), self.attribute)
        except InputError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise InputError(f"{self.module} cannot be imported: {type(error).__name__}: {text}") from error

    def files(self) -> list[Path]:
        """Return the file and what it imports from its own folder or package, directly or not, sorted."""
        if self.is_file:
            first = find_file(self.module)
            base, inside = first.parent, ""
        else:
            spec = find_module(self.module)
            if spec is None or not spec.origin or not spec.origin.endswith(".py"):
                return []
            first, top = Path(spec.origin), self.module.split(".")[0]
            depth = len(self.module.split(".")) - (first.name != "__init__.py")
            base = first.parents[depth]
            inside = top if "site-packages" in base.parts else ""
        found, waiting = {first}, [first]
        while waiting:
            path = waiting.pop()
            for name in _imports(path, base):
                top = name.split(".")[0]
                if top in OWN_PACKAGES or (inside and top != inside):
                    continue
                file = base.joinpath(*name.split("."))
                for candidate in (file.with_suffix(".py"), file / "__init__.py"):
                    if candidate.is_file() and candidate not in found:
                        found.add(candidate)
                        waiting.append(candidate)
        return sorted(found)

    def digests(self) -> dict[str, str]:
        """Return {path: SHA-256, hexadecimal} of `files`; of a module without Python source its name."""
        files = self.files()
        if not files:
            return {self.module: f"module {self.module}"}
        return {portable_path(str(path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def approve(digests: Iterable[str]) -> None:
    """Let this process, and those that it starts, import code of these digests although only a file names it."""
    os.environ[APPROVED] = ",".join(sorted(set(digests)))


def approved() -> set[str]:
    """Return the digests that were given to `approve`."""
    return set(filter(None, os.environ.get(APPROVED, "").split(",")))


def portable_path(text: str) -> str:
    """Return a path as it is kept: relative to the project if it is below it, else absolute."""
    path = Path(text).expanduser()
    if not path.is_file():  # Ray Tune puts a trial into a folder of its own
        launched_in = Path(os.environ.get("TUNE_ORIG_WORKING_DIR", PROJECT))
        path = next((base / path for base in (launched_in, PROJECT) if (base / path).is_file()), path)
    path = Path(os.path.abspath(path))
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def find_file(path: str) -> Path:
    """Return the file that a kept path means in this process; InputError if it is not there."""
    file = PROJECT / path
    if not file.is_file():
        raise InputError(f"{path} is not a file")
    return file


def _load_file(path: Path) -> ModuleType:
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or not name.isidentifier() or find_module(name) is not None:
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
    _add_to_path(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _add_to_path(folder: str) -> None:
    """Make a folder importable, after everything that is installed."""
    if folder not in sys.path:
        sys.path.append(folder)


def _imports(path: Path, base: Path) -> Iterator[str]:
    """Yield the dotted names of all that a file may import, as seen from a folder."""
    package = path.parent.relative_to(base).parts
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[: n + 1]) for n in range(len(parts)))
