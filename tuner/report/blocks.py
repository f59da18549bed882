"""Blocks of a report: headings, texts, tables, figures; `page` and `markdown` render them."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tuner.report.markup import Markup


@dataclass(frozen=True)
class Heading:
    """A heading; one with an anchor begins a section and stands in the page's contents under `short` or its text."""

    text: str
    anchor: str = ""
    short: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` between backticks.

    Attributes:
        kind: "" or how its box is coloured: "good", "partly", "bad", "open", "warning"; "note" is small print.
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to be copied into a terminal."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column heads each row.

    Attributes:
        title: what it shows, in a line.
        strong: indices of the rows in bold.
        words: indices of the columns that hold words; the others are numbers, set to the right.
        name: of a table that the page's script sorts and filters.
        places: of its rows, in the trials of report.json.
        keys: of its columns, the keys of axes there; "" for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    words: frozenset[int] = frozenset({0})
    title: str = ""
    name: str = ""
    places: Sequence[int] = ()
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """What only the page shows.

    Attributes:
        words: what Markdown has in its place: what is to be seen, or a table.
    """

    markup: Markup
    words: Text | Table | None = None


@dataclass(frozen=True)
class Links:
    """(words, address) pairs; only web addresses become links."""

    links: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Words:
    """What only Markdown has; the page shows the same in another form."""

    block: Text | Code | Table


Block = Heading | Words | Text | Code | Table | Figure | Links


def is_web(url: str) -> bool:
    """Return whether an address may become a link; javascript: and the like may not."""
    return url.startswith(("http://", "https://"))


def web_address(url: str) -> str:
    """Return an address with every character that may end it, or the line, as an escape."""
    return quote(url, safe=":/?#[]@!$&'()*+,;=%")
