"""Declares a command-line option as a dataclass field: `option()`, and `options_of()`, which reads them back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any


class OptionRole(Enum):
    """What an option is to a run.

    ACTION: something to do in place of starting a study; two of them exclude each other.
    STORED: goes into the run's plan, so a resume finds it there.
    LOCATION: where the run is kept or executed; the command that resumes the run repeats it.
    ONCE: concerns this one command only.
    """

    ACTION = "action"
    STORED = "stored"
    LOCATION = "location"
    ONCE = "once"


@dataclass(frozen=True, kw_only=True)
class Option:
    """How an option is written on the command line, and what happens to it.

    Attributes:
        group: its heading in --help.
        flag: as it is written; "" in a declaration stands for the field's name, `max_epochs` for "--max-epochs".
        read: makes the value of the text, or raises ValueError that says what would be right; None for a switch.
        metavar: name of the value in --help; a tuple of names for an option of several values; "" for a switch.
        bare: the value if the option is given without one; None if it needs one.
        repeated: it may be given several times, and the values are gathered.
        several: one or more values follow it, as in `--compare RUN RUN`.
        variables: environment variables of which the first that is set takes the place of the default.
        local: `--submit` uses it on this machine; every other option is forwarded to the job on the cluster.
        goes_with: fields of the options, one of which it needs: by default one that starts or continues a run. An
            action goes with itself.
        not_with: fields of options that it contradicts.
        suggests: values for the completion of a shell, see `tuner.planning.suggestions`; None: files where the value is
            one, nothing for any other.
    """

    group: str
    role: OptionRole
    help: str
    flag: str = ""
    read: Callable[[str], Any] | None = str
    metavar: str | tuple[str, ...] = ""
    bare: str | None = None
    repeated: bool = False
    several: bool = False
    variables: tuple[str, ...] = ()
    local: bool = False
    goes_with: tuple[str, ...] = ("study", "resume")
    not_with: tuple[str, ...] = ()
    suggests: Callable[[str, Mapping[str, Any]], Iterable[str]] | None = None


def option(group: str, role: OptionRole, help: str, *, default: Any = None, **attributes: Any) -> Any:
    """Return a dataclass field that carries an `Option`, made of these attributes."""
    return field(
        default=default, metadata={"option": Option(group=group, role=role, help=help, **attributes)}
    )


def switch(group: str, role: OptionRole, help: str, **attributes: Any) -> Any:
    """Return the field of an option without a value, False where it is not given."""
    return option(group, role, help, default=False, read=None, **attributes)


def options_of(owner: type) -> dict[str, Option]:
    """Return {field: its option} of a dataclass, in the order of the fields.

    Raises:
        TypeError: a field was declared without `option()`, or lacks what the parser needs.
    """
    return {each.name: _complete(each.name, each.metadata) for each in fields(owner)}


def _complete(name: str, metadata: Mapping[str, Any]) -> Option:
    if "option" not in metadata:
        raise TypeError(f"{name} is no option: declare it with option() or switch()")
    declared: Option = metadata["option"]
    if not declared.help:
        raise TypeError(f"option {name} has no help")
    if (declared.read is None) != (declared.metavar == ""):
        raise TypeError(f"option {name}: a value needs `read` and `metavar`, a switch has neither")
    return replace(
        declared,
        flag=declared.flag or f"--{name.replace('_', '-')}",
        goes_with=(name,) if declared.role is OptionRole.ACTION else declared.goes_with,
    )
