"""What the text of an option's value means, and what is said of a text that means nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from tuner.base.errors import UsageError
from tuner.planning import option_values as values


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.whole_number(1), "1", 1),
        (values.whole_number(0), "0", 0),
        (values.duration_s, "90", 90.0),
        (values.duration_s, "90s", 90.0),
        (values.duration_s, " 1.5 h ", 5400.0),
        (values.duration_s, "2d", 172800.0),
        (values.gpu_share, "auto", None),
        (values.gpu_share, "0", 0.0),
        (values.gpu_share, "0.25", 0.25),
        (values.gpu_share, "2", 2.0),
        (values.requested_pack, "auto", None),
        (values.requested_pack, "off", 1),
        (values.requested_pack, "1", 1),
        (values.requested_pack, "16", 16),
        (values.comma_separated, " a, b,,c", ("a", "b", "c")),
        (values.comma_separated, "", ()),
        (values.stages, "report, search", ("search", "report")),
        (values.database_url, "postgresql+psycopg2://u@h/x", "postgresql+psycopg2://u@h/x"),
        (values.database_url, "sqlite:///x.db", "sqlite:///x.db"),
        (values.run_name, "aoe_sigma-20260101-000000", "aoe_sigma-20260101-000000"),
    ],
)
def test_values(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts", "says"),
    [
        (values.whole_number(1), ["many", "1.5", ""], "it must be a whole number"),
        (values.whole_number(1), ["0", "-1"], "it must be at least 1$"),
        (values.whole_number(1, "or leave it out"), ["0"], r"it must be at least 1 \(or leave it out\)"),
        (values.duration_s, ["soon", "0", "-5m", "5 weeks", ""], "90s, 30m or 2h"),
        (values.gpu_share, ["some", ""], "auto or a number such as 0.25"),
        (values.gpu_share, ["-1", "1.5", "nan", "inf", "1000"], "from 0 to 1, or a whole number"),
        (
            values.requested_pack,
            ["", "0", "-1", "2.5", "many", "257"],
            "auto, off or a number of trials from 1",
        ),
        (values.stages, ["search,evalute"], "did you mean evaluate"),
        (values.stages, ["", ","], "name some of search,evaluate,confirm,report"),
        (
            values.database_url,
            ["postgresq://h/x"],
            "^unknown scheme 'postgresq'; did you mean postgresql[?] known: postgresql, sqlite$",
        ),
        (values.database_url, ["mysql://h/x", "mssql+x://h"], "^only SQLite and PostgreSQL are supported$"),
        (
            values.database_url,
            ["study.db", "postgresql", "c:x", ""],
            "^it must be a URL such as postgresql://USER@HOST/NAME or sqlite:///FILE$",
        ),
        (values.run_name, ["a/b", "../x", "-x", "", "x" * 101], "may hold only letters, digits"),
    ],
)
def test_refused_values(read: Callable[[str], Any], texts: list[str], says: str) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=says):
            read(text)


def test_names_are_checked_in_one_line() -> None:
    values.check_name("confirm-0001")
    with pytest.raises(UsageError, match=r"run name '\.\./x' may hold only letters"):
        values.check_name("../x")
