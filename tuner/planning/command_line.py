"""Command lines of `launch.py`: parsed into `LaunchOptions`, and written again for storage, a resume or a cluster."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.urls import without_password
from tuner.planning.launch_options import LaunchOptions, launch_options
from tuner.planning.option import Option, Role


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError in place of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)")


def parser(options: Mapping[str, Option]) -> Parser:
    """Return a parser of {field: option}; its namespace holds only what was given."""
    made = Parser(
        prog="launch.py",
        description="Search the hyperparameters of a robust or out-of-distribution-aware classifier.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,  # a shortened --trials would start a study
    )
    groups = {
        title: made.add_argument_group(title) for title in dict.fromkeys(o.group for o in options.values())
    }
    for name, option in options.items():
        variable = f" [environment: {option.variable}]" if option.variable else ""
        groups[option.group].add_argument(
            option.flag, dest=name, help=option.help + variable, **_arguments(option)
        )
    return made


def _arguments(option: Option) -> dict[str, Any]:
    """Return what argparse needs to know of an option besides its name and help."""
    if option.read is None:
        return {"action": "store_true"}
    arguments: dict[str, Any] = {"type": _reader(option), "metavar": option.metavar}
    if option.repeated:
        arguments["action"] = "append"
    if isinstance(option.metavar, tuple):
        arguments["nargs"] = len(option.metavar)
    if option.bare is not None:
        arguments |= {"nargs": "?", "const": option.bare}
    return arguments


def _reader(option: Option) -> Callable[[str], Any]:
    """Return an option's reader whose ValueError is a UsageError that names the option and the text."""
    read = option.read
    assert read is not None

    def checked(text: str) -> Any:
        if text == option.bare:  # argparse reads the value of a bare option like any other
            return text
        try:
            return read(text)
        except ValueError as error:
            raise UsageError(f"{option.flag} is {repr(text) if text else 'empty'}; {error}") from None

    return checked


def parse(arguments: Sequence[str]) -> LaunchOptions:
    """Return the options of a command line, each the given one, its environment variable or its default.

    Raises:
        UsageError: an unknown option, a value that cannot be read, or options that exclude each other, in one line.
    """
    options = launch_options()
    values: dict[str, Any] = {
        name: _reader(option)(text)
        for name, option in options.items()
        if option.variable and (text := environment.variable(option.variable))
    }
    for name, value in vars(parser(options).parse_args(arguments)).items():
        values[name] = tuple(value) if isinstance(value, list) else value
    return checked(LaunchOptions(**values))


def checked(options: LaunchOptions) -> LaunchOptions:
    """Return the options if they name exactly one thing to do.

    Raises:
        UsageError: they name several, or none.
    """
    flags = [launch_options()[name].flag for name in options.actions]
    if len(flags) > 1:
        raise UsageError(f"{flags[0]} and {flags[1]} exclude each other; give one of them")
    if options.json and options.status is None and options.evaluate is None:
        raise UsageError(
            "--json goes with --evaluate or --status; a study writes its results into its run folder"
        )
    if options.driver_on and not options.submit:
        raise UsageError("--driver-on goes with --submit; without it the driver runs here")
    if not flags and not options.study:
        raise UsageError("name a study with --study (see --list), for example --study aoe_sigma")
    return options


def as_command(arguments: Sequence[str]) -> str:
    """Return the command line of these arguments as it may be stored and shown: without passwords."""
    words = []
    for argument in arguments:
        flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        words.append(f"{flag}{equals}{without_password(value)}" if "://" in value else argument)
    return shlex.join(["python", "launch.py", *words])


def resume_command(study: str, run: str, options: LaunchOptions) -> str:
    """Return the command that continues a run: where it is kept and runs is repeated, the rest is in its plan."""
    default = LaunchOptions()
    words = ["--study", study, "--resume", run]
    for name, option in launch_options().items():
        value = getattr(options, name)
        if option.role is Role.LOCATION and value not in (None, getattr(default, name)):
            words += [option.flag, str(value)]
    return as_command(words)


def forwarded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that go to a job on a cluster: all but the local options and their values."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        option = _option_of(word)
        if option is None or not option.local:
            words.append(word)
        elif option.read is not None and "=" not in word:
            next(rest, None)  # its value
    return words


def _option_of(word: str) -> Option | None:
    """Return the option that a word of a command line names."""
    name = word.partition("=")[0]
    return next((option for option in launch_options().values() if option.flag == name), None)
