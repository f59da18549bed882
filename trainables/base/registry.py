"""Named specs: one registry per kind of thing (data set, attack, sampler, ...), looked up by name."""

import dataclasses
import itertools
import re
import symtable
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from typing import Any, Generic, Protocol, TypeVar

from trainables.base.errors import InputError, nearest, unknown


class Named(Protocol):
    """A spec: anything with a name."""

    @property
    def name(self) -> str: ...


S = TypeVar("S", bound=Named)

_NAME = re.compile(r"[A-Za-z\[][^\s,()='\"]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_VALUES = ("true", "false", "null", "nan", "inf")


class Registry(Generic[S]):
    """The specs of one kind in the order of their registration.

    Example:
        >>> SAMPLERS = Registry("sampler", [SamplerSpec("tpe", ...), SamplerSpec("random", ...)])
        >>> SAMPLERS["tpe"].about
        >>> SAMPLERS.register(SamplerSpec("mine", ...))
    """

    def __init__(
        self, kind: str, specs: Iterable[S] = (), others: Callable[[str], S | None] | None = None
    ) -> None:
        """Name the kind, in the singular, as error messages say it.

        Args:
            others: makes the spec of a name that is not registered, None if that is no name of its kind; the spec's
                own name is what to store.
        """
        self.kind = kind
        self._others = others
        self._specs: dict[str, S] = {}
        for spec in specs:
            self.register(spec)

    def register(self, spec: S) -> S:
        """Add a spec and return it.

        A registry belongs to its process: a spec that trials on Ray workers need is registered by a module that the
        workers import.

        Raises:
            InputError: the name is taken (a spec never replaces another in silence), or cannot be written as the value
                of an option.
        """
        if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name) or spec.name.lower() in _VALUES:
            raise InputError(
                f"{self.kind} {spec.name!r} cannot be registered; a name begins with a letter, has no blanks and none "
                "of , ( ) = and quotes, and is not true, false, null, nan or inf"
            )
        if spec.name in self._specs:
            raise InputError(f"{self.kind} {spec.name!r} is registered already; choose another name")
        self._specs[spec.name] = spec
        return spec

    def unregister(self, name: str) -> None:
        """Remove a spec; what holds it already keeps it."""
        del self._specs[self[name].name]

    def __getitem__(self, name: str) -> S:
        """Return the spec of a name; InputError with the nearest known name if there is none."""
        spec = self._find(name)
        if spec is None:
            raise InputError(unknown(self.kind, name, self._specs))
        return spec

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def _find(self, name: object) -> S | None:
        if not isinstance(name, str):
            return None
        if name not in self._specs and self._others is not None:
            return self._others(name)
        return self._specs.get(name)

    def __iter__(self) -> Iterator[S]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._specs)


def resolve_reference(reference: str) -> Any:
    """Return the object that "package.module:attribute" names; specs refer so to what is costly to import."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def check_references(spec: Any) -> None:
    """Check that what a spec refers to by "package.module:attribute" is there; no module of it is imported.

    Raises:
        InputError: there is no such module, or it has no such attribute.
    """
    for field in dataclasses.fields(spec):
        reference = getattr(spec, field.name)
        if field.name != "name" and isinstance(reference, str) and _REFERENCE.fullmatch(reference):
            module, _, attribute = reference.partition(":")
            names = _names_of(module)
            if names is None:
                raise InputError(
                    f"{field.name} of {spec.name!r} is {reference}, but there is no module {module}"
                )
            if attribute not in names:
                hint = nearest(attribute, names)
                raise InputError(
                    f"{field.name} of {spec.name!r} is {reference}, but {module} has no {attribute}; {hint}"
                )


def _names_of(module: str) -> set[str] | None:
    """Return the names that a module defines at its top, read from its source; None if there is no such module."""
    if module in sys.modules:
        return set(vars(sys.modules[module]))
    spec = find_module(module)
    if spec is None:
        return None
    source = spec.loader.get_source(module) if isinstance(spec.loader, InspectLoader) else None
    if source is None:  # not written in Python
        return set(vars(import_module(module)))
    return names_in(source, module)


def find_module(module: str) -> ModuleSpec | None:
    """Return where a module is, None if nowhere; no package on the way to it is imported."""
    spec, path = None, None
    for name in itertools.accumulate(module.split("."), "{}.{}".format):
        spec = next(filter(None, (finder.find_spec(name, path) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def names_in(source: str, file: str) -> set[str]:
    """Return the names that Python source defines at its top; SyntaxError if it is none."""
    table = symtable.symtable(source, file, "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
