"""The user's own studies: found by path, module or entry point, with every object in them replaced by its name.

A study of the user's own may hold what it means, a method's class say, in place of a name. Other processes find such
an object by a reference, `file.py:NAME`, which is its name from then on.
"""

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from inspect import isfunction
from types import ModuleType
from typing import Any

import search_spaces
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Arm, Study
from trainables.base.errors import InputError
from trainables.base.modules import find_file, find_module, is_path, load_module
from trainables.base.own_specs import described_type, installed, installed_names
from trainables.base.user_code import UserCode, is_reference, name_code
from tuner.planning.option_values import run_name

GROUP = "studies"  #: of entry points
ATTRIBUTE = "STUDY"  #: of a file or module that is named without one
_of_this_process: dict[str, Study] = {}  #: what `offer_study` was given


def study_names() -> tuple[str, ...]:
    """Return the names of the studies: the shipped ones, then those of installed packages."""
    return (*search_spaces.NAMES, *installed_names(GROUP))


def find_study(text: str) -> Study:
    """Return a study.

    Args:
        text: the name of a shipped study, of an installed package's or of one that this process has offered;
            `./file.py`, `./file.py:NAME` or `module:NAME`.

    Raises:
        InputError: there is none, its code raises, or it is no study.
    """
    if text in _of_this_process:
        return _of_this_process[text]
    if is_reference(text):
        reference = text
    else:
        reference = f"{text}:{ATTRIBUTE}" if is_path(text) else installed(GROUP, text, "study")
    if not reference or text in search_spaces.NAMES:
        return search_spaces.get(text)
    try:
        code = name_code(reference)
        study = code.load()
        if not isinstance(study, Study):
            raise InputError(f"{code.attribute} is {described_type(study)}, not a Study")
        _check_name(study.name)
        return named(study, code)
    except InputError as error:
        said = str(error)
        if is_path(text) and not is_reference(text) and f" has no {ATTRIBUTE};" in said:
            said = (
                f"it has no {ATTRIBUTE}; write {ATTRIBUTE} = Study(...), or name the one it has: {text}:NAME"
            )
        raise InputError(f"--study {text}: {said}") from error


def offer_study(study: Study) -> str:
    """Let this process find a study that it has made, a notebook say, and return the study's name.

    Raises:
        InputError: the name does not do, or trials in other processes could not find what the study holds.
    """
    _check_name(study.name)
    _of_this_process[study.name] = named(study)
    return study.name


def reference_to(thing: Any, code: UserCode | None = None) -> str:
    """Return a reference to an object by which other processes find it, "" if there is none.

    Args:
        code: where it is looked for first.
    """
    if code is not None and (attribute := _attribute_of(load_module(code.module), thing)):
        return f"{code.module}:{attribute}"
    home = sys.modules.get(str(getattr(thing, "__module__", "")))
    has_a_home = isinstance(thing, type) or isfunction(thing)
    for module in [home] if has_a_home else list(sys.modules.values()):
        file = str(getattr(module, "__file__", None) or "")
        if not isinstance(module, ModuleType) or module.__name__ == "__main__" or not file.endswith(".py"):
            continue
        if attribute := _attribute_of(module, thing):
            spec = find_module(module.__name__)
            by_name = spec is not None and spec.origin == file
            return f"{module.__name__ if by_name else file}:{attribute}"
    return ""


def place_of(study: Study, message: str, settings: Sequence[str] = ()) -> str:
    """Return "file.py, line N: " where a study of the user's own says what a message is about, "" if it is not found.

    Args:
        message: of an error; what it is about is in quotes, or stands before "is".
        settings: KEY=VALUE of the command line; what is wrong with these is not the study's.
    """
    if not study.defined_in:
        return ""
    file = UserCode(study.defined_in).source
    if file is None:
        return ""
    words = {*re.findall(r"'([^']+)'", message), *re.findall(r"^(\S+) is ", message)}
    words -= {part.strip() for text in settings for part in text.split("=")}
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Constant) and node.value in words:
            return f"{file.name}, line {node.lineno}: "
    return ""


