"""Reads the values of launch options from their text.

Every reader returns the value or raises ValueError with what would be right: the parser puts the option and the text
before it, as in "--trials is 'many'; it must be a whole number".
"""

import re
from collections.abc import Callable, Sequence

from search_spaces.paper_presets import NAMES as PAPERS
from trainables.base.errors import unknown
from trainables.inference.format_specs import FORMATS
from tuner.base.errors import UsageError
from tuner.base.urls import DATABASES, scheme_of
from tuner.planning.plan import MOST, STAGES

STUDY_DATABASES = ("sqlite", "postgresql")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_RULE = "may hold only letters, digits, '.', '_' and '-' (100 at most)"
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def preset(text: str) -> str:
    """Return the name of a preset of the authors' settings."""
    if text not in PAPERS:
        raise ValueError(unknown("preset", text, PAPERS))
    return text


def whole_number(at_least: int, hint: str = "", at_most: int = MOST) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range; `hint` is added to what it says of smaller ones."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("it must be a whole number") from None
        if value < at_least:
            raise ValueError(f"it must be at least {at_least}{f' ({hint})' if hint else ''}")
        if value > at_most:
            raise ValueError(f"it must be at most {at_most}")
        return value

    return read


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a reader of names from a closed list."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"it must be {' or '.join(names)}")
        return text

    return read


def duration_s(text: str) -> float:
    """Return seconds: "90s", "30m", "2h", "1.5h", "1d"; a bare number is seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if not match or float(match[1]) <= 0:
        raise ValueError("write for example 90s, 30m or 2h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MOST:
        raise ValueError(f"it must be at most {MOST} seconds")
    return seconds


def gpu_share(text: str) -> float | None:
    """Return the GPUs of a trial: a share from 0 to 1 or a whole number; None for auto."""
    if text == "auto":
        return None
    try:
        share = float(text)
    except ValueError:
        raise ValueError("it must be auto or a number such as 0.25") from None
    if not 0 <= share < 1000 or (share > 1 and share != int(share)):
        raise ValueError("it must be from 0 to 1, or a whole number")
    return share


def requested_pack(text: str) -> int | None:
    """Return how many trials may share a process, from 1 to 256: 1 for off, None for auto."""
    if text in ("auto", "off"):
        return None if text == "auto" else 1
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError("it must be auto, off or a number of trials from 1 to 256")
    return int(text)


def address(text: str) -> str | None:
    """Return the address of a Ray cluster; None for "local", as RAY_ADDRESS may say: a Ray of the launch's own."""
    return None if text == "local" else text


def database_url(text: str) -> str:
    """Return the URL of a study's database."""
    scheme = scheme_of(text)
    if not scheme or ":/" not in text:
        raise ValueError("it must be a URL such as postgresql://USER@HOST/NAME or sqlite:///FILE")
    if scheme in DATABASES and scheme not in STUDY_DATABASES:
        raise ValueError("only SQLite and PostgreSQL are supported")
    if scheme not in STUDY_DATABASES:
        raise ValueError(unknown("scheme", scheme, STUDY_DATABASES))
    return text


def comma_separated(text: str) -> tuple[str, ...]:
    """Return the names of a list that is separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def stages(text: str) -> tuple[str, ...]:
    """Return stages of a study in the order in which they run."""
    named = comma_separated(text)
    for stage in named:
        if stage not in STAGES:
            raise ValueError(f"{unknown('stage', stage, STAGES)} (of {','.join(STAGES)})")
    if not named:
        raise ValueError(f"name some of {','.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in named)


def formats(text: str) -> tuple[str, ...]:
    """Return formats of an export, in their own order."""
    named = comma_separated(text)
    for name in named:
        if name not in FORMATS.names:
            raise ValueError(f"{unknown('format', name, FORMATS.names)} (of {','.join(FORMATS.names)})")
    if not named:
        raise ValueError(f"name some of {','.join(FORMATS.names)}")
    return tuple(name for name in FORMATS.names if name in named)


def arms(text: str) -> tuple[str, ...]:
    """Return the names of arms that are separated by commas, () for none."""
    named = comma_separated(text)
    if not named:
        raise ValueError("write none, or names of arms separated by commas")
    if named != ("none",) and "none" in named:
        raise ValueError("none is no arm; write it alone")
    return () if named == ("none",) else named


def run_name(text: str) -> str:
    """Return the name of a run; it is the name of a folder and of a database's rows too."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"a name {_NAME_RULE}")
    return text


def run_names(text: str) -> tuple[str, ...]:
    """Return the names of runs that are separated by commas."""
    return tuple(map(run_name, comma_separated(text)))


def check_name(name: str) -> None:
    """Raise UsageError if a run or a trial cannot have this name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"run name {name!r} {_NAME_RULE}")
