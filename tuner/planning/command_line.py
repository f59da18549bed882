"""Command lines of `launch.py`: parsed into `LaunchOptions`, and written again for storage, a resume or a cluster."""

import argparse
import itertools
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trainables.base.arguments import Parser
from trainables.base.errors import InputError, unknown
from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.program import program, program_name
from tuner.base.urls import has_bare_at, redact, without_password
from tuner.planning.launch_options import LaunchOptions, launch_options
from tuner.planning.option import Option, OptionRole


class Once(argparse.Action):
    """Stores the value of an option; a second, different one is refused, as it would replace the first in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        first = getattr(namespace, self.dest, values)
        if first != values:
            raise UsageError(f"{option_string} is given twice, as {first} and as {values}; give it once")
        setattr(namespace, self.dest, values)


def parser(options: Mapping[str, Option]) -> Parser:
    """Return a parser of {field: option}; its namespace holds only what was given."""
    made = Parser(
        prog=program_name(),
        description="Search the hyperparameters of a robust or out-of-distribution-aware classifier.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,  # a shortened --trials would start a study
    )
    groups = {
        title: made.add_argument_group(title) for title in dict.fromkeys(o.group for o in options.values())
    }
    for name, option in options.items():
        variable = f" [environment: {' or '.join(option.variables)}]" if option.variables else ""
        groups[option.group].add_argument(
            option.flag, dest=name, help=option.help + variable, **_arguments(option)
        )
    return made


def _arguments(option: Option) -> dict[str, Any]:
    """Return what argparse needs to know of an option besides its name and help."""
    if option.read is None:
        return {"action": "store_true"}
    arguments: dict[str, Any] = {"type": _reader(option), "metavar": option.metavar}
    arguments["action"] = "append" if option.repeated else Once
    if option.several:
        arguments["nargs"] = "+"
    elif isinstance(option.metavar, tuple):
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
        if has_bare_at(text):
            raise UsageError(f"{option.flag} {redact(text)}: write the @ of its password as %40")
        try:
            return read(text)
        except ValueError as error:
            shown = repr(without_password(text)) if text else "empty"
            raise UsageError(f"{option.flag} is {shown}; {error}") from None

    return checked


def parse(arguments: Sequence[str]) -> LaunchOptions:
    """Return the options of a command line, each the given one, its environment variable or its default.

    Raises:
        UsageError: an unknown option, a value that cannot be read, an option that is given twice or does not go with
            what is to be done, in one line.
    """
    given = _read(arguments)
    for name, value in given.items():
        _refuse_secret(name, value)
    own = _from_environment()
    for name in own.keys() & given.keys():
        if isinstance(own[name], str) and given[name] == without_password(own[name]):
            given[name] = own[name]  # the same place, with its password
    options = LaunchOptions(**own | given)
    _check_together(options, given)
    return options


def parse_stored(command: str) -> LaunchOptions:
    """Return the options of a command that was stored, with whatever program; earlier versions allowed more.

    Raises:
        UsageError: an unknown option, or a value that cannot be read.
    """
    words = itertools.dropwhile(lambda word: not word.startswith("--"), shlex.split(command))
    return LaunchOptions(**_from_environment() | _read(list(words)))


def _refuse_secret(name: str, value: Any) -> None:
    """Raise UsageError if an option's value is a URL with a password."""
    flag = launch_options()[name].flag
    if not isinstance(value, str) or without_password(value) == value:
        return
    places = {
        "study_storage": "put it into TUNER_STUDY_STORAGE, or leave the password to PGPASSWORD or ~/.pgpass",
        "tracking_uri": "put it into MLFLOW_TRACKING_URI; a server's may also be in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or in MLFLOW_TRACKING_TOKEN",
    }
    place = places.get(name, "leave it to the environment")
    raise UsageError(
        f"{flag} {redact(value)} carries a password, which other users of this machine could read; {place}"
    )


def _from_environment() -> dict[str, Any]:
    return {
        name: _reader(option)(text)
        for name, option in launch_options().items()
        if (text := next(filter(None, map(environment.variable, option.variables)), ""))
    }


