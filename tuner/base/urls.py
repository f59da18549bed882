"""URLs of databases and servers: remove passwords, name the database driver, find SQLite files."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

# user:password@, where the password of a database URI may hold anything but blanks and quotes; token@
_USERINFO = re.compile(r"(?<=://)(?:[^\s/@:]+:[^\s\"'<>]*|[^\s/]+)@")
_SECRET = re.compile(r"((?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Return `text` with *** for the user names and passwords of URLs and for the values of secret options."""
    if "://" in text:
        text = _USERINFO.sub("***@", text)
    return _SECRET.sub(r"\1***", text) if "=" in text else text


def with_driver(url: str) -> str:
    """Return a database URL that names the installed PostgreSQL driver: SQLAlchemy 2.1 assumes psycopg 3."""
    if url.startswith("postgresql://") and find_spec("psycopg") is None:
        return url.replace("://", "+psycopg2://", 1)
    return url


def without_password(url: str) -> str:
    """Return a URL without its password; the user's name stays, so that PGPASSWORD or ~/.pgpass can serve."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}")) if at else url


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of an SQLite URI, absolute, or None for any other URI."""
    head, found, path = uri.partition(":///")
    if head.split("+")[0].lower() != "sqlite" or not found:
        return None
    path = unquote(path.partition("?")[0])
    return Path(os.path.abspath(path)) if path and path != ":memory:" else None


def resolved(uri: str) -> str:
    """Return the URI as MLflow should open it.

    An SQLite file's path is absolute, so that a later chdir does not matter; PostgreSQL's driver is named.
    """
    database = sqlite_file(uri)
    if database is None:
        return with_driver(uri)
    query = uri.partition("?")[2]
    return f"{uri.partition(':///')[0]}:///{database}" + (f"?{query}" if query else "")
