"""Named specs: one registry per kind of thing (data set, attack, sampler, ...), looked up by name."""

import dataclasses
import itertools
import re
import symtable
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.abc import InspectLoader
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

    def __init__(self, kind: str, specs: Iterable[S] = ()) -> None:
        """Name the kind, in the singular, as error messages say it."""
        self.kind = kind
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
        try:
            return self._specs[name]
        except (KeyError, TypeError):
            raise InputError(unknown(self.kind, name, self._specs)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._specs

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
        if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
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
    loader, path = None, None
    for name in itertools.accumulate(
        module.split("."), "{}.{}".format
    ):  # importlib would import the packages
        spec = next(filter(None, (finder.find_spec(name, path) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        loader, path = spec.loader, spec.submodule_search_locations
    source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    if source is None:  # not written in Python
        return set(vars(import_module(module)))
    table = symtable.symtable(source, module, "exec")
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
