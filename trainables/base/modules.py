"""Finds and imports modules by dotted name or by a file's path, and reads what they define without importing them.

A path is kept absolute, so that it means the same in every process; below the project's own folder it is kept relative
to that, because a cluster's nodes have the project elsewhere.
"""

import hashlib
import importlib.util
import itertools
import os
import symtable
import sys
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from trainables.base.errors import CodeError

PROJECT = Path(__file__).resolve().parents[2]


def is_path(module: str) -> bool:
    """Return whether the text before the colon of a reference is the path of a file, and not a dotted name."""
    return module.endswith(".py") or "/" in module


def portable_path(text: str) -> str:
    """Return a path as it is kept: relative to the project if it is below it, else absolute."""
    path = Path(text).expanduser()
    if not path.is_file():  # Ray Tune puts a trial into a folder of its own
        launched_in = Path(os.environ.get("TUNE_ORIG_WORKING_DIR", PROJECT))
        path = next((base / path for base in (launched_in, PROJECT) if (base / path).is_file()), path)
    path = Path(os.path.abspath(path))
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def find_file(path: str) -> Path:
    """Return the file that a kept path means in this process; CodeError if it is not there."""
    file = PROJECT / path
    if not file.is_file():
        raise CodeError(f"{path} is not a file")
    return file


def find_module(module: str) -> ModuleSpec | None:
    """Return where a module is, None if nowhere; no package on the way to it is imported."""
    spec, path = None, None
    for name in itertools.accumulate(module.split("."), "{}.{}".format):
        spec = next(filter(None, (finder.find_spec(name, path) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def names_in(source: str | bytes, file: str) -> set[str]:
    """Return the names that Python source defines at its top; SyntaxError if it is none.

    Args:
        source: the bytes of a file, so that its mark of byte order and its declared encoding count.
    """
    table = symtable.symtable(source, file, "exec")  # type: ignore[arg-type]  # it takes bytes as well
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}


def names_of(module: str) -> set[str] | None:
    """Return the names that a module defines at its top, read from its source; None if there is no such module.

    Raises:
        SyntaxError: it is not Python.
        CodeError: it is the path of a file that is not there.
    """
    if is_path(module):
        return names_in(find_file(module).read_bytes(), module)
    if module in sys.modules:
        return set(vars(sys.modules[module]))
    spec = find_module(module)
    if spec is None:
        return None
    source = spec.loader.get_source(module) if isinstance(spec.loader, InspectLoader) else None
    if source is None:  # not written in Python
        return set(vars(import_module(module)))
    return names_in(source, str(spec.origin))


def load_module(module: str) -> ModuleType:
    """Import the module that the text before the colon of a reference names."""
    return load_file(find_file(module)) if is_path(module) else import_module(module)


def load_file(path: Path) -> ModuleType:
    """Import a file by its path; its folder is importable from then on. It never takes the place of a module."""
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or not name.isidentifier() or _is_taken(name, path):
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
    add_to_path(str(path.parent))
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


def _is_taken(name: str, path: Path) -> bool:
    """Return whether another module than the file itself is imported by a name."""
    found = find_module(name)
    return found is not None and found.origin != str(path)


def add_to_path(folder: str) -> None:
    """Make a folder importable, after everything that is installed."""
    if folder not in sys.path:
        sys.path.append(folder)
