"""Passwords of URLs, generated: no place that stores or shows a URL holds any part of one. SQLite files of any name."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tuner.base import urls
from tuner.base.errors import UsageError
from tuner.base.text import one_line
from tuner.base.urls import redact, sqlite_file, sqlite_url, without_password, without_secrets
from tuner.commands.submit import entrypoint
from tuner.planning.command_line import as_command, parse, resume_command
from tuner.planning.launch_options import LaunchOptions
from tuner.tracking.mlflow_uris import ui_command
from tuner.tracking.tracker import _texts

SPECIAL = "/#?%:&=+;,!$*~^()[]{}|"
# parts that no word of a message holds, with what gives a URL its structure in between
PARTS = st.lists(st.text("qxzj", min_size=4, max_size=6), min_size=2, max_size=3)
FORMS: dict[str, Callable[[str], str]] = {
    "raw": lambda password: f"postgresql://me:{password}@db.example:5432/studies?sslmode=require",
    "quoted": lambda password: f"postgresql+psycopg2://me:{quote(password, safe='')}@db.example/studies",
    "no user": lambda password: f"postgresql://:{quote(password, safe='')}@db.example/studies",
    "option": lambda password: (
        f"postgresql://me@db.example/studies?password={quote(password, safe='')}&sslmode=require"
    ),
    "ssl option": lambda password: (
        f"postgresql://me@db.example/studies?sslpassword={quote(password, safe='')}"
    ),
    "server": lambda password: f"http://me:{password}@mlflow.example:5000/ml",
    "token": lambda password: f"https://{quote(password, safe='')}@mlflow.example/ml",
    "bucket": lambda password: f"s3://KEY:{password}@bucket/runs",
}


@st.composite
def secrets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a password and the parts of it, none of which may be seen."""
    parts = draw(PARTS)
    password = parts[0]
    for part in parts[1:]:
        password += draw(st.text(SPECIAL, min_size=1, max_size=2)) + part
    return password, parts


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None)
@given(drawn=secrets())
def test_no_part_of_a_password_is_stored_or_shown(form: str, drawn: tuple[str, list[str]]) -> None:
    password, parts = drawn
    url = FORMS[form](password)
    refused = "carries a password, which other users of this machine could"
    with pytest.raises(UsageError, match=refused if urls.is_database(url) else "unknown scheme") as said:
        parse(["--study", "s", "--study-storage", url])
    with pytest.raises(UsageError, match=r"--tracking-uri .* carries a password"):
        entrypoint(["--study", "s", f"--tracking-uri={url}"], "r")
    places = {
        "plan.json": without_password(url),
        "command": as_command(["--study", "s", "--study-storage", url, f"--tracking-uri={url}"]),
        "resume": resume_command("s", "r", LaunchOptions(study_storage=url, tracking_uri=url, storage=url)),
        "refusal": str(said.value),
        "console": one_line(f"cannot open {url}: refused"),
        "log": redact(f"'{url}' and ({url})"),
        "JSON": redact(json.dumps({"uri": url})),
        "MLflow": _texts({"uri": url}, 500)["uri"],
        "ui command": ui_command(url),
    }
    if urls.is_database(url):
        words = f"cannot reach {password}, {quote(password, safe='')}"
        places["driver's own words"] = without_secrets(words, url)
    assert {place: text for place, text in places.items() if any(part in text for part in parts)} == {}


@given(drawn=secrets(), form=st.sampled_from(["raw", "quoted", "option"]))
def test_without_its_password_a_database_is_still_the_same(drawn: tuple[str, list[str]], form: str) -> None:
    url = FORMS[form](drawn[0])
    before, after = make_url(url), make_url(without_password(url))
    assert after.password is None
    assert "password" not in after.query
    for part in ("drivername", "username", "host", "port", "database"):
        assert getattr(after, part) == getattr(before, part)
    assert after.query.get("sslmode") == before.query.get("sslmode")
    assert without_password(without_password(url)) == without_password(url)


@given(before=secrets(), after=secrets())
def test_an_at_sign_that_is_not_escaped_is_refused_and_hides_all_that_it_may_belong_to(
    before: tuple[str, list[str]], after: tuple[str, list[str]]
) -> None:
    url = FORMS["raw"](f"{before[0]}@{after[0]}")
    with pytest.raises(UsageError, match="write the @ of its password as %40") as said:
        parse(["--study", "s", "--study-storage", url])
    words = without_secrets(f"could not translate host name {after[0]}@db.example", url)
    for shown in (str(said.value), without_password(url), redact(url), words):
        assert not [part for part in (*before[1], *after[1]) if part in shown]


def test_an_at_sign_in_what_is_read_as_an_option_is_one_too() -> None:
    """The password is "a:b@c?d=e": SQLAlchemy reads an option d of the value "e@db.example:5432/studies"."""
    assert urls.has_bare_at("postgresql://me:a:b@c?d=e@db.example:5432/studies")
    assert not urls.has_bare_at("postgresql://me:a@db.example/studies?sslmode=require")
    assert not urls.has_bare_at("postgresql://me@db.example/studies?application_name=me@home")


@pytest.mark.parametrize(
    "folder", ["feature%2Fx", "a#b", "a?b", "a b", "ünï-文", "a%b", "a&b=c;d", "file:x", "'q'"]
)
def test_a_file_is_found_again_by_its_url_whatever_its_name(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "study.db"
    path.parent.mkdir()
    for url in (sqlite_url(path), urls.resolved(sqlite_url(path)), sqlite_url(path, mode="rwc")):
        assert sqlite_file(url) == path
        with create_engine(url).begin() as connection:
            connection.execute(text("create table if not exists there (x int)"))
    assert [file.name for file in tmp_path.rglob("*.db")] == ["study.db"]
    with create_engine(sqlite_url(path, mode="ro")).connect() as connection:
        assert connection.execute(text("select count(*) from there")).scalar() == 0


def test_a_silent_server_is_not_waited_for_longer_than_the_url_or_the_caller_says() -> None:
    assert urls.connect_arguments("postgresql://h/db", 5) == {"connect_timeout": 5}
    assert urls.connect_arguments("postgresql://h/db?connect_timeout=60", 5) == {}
    assert urls.connect_arguments("sqlite:///x.db", 5) == {}