def _check_name(name: str) -> None:
    if name in search_spaces.NAMES:
        raise InputError(f"its name is {name}, that of a shipped study; give it one of its own")
    try:
        run_name(name)
    except ValueError as error:
        raise InputError(f"its name is {name!r}; {error}") from error


def name_of_study(text: str) -> str:
    """Return the name of a study, given as to `find_study`; a mere name is not looked up.

    Raises:
        InputError: there is no such code.
    """
    return find_study(text).name if is_path(text) or is_reference(text) else text


def named(study: Study, code: UserCode | None = None) -> Study:
    """Return a study in which every object is replaced by its name; other processes may import the code behind it.

    Args:
        code: where the study is.

    Raises:
        InputError: no other process could find an object.
    """
    names = _Names(study.name, code)
    return replace(
        study,
        method=names.of(study.method, "method"),
        dataset=names.of(study.dataset, "dataset"),
        sampler=names.of(study.sampler, "sampler"),
        space=names.in_space(study.space),
        validation=names.in_fields(study.validation),
        protocol=names.in_fields(study.protocol),
        arms=names.in_arms(study.arms),
        elsewhere=names.in_space(study.elsewhere),
        profiles=tuple(
            replace(
                profile,
                dataset=names.of(profile.dataset, "dataset"),
                sampler=names.of(profile.sampler, "sampler"),
                settings=names.in_space(profile.settings),
                validation=names.in_fields(profile.validation),
                protocol=names.in_fields(profile.protocol),
                arms=names.in_arms(profile.arms),
            )
            for profile in study.profiles
        ),
        defined_in=str(code) if code is not None else study.defined_in,
    )


class _Names:
    """Finds the names of the objects in a study."""

    def __init__(self, study: str, code: UserCode | None) -> None:
        self.study, self.code = study, code

    def in_space(self, space: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: Choice(tuple(self.of(each, key) for each in setting.options))
            if isinstance(setting, Choice)
            else self.of(setting, key)
            for key, setting in space.items()
        }

    def in_arms(self, arms: Sequence[Arm]) -> tuple[Arm, ...]:
        return tuple(
            replace(arm, method=self.of(arm.method, "method"), overrides=self.in_space(arm.overrides))
            for arm in arms
        )

    def in_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: tuple(self.of(each, key) for each in value)
            if isinstance(value, (tuple, list))
            else self.of(value, key)
            for key, value in fields.items()
        }

    def of(self, value: Any, what: str) -> Any:
        """Return the name of an object; numbers, ranges and names as they are.

        Args:
            what: it is the value of, for the message.
        """
        if value is None or isinstance(value, (bool, int, float, Float, Int)):
            return value
        if isinstance(value, str):
            return self._portable(value)
        if isinstance(value, (tuple, list, set, dict)):
            raise InputError(
                f"study {self.study}: its {what} is {value!r}; one value, a range Float(a, b) or Int(a, b), or "
                "Choice((a, b)) is wanted"
            )
        reference = reference_to(value, self.code)
        if not reference:
            where = self.code.module if self.code is not None else "a file and import it from there"
            raise InputError(
                f"study {self.study}: its {what} is {described_type(value)} that other processes cannot find; give it "
                f"a name at the top of {where}"
            )
        return str(name_code(reference))

    def _portable(self, text: str) -> str:
        """Return a name; of a reference the one by which every process finds it, from the study's folder on."""
        reference, at, layer = text.partition("@")
        path, _, attribute = reference.rpartition(":")
        if self.code is not None and self.code.is_file and path.endswith(".py"):
            beside = find_file(self.code.module).parent / path
            reference = f"{beside}:{attribute}" if beside.is_file() else reference
        if is_reference(reference):
            with suppress(InputError):  # of a library (torchvision:NAME), or not there, which its use tells
                return f"{name_code(reference)}{at}{layer}"
        return text


def _attribute_of(module: ModuleType, thing: Any) -> str:
    """Return the name of an object at the top of a module, "" if it has none."""
    return next((name for name, value in list(vars(module).items()) if value is thing), "")