def _read(arguments: Sequence[str]) -> dict[str, Any]:
    """Return {field: value} of the options that a command line gives."""
    try:
        namespace, rest = parser(launch_options()).parse_known_args(arguments)
    except InputError as error:
        raise UsageError(str(error)) from error
    if rest:
        name = next((word.partition("=")[0] for word in rest if word.startswith("-")), "")
        flags = [option.flag for option in launch_options().values()]
        raise UsageError(
            f"{unknown('option', name, flags)} (see --help)"
            if name
            else f"{rest[0]!r} belongs to no option (see --help)"
        )
    return {name: tuple(v) if isinstance(v, list) else v for name, v in vars(namespace).items()}


def _check_together(options: LaunchOptions, given: Iterable[str]) -> None:
    """Raise UsageError if nothing is to be done, or an option was given that does not go with it."""
    declared, action = launch_options(), options.action
    if action == "study" and not options.study and not options.method:
        raise UsageError("name a study with --study (see --list), for example --study aoe_sigma")
    present = {action, "submit"} if options.submit else {action}
    for name in given:
        if present.isdisjoint(declared[name].goes_with):
            others = [declared[other].flag for other in declared[name].goes_with if other != name]
            right = f"it goes with {' or '.join(others)}" if others else "give one of them"
            raise UsageError(f"{declared[name].flag} does not go with {declared[action].flag}; {right}")
        for other in declared[name].not_with:
            if getattr(options, other):
                raise UsageError(
                    f"{declared[name].flag} does not go with {declared[other].flag}; give one of them"
                )


def as_command(arguments: Sequence[str]) -> str:
    """Return the command line of these arguments as it may be stored and shown: without passwords."""
    words = []
    for argument in arguments:
        flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        words.append(f"{flag}{equals}{without_password(value)}" if "://" in value else argument)
    return shlex.join([*program(), *words])


def resume_command(study: str, run: str, options: LaunchOptions, trials: int | None = None) -> str:
    """Return the command that continues a run: where it is kept and runs is repeated, the rest is in its plan.

    Args:
        study: "" leaves it out; the run's name is enough.
        trials: to have so many instead of the plan's.
    """
    default = LaunchOptions()
    words = [*(["--study", study] if study else []), "--resume", run]
    for name, option in launch_options().items():
        value = getattr(options, name)
        if option.role is OptionRole.LOCATION and value not in (None, getattr(default, name)):
            words += [option.flag, str(value)]
    if trials is not None:
        words += ["--trials", str(trials)]
    return as_command(words)


#: of a search, and not taken over by a command that trains one configuration; so are those that --train goes without
_OF_A_SEARCH = ("run_name", "stages", "confirm_seeds", "concurrency", "pack", "train", "settings")


def training_command(command: str, study: str, params: Mapping[str, Any]) -> str:
    """Return the command that trains a configuration of a study again and measures it.

    Args:
        command: that began the run; "" if it is not known.
        params: the searched parameters.
    """
    words = shlex.split(command) or ["python", "launch.py", "--study", study]
    start = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    known = {option.flag: name for name, option in launch_options().items()}

    def stays(option: Option) -> bool:
        lasting = option.role in (OptionRole.STORED, OptionRole.LOCATION)
        return lasting and "train" not in option.not_with and known[option.flag] not in _OF_A_SEARCH

    kept = _kept(words[start:], stays)
    given = _kept(words[start:], lambda o: known[o.flag] == "settings")
    settings = [word.removeprefix("--set=") for word in given if word != "--set"]
    settings = [text for text in settings if text.partition("=")[0].strip() not in params]
    settings += [f"{key}={value}" for key, value in params.items()]
    pairs = [word for text in settings for word in ("--set", text)]
    return shlex.join([*words[:start], "--train", *kept, *pairs])


def forwarded(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that go to a job on a cluster: all but the local options and their values."""
    return _kept(arguments, lambda option: not option.local)


def resume_arguments(arguments: Sequence[str], study: str, run: str) -> list[str]:
    """Return the arguments that continue a run on this machine: as `resume_command`, with passwords where they were."""
    located = _kept(arguments, lambda option: option.role is OptionRole.LOCATION)
    return ["--study", study, "--resume", run, *located]


def _kept(arguments: Sequence[str], wanted: Callable[[Option], bool]) -> list[str]:
    """Return the options of a command line that are wanted, with their values."""
    words: list[str] = []
    keep = True
    for word in arguments:
        option = _option_of(word)
        keep = keep if option is None else wanted(option)  # a value goes with its option
        if keep:
            words.append(word)
    return words


def _option_of(word: str) -> Option | None:
    """Return the option that a word of a command line names."""
    name = word.partition("=")[0]
    return next((option for option in launch_options().values() if option.flag == name), None)
