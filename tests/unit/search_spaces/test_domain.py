"""Domains and the right-hand side of --set."""

import pytest

from search_spaces.domain import Choice, Float, Int, SpaceError, parse_setting, to_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.03", 0.03),
        ("3", 3),
        ("-1e-4", -1e-4),
        ("true", True),
        ("False", False),
        ("eba", "eba"),
        ("'3'", 3),
        ("loguniform(1e-4,1e-1)", Float(1e-4, 0.1, log=True)),
        ("uniform(0, 1)", Float(0.0, 1.0)),
        ("int(1,10)", Int(1, 10)),
        ("logint(1, 64)", Int(1, 64, log=True)),
        ("choice(fgsm, pgd)", Choice(("fgsm", "pgd"))),
        ("choice(1, 2.5, x)", Choice((1, 2.5, "x"))),
    ],
)
def test_settings_are_read(text: str, expected: object) -> None:
    assert parse_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uniform(1, 0)", "inverted"),
        ("uniform(1, 1)", "empty"),
        ("loguniform(0, 1)", "above 0"),
        ("loguniform(-1, 1)", "above 0"),
        ("uniform(0, inf)", "finite"),
        ("uniform(0)", "two numbers"),
        ("uniform(a, b)", "two numbers"),
        ("int(1.5, 3)", "whole"),
        ("choice()", "empty"),
        ("choice(a, a)", "twice"),
        ("normal(0, 1)", "not a domain"),
        ("loguniform(1e-2", r"^loguniform\(1e-2 lacks its closing parenthesis; write loguniform\(1e-2\)$"),
        (" int(2,10", r"^int\(2,10 lacks its closing parenthesis; write int\(2,10\)$"),
    ],
)
def test_bad_settings_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        parse_setting(text)


@pytest.mark.parametrize(
    "domain",
    [Float(1 / 3, 2 / 3), Float(1e-7, 0.1, log=True), Int(1, 9), Int(1, 9, log=True), Choice(("a", "b"))],
)
def test_plan_json_loses_nothing(domain: object) -> None:
    """The text of a domain reads back as the same domain, to the last bit of its bounds."""
    assert parse_setting(to_json(domain)) == domain  # type: ignore[arg-type]


def test_membership() -> None:
    assert 0.5 in Float(0, 1)
    assert 2 not in Int(3, 4)
    assert True not in Int(0, 1)
