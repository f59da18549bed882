"""Code of the user that a command line names: `package.module:attribute`, or the path of a file, `./file.py:attribute`.

Free of torch.
"""

import ast
import hashlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainables.base.errors import CodeError, nearest
from trainables.base.modules import (
    PROJECT,
    add_to_path,
    find_file,
    find_module,
    is_path,
    load_module,
    names_in,
    portable_path,
)

APPROVED = "TUNER_APPROVED_CODE"  #: variable of the digests that `approve` keeps
OWN_PACKAGES = ("robust_tuner", "search_spaces", "trainables", "tuner")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_REFERENCE = re.compile(r"(?:\S.*(?:\.py|/.*)|[A-Za-z_][\w.]*):[A-Za-z_]\w*")
#: {module as `UserCode` keeps it: digests of its files when it was imported here}
_loaded: dict[str, dict[str, str]] = {}


class UserCode:
    """A reference to an object in the user's code; nothing of it is imported before `load`.

    Attributes:
        module: a dotted name, or the path of a file.
        attribute: a name that it defines.
    """

    def __init__(self, text: str) -> None:
        """Read a reference.

        Raises:
            CodeError: it is not of either form, or the file, the module or the attribute is not there.
        """
        module, _, self.attribute = text.rpartition(":")
        self.is_file = is_path(module)
        if not self.attribute.isidentifier() or not (self.is_file or _MODULE.fullmatch(module)):
            raise CodeError(f"{text!r} is not module:attribute or ./file.py:attribute")
        self.module = portable_path(module) if self.is_file else module
        names = self._names()
        if self.attribute not in names:
            raise CodeError(f"{module} has no {self.attribute}; {nearest(self.attribute, names)}")

    def __str__(self) -> str:
        """Return the text by which every process finds it."""
        return f"{self.module}:{self.attribute}"

    def _names(self) -> set[str]:
        if self.is_file:
            path = find_file(self.module)
            try:
                return names_in(path.read_bytes(), str(path))
            except (SyntaxError, ValueError) as error:
                raise CodeError(f"{self.module} is not Python: {_in_a_line(error, [path])}") from error
        add_to_path(os.getcwd())
        spec = find_module(self.module)
        if spec is None:
            raise CodeError(f"there is no module {self.module}, neither installed nor in {os.getcwd()}")
        if self.module in sys.modules:
            return set(vars(sys.modules[self.module]))
        if not spec.origin or not spec.origin.endswith(".py"):
            return {self.attribute}  # compiled: its import will tell
        try:
            return names_in(Path(spec.origin).read_bytes(), spec.origin)
        except (SyntaxError, ValueError) as error:
            line = _in_a_line(error, [Path(spec.origin)])
            raise CodeError(f"{self.module} is not Python: {line}") from error

    def load(self) -> Any:
        """Import the module and return the object; a file's folder is importable from then on.

        Raises:
            CodeError: the import raises, or there is no such attribute after all.
        """
        digests = self.digests() if self.module not in _loaded else {}
        try:
            found = getattr(load_module(self.module), self.attribute)
        except CodeError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # foreign code may raise anything
            line = _in_a_line(error, self.files())
            raise CodeError(f"{self.module} cannot be imported: {line}") from error
        if self.is_file:
            self._refuse_others_in_place()
        _loaded.setdefault(self.module, digests)
        return found

    def _refuse_others_in_place(self) -> None:
        """Raise CodeError if the file has imported another module than the one beside it, which has the same name.

        A module that is installed, or of another folder's file, comes first; of the standard library it is meant.
        """
        first = find_file(self.module)
        base = first.parent
        for path in self.files():
            if path == first:  # named by its path: it may have another name among the modules
                continue
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            file = getattr(sys.modules.get(name), "__file__", None)
            if (
                parts[0] in sys.stdlib_module_names
                or file is None
                or os.path.realpath(file) == str(path.resolve())
            ):
                continue
            for known, module in list(sys.modules.items()):  # it has what it should not
                if getattr(module, "__file__", None) == str(first):
                    del sys.modules[known]
            raise CodeError(
                f"{self.module} imports {name}, and gets {file}; rename {path}, which is of the same name"
            )

    @property
    def source(self) -> Path | None:
        """The file of the module; None if it is not written in Python."""
        if self.is_file:
            return find_file(self.module)
        spec = find_module(self.module)
        return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None

    def files(self) -> list[Path]:
        """Return the file and what it imports from its own folder or package, directly or not, sorted."""
        first = self.source
        if first is None:
            return []
        if self.is_file:
            base, inside = first.parent, ""
        else:
            top = self.module.split(".")[0]
            depth = len(self.module.split(".")) - (first.name != "__init__.py")
            base = first.parents[depth]
            inside = top if "site-packages" in base.parts else ""
        packages = [
            each / "__init__.py" for each in first.parents if each.is_relative_to(base) and each != base
        ]
        found = {first, *filter(Path.is_file, packages)}
        waiting = list(found)
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

    def digests_here(self) -> dict[str, str]:
        """Return `digests` of what this process has imported, or would import."""
        return _loaded.get(self.module) or self.digests()

    @property
    def unapproved(self) -> str:
        """A file, as this process has imported it or would, that the user has not named in this form; "" if none."""
        known = approved()
        return next((path for path, digest in self.digests_here().items() if digest not in known), "")

    def forget_if_changed(self) -> None:
        """Have `load` import its files again if one of them is not what it was when this process imported it."""
        former = _loaded.get(self.module)
        if former is None or former == self.digests():
            return
        del _loaded[self.module]
        files = {str(PROJECT / path) for path in former}
        for name, module in list(sys.modules.items()):
            if getattr(module, "__file__", None) in files:
                del sys.modules[name]


def is_reference(text: object) -> bool:
    """Return whether a text has the form of a reference; whether anything is there is not looked at."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def name_code(text: str) -> UserCode:
    """Return the code behind a reference that the user names now, which may then be imported in its present form.

    Raises:
        CodeError: it is not there.
    """
    code = UserCode(text)
    code.forget_if_changed()
    approve(code.digests().values())
    return code


def name_codes(values: Iterable[object]) -> None:
    """Call `name_code` for those of some values that are references to code which is there; the use of others tells."""
    for value in values:
        text = str(value).partition("@")[0]  # behind a network: a layer of it
        if is_reference(text):
            with suppress(CodeError):
                name_code(text)


def approve(digests: Iterable[str]) -> None:
    """Let this process, and those that it starts, import code of these digests although only a file names it."""
    os.environ[APPROVED] = ",".join(sorted(approved() | set(digests)))


def approved() -> set[str]:
    """Return the digests that were given to `approve`."""
    return set(filter(None, os.environ.get(APPROVED, "").split(",")))


def _in_a_line(error: BaseException, files: Iterable[Path]) -> str:
    """Return what an import raised, and where: "NameError: name 'x' is not defined (my.py, line 3)"."""
    if isinstance(error, SyntaxError):
        return " ".join(str(error).split())  # it says where
    own = {str(path) for path in files}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in own]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"


def _imports(path: Path, base: Path) -> Iterator[str]:
    """Yield the dotted names of all that a file may import, as seen from a folder."""
    package = path.parent.relative_to(base).parts
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # its import will tell
    for node in ast.walk(tree):
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
