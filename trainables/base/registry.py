"""Named specs: one registry per kind of thing (data set, attack, sampler, ...), looked up by name."""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from trainables.base.errors import InputError, nearest, unknown
from trainables.base.modules import load_module, names_of
from trainables.base.user_code import UserCode


class Named(Protocol):
    """A spec: anything with a name."""

    @property
    def name(self) -> str: ...


S = TypeVar("S", bound=Named)
S_co = TypeVar("S_co", bound=Named, covariant=True)


class Others(Protocol[S_co]):
    """Makes the specs of names that are not registered: the user's own code, what installed packages give."""

    def __call__(self, name: str) -> S_co | None:
        """Return the spec, None if that is no name of its kind; the spec's own name is what to store."""
        ...

    def code(self, name: str) -> UserCode | None:
        """Return the code behind a name, None if it has none of the user's; nothing is imported."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are known beforehand: those that installed packages give."""
        ...


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

    def __init__(self, kind: str, specs: Iterable[S] = (), others: Others[S] | None = None) -> None:
        """Name the kind, in the singular, as error messages say it."""
        self.kind = kind
        self._others = others
        self._specs: dict[str, S] = {}
        for spec in specs:
            self.register(spec)
        self._built_in = set(self._specs)

    def register(self, spec: S) -> S:
        """Add a spec and return it.

        A registry belongs to its process. What trials on Ray workers need is named by a study instead, as
        `./file.py:NAME` or `package.module:NAME`, or given by an installed package (docs/own_code.md).

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
            raise InputError(unknown(self.kind, name, self.offered))
        return spec

    def code(self, name: str) -> UserCode | None:
        """Return the user's or an installed package's code behind a name, None for this project's own.

        Nothing is imported.

        Raises:
            InputError: it is not there.
        """
        return None if name in self._specs or self._others is None else self._others.code(name)

    def digests(self, name: str) -> dict[str, str]:
        """Return {path: SHA-256} of the files of `code` as this process imports them, {} where there is none."""
        code = self.code(name)
        return {} if code is None else code.digests_here()

    def is_of_this_process(self, name: str) -> bool:
        """Return whether a name was registered after the fact, so that other processes do not know it."""
        return name in self._specs.keys() - self._built_in

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

    @property
    def offered(self) -> tuple[str, ...]:
        """Return `names`, and those that installed packages give."""
        return (*self._specs, *(self._others.names if self._others is not None else ()))


def resolve_reference(reference: Any) -> Any:
    """Return the object that "package.module:attribute" or "file.py:attribute" names, any other object as it is.

    Specs refer so to what is costly to import; those of the user's own code hold the object itself.
    """
    if not isinstance(reference, str):
        return reference
    module, _, attribute = reference.rpartition(":")
    return getattr(load_module(module), attribute)


def check_references(spec: Any) -> None:
    """Check that what a spec refers to by "package.module:attribute" is there; no module of it is imported.

    Raises:
        InputError: there is no such module, or it has no such attribute.
    """
    for field in dataclasses.fields(spec):
        reference = getattr(spec, field.name)
        if field.name != "name" and isinstance(reference, str) and _REFERENCE.fullmatch(reference):
            module, _, attribute = reference.partition(":")
            names = names_of(module)
            if names is None:
                raise InputError(
                    f"{field.name} of {spec.name!r} is {reference}, but there is no module {module}"
                )
            if attribute not in names:
                hint = nearest(attribute, names)
                raise InputError(
                    f"{field.name} of {spec.name!r} is {reference}, but {module} has no {attribute}; {hint}"
                )
