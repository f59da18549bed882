"""URLs of databases and servers: leave out passwords, name the database driver, find SQLite files.

Database URLs are read and written by SQLAlchemy, which is also what Optuna and MLflow open them with.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_NAMES = "password|passwd|passphrase|pwd|token|secret|secret_key|api_key"
# user:password@, where the password of a database URI may hold anything but blanks and quotes; token@
_USERINFO = re.compile(r"(?<=://)(?:[^\s/@:]*:[^\s\"'<>]*|[^\s/]+)@")
_SECRET = re.compile(rf"((?:{_NAMES})=)[^&\s'\"]+", re.IGNORECASE)
_SECRET_NAME = re.compile(rf"(?:{_NAMES})$", re.IGNORECASE)  # sslpassword too


def redact(text: str) -> str:
    """Return `text` with *** for the user names and passwords of URLs and for the values of secret options."""
    if "://" in text:
        text = _USERINFO.sub("***@", text)
    return _SECRET.sub(r"\1***", text) if "=" in text else text


def scheme_of(url: str) -> str:
    """Return the scheme without the driver, in small letters: "postgresql" of postgresql+psycopg2://; "" of no URL."""
    head, found, _ = url.partition(":")
    return head.partition("+")[0].lower() if found else ""


def is_database(uri: str) -> bool:
    """Return whether the URI names a database, which Optuna and MLflow open themselves."""
    return scheme_of(uri) in DATABASES


def with_driver(url: str) -> str:
    """Return a database URL that names the installed PostgreSQL driver: SQLAlchemy 2.1 assumes psycopg 3."""
    if url.startswith("postgresql://") and find_spec("psycopg") is None:
        return url.replace("://", "+psycopg2://", 1)
    return url


def without_password(url: str) -> str:
    """Return a URL as it may be stored and shown: without its password, and without options such as `?password=`.

    The user's name stays, so that PGPASSWORD or ~/.pgpass can serve; that of a web server may be a token and goes.
    """
    if "://" not in url:
        return url
    if not is_database(url):
        kept = "" if scheme_of(url) in ("http", "https") else _user(url)
        return _SECRET.sub(r"\1***", _USERINFO.sub(kept, url))
    parsed = _parsed(url)
    if parsed is None or has_bare_at(
        url
    ):  # where the password ends is a guess, and the last @ hides the most
        return _SECRET.sub(r"\1***", _USERINFO.sub(_user(url), url))
    query = {name: value for name, value in parsed.query.items() if not _SECRET_NAME.search(name)}
    if parsed.password is None and len(query) == len(parsed.query):
        return url
    from sqlalchemy.engine import URL

    kept_parts = (parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database)
    return URL.create(*kept_parts, query=query).render_as_string()


def has_bare_at(url: str) -> bool:
    """Return whether a database URL holds an @ that belongs to its password and is not written as %40."""
    parsed = _parsed(url)
    if parsed is None:  # it makes the port no number
        return is_database(url) and url.count("@") > 1
    if parsed.password is None:
        return False
    query = (str(part) for item in parsed.query.items() for part in item)
    return any("@" in part for part in (parsed.host or "", parsed.database or "", *query))


def without_secrets(message: object, url: str) -> str:
    """Return what a library says of a URL, with *** for every part of that URL's password."""
    text = redact(str(message))
    if not is_database(url):
        return text
    written = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    # where it is not escaped, a part of it is taken for the host
    parts = {written, *(part for part in re.split(r"[@/?#:]", written) if len(part) > 2)}
    parsed = _parsed(url)
    if parsed is not None:
        parts |= {parsed.password or "", *(str(v) for k, v in parsed.query.items() if _SECRET_NAME.search(k))}
    for part in sorted(parts - {""}, key=len, reverse=True):
        text = text.replace(part, "***").replace(quote(part, safe=""), "***")
    return text


def connect_arguments(url: str, seconds: int) -> dict[str, Any]:
    """Return SQLAlchemy's `connect_args` with which a connection to a silent server fails after so many seconds."""
    parsed = _parsed(with_driver(url))
    if scheme_of(url) not in ("postgresql", "mysql") or parsed is None or "connect_timeout" in parsed.query:
        return {}
    return {"connect_timeout": seconds}


def sqlite_url(path: Path, **query: str) -> str:
    """Return the URL of an SQLite file, whatever characters its path has; `sqlite_file` is the way back.

    Args:
        query: options of SQLite's own, such as mode="ro"; the path is then handed over as SQLite's own kind of URI.
    """
    from sqlalchemy.engine import URL

    database = f"file:{quote(str(path))}" if query else str(path)
    more = {**query, "uri": "true"} if query else {}
    return URL.create("sqlite", database=database, query=more).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of an SQLite URI, absolute, or None for any other URI."""
    parsed = _parsed(uri) if scheme_of(uri) == "sqlite" else None
    path = parsed.database if parsed is not None else ""
    if not path or path == ":memory:":
        return None
    if path.startswith("file:"):
        path = unquote(path.removeprefix("file:"))
    return Path(os.path.abspath(path))


def resolved(uri: str) -> str:
    """Return the URI as MLflow should open it.

    An SQLite file's path is absolute, so that a later chdir does not matter; PostgreSQL's driver is named.
    """
    database, parsed = sqlite_file(uri), _parsed(uri)
    if database is None or parsed is None:
        return with_driver(uri)
    own_kind = (parsed.database or "").startswith("file:")
    return parsed.set(
        database=f"file:{quote(str(database))}" if own_kind else str(database)
    ).render_as_string()


def _user(url: str) -> str:
    """Return the name of the user with its @, "" if the URL has none."""
    found = _USERINFO.search(url)
    name = found[0][:-1].partition(":")[0] if found else ""
    return f"{name}@" if name else ""


def _parsed(url: str) -> "URL | None":
    """Return a database URL as SQLAlchemy reads it, None if it is none."""
    if not is_database(url):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
