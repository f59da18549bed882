"""The declarations of the options: none is incomplete, and each is forwarded to a cluster or local."""

from dataclasses import dataclass, fields, make_dataclass
from typing import Any

import pytest

from tuner import cli
from tuner.planning.command_line import forwarded, parser, resume_command
from tuner.planning.launch_options import LaunchOptions, launch_options
from tuner.planning.option import Option, OptionRole, option, options_of, switch

OPTIONS = launch_options()


def words_of(declared: Option) -> list[str]:
    """Return an option as a user writes it."""
    if declared.read is None:
        return [declared.flag]
    return [
        declared.flag,
        *(["value"] * (len(declared.metavar) if isinstance(declared.metavar, tuple) else 1)),
    ]


def test_every_field_is_an_option_of_the_parser() -> None:
    actions = {action.dest: action for action in parser(OPTIONS)._actions if action.dest != "help"}
    assert list(actions) == [f.name for f in fields(LaunchOptions)]
    assert all(action.help for action in actions.values())
    assert len({action.option_strings[0] for action in actions.values()}) == len(actions)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_forwarded_or_local(name: str) -> None:
    words = words_of(OPTIONS[name])
    assert forwarded(["--study", "s", *words]) == ["--study", "s", *([] if OPTIONS[name].local else words)]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_goes_with_an_action_or_a_switch(name: str) -> None:
    others = {
        other
        for other, declared in OPTIONS.items()
        if declared.role is OptionRole.ACTION or other in ("study", "submit")
    }
    assert OPTIONS[name].goes_with
    assert set(OPTIONS[name].goes_with) <= others


def test_the_local_options() -> None:
    assert {name for name, declared in OPTIONS.items() if declared.local} == {
        "address",
        "submit",
        "driver_on",
    }


def test_every_action_has_its_answer() -> None:
    actions = {name for name, declared in OPTIONS.items() if declared.role is OptionRole.ACTION}
    assert actions == {*cli.ANSWERS, "list_studies", "resume"}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (None, "trials is no option: declare it with option"),
        (lambda: option("budget", OptionRole.STORED, ""), "option trials has no help"),
        (
            lambda: option("budget", OptionRole.STORED, "help"),
            "option trials: a value needs `read` and `metavar`",
        ),
        (lambda: switch("budget", OptionRole.STORED, "help", metavar="N"), "a switch has neither"),
        (lambda: option("budget", OptionRole.STORED), "missing 1 required positional argument: 'help'"),
        (lambda: option("budget", help="help"), "missing 1 required positional argument: 'role'"),
        (
            lambda: option("budget", OptionRole.STORED, "help", metvar="N"),
            "unexpected keyword argument 'metvar'",
        ),
    ],
)
def test_an_incomplete_declaration_is_refused(declared: Any, says: str) -> None:
    def build() -> None:
        default = None if declared is None else declared()
        parser(options_of(make_dataclass("Incomplete", [("trials", int | None, default)])))

    with pytest.raises(TypeError, match=says):
        build()


def test_the_flag_is_the_fields_name_unless_it_is_given() -> None:
    @dataclass
    class Some:
        max_epochs: int | None = option("budget", OptionRole.STORED, "help", metavar="N", read=int)
        time_s: float | None = option(
            "budget", OptionRole.STORED, "help", metavar="T", read=float, flag="--time"
        )

    assert [o.flag for o in options_of(Some).values()] == ["--max-epochs", "--time"]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resume_command_repeats_the_locations_and_nothing_else(name: str) -> None:
    value = ("value",) if OPTIONS[name].repeated else "value"
    words = resume_command("s", "r", LaunchOptions(**{name: value})).split()  # type: ignore[arg-type]
    repeated = [OPTIONS[name].flag, "value"] if OPTIONS[name].role is OptionRole.LOCATION else []
    assert words == ["python", "launch.py", "--study", "s", "--resume", "r", *repeated]
