"""Blocks as one HTML page that loads nothing: style, script and data are inside, and a policy forbids anything else."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from tuner.base.text import visible
from tuner.report.blocks import Block, Code, Figure, Heading, Table, Text, Words, is_web, web_address
from tuner.report.markup import Markup, breaking, element, join

_PAPER = 525.0  # points: the width of A4 within its margins
_SMALLEST, _LARGEST = 4.5, 9.0
_WORD = 19
_SAMPLE = 200  # rows


def to_page(
    title: str, kicker: str, blocks: Sequence[Block], data: str = "", live: Markup | None = None
) -> str:
    """Return the page of a report.

    Args:
        title: its heading.
        kicker: a line above it.
        data: report.json, for the script; "" leaves the script out.
        live: how the run stands; then the page asks the server it came from for what is new.
    """
    style, script = _file("style.css"), _file("script.js") if data else ""
    policy = policy_of(live=live is not None)
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("style", Markup(style)),
        ]
    )
    sections = [b for b in blocks if isinstance(b, Heading) and b.anchor]
    contents = element(
        "nav",
        element(
            "ul", *(element("li", element("a", s.short or s.text, href=f"#{s.anchor}")) for s in sections)
        ),
        aria_label="Contents",
    )
    header = element("header", element("p", kicker, class_="kicker"), element("h1", title))
    parts = [
        element("a", "Skip to the answer", href="#main", class_="skip"),
        live,
        header,
        contents if sections else None,
    ]
    body = join([*parts, element("main", *_sections(blocks), id="main")])
    # "<" cannot end or begin a tag inside of the script elements
    store = Markup(data.replace("<", "\\u003c"))
    scripts = (
        element("script", store, type="application/json", id="data"),
        element("script", Markup(script)),
    )
    watch = element("script", Markup(_file("live.js"))) if live is not None and data else None
    page = join([element("head", head), element("body", body, *(scripts if data else ()), watch)])
    return visible(f"<!DOCTYPE html>\n{element('html', page, lang='en')}\n")


def policy_of(live: bool = False) -> str:
    """Return what a page may do: run its own scripts, by their hashes; ask its own server if it is live; no more.

    Forms and the base of links do not fall back on the default, so that they are named.
    """
    scripts = [_hash(_file(name)) for name in (("script.js", "live.js") if live else ("script.js",))]
    asks = "; connect-src 'self'" if live else ""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src {' '.join(scripts)}{asks}"
    )


@cache
def _file(name: str) -> str:
    return files("tuner.report").joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _sections(blocks: Sequence[Block]) -> list[Markup]:
    """Return the blocks, those after each heading with an anchor as a section of their own."""
    found: list[tuple[Heading | None, list[Markup]]] = [(None, [])]
    for block in blocks:
        if isinstance(block, Heading) and block.anchor:
            found.append((block, []))
        found[-1][1].append(block_markup(block))
    return [
        element("section", *inside, id=heading.anchor, aria_labelledby=f"{heading.anchor}-title")
        if heading
        else join(inside)
        for heading, inside in found
        if inside
    ]


def block_markup(block: Block) -> Markup:
    """Return one block as HTML."""
    if isinstance(block, Heading):
        return (
            element("h2", block.text, id=f"{block.anchor}-title")
            if block.anchor
            else element("h3", block.text)
        )
    if isinstance(block, Text):
        return element(
            "p",
            inline(block.text),
            class_=(block.kind if block.kind == "note" else f"box {block.kind}") if block.kind else None,
        )
    if isinstance(block, Code):
        return element("pre", block.text, tabindex=0, class_="copy")
    if isinstance(block, Table):
        return table_markup(block)
    if isinstance(block, Words):
        return Markup("")
    if isinstance(block, Figure):
        return block.markup
    return element("ul", *(element("li", _link(words, url)) for words, url in block.links))


def inline(text: str) -> Markup:
    """Return a text with `...` as code; no other markup exists."""
    parts = re.split(r"`([^`]*)`", text)
    return join(element("code", breaking(part)) if i % 2 else part for i, part in enumerate(parts))


def _link(words: str, url: str) -> Markup:
    return element("a", words, href=web_address(url)) if is_web(url) else join([f"{words}: {url}"])


def table_markup(table: Table) -> Markup:
    """Return a table in a box that scrolls sideways where the screen is narrow, and down where it is long."""
    columns = range(len(table.header))
    kinds = ["word" if i in table.words else None for i in columns]
    keys = list(table.keys) or [""] * len(table.header)
    head = element(
        "tr",
        *(
            element("th", inline(table.header[i]), scope="col", class_=kinds[i], data_key=keys[i] or None)
            for i in columns
        ),
    )
    rows = []
    for number, row in enumerate(table.rows):
        cells = [element("th", inline(row[0]), scope="row", class_=kinds[0])]
        cells += [element("td", inline(row[i]), class_=kinds[i]) for i in columns[1:]]
        place = table.places[number] if table.places else None
        rows.append(element("tr", *cells, class_="strong" if number in table.strong else None, data_i=place))
    inside = [element("thead", head), element("tbody", *rows)]
    return titled_table(table.title, inside, [table.header, *table.rows], name=table.name)


def titled_table(
    title: str, inside: Sequence[Markup], texts: Sequence[Sequence[str]], *, name: str = "", class_: str = ""
) -> Markup:
    """Return a table under its title, in a box that scrolls and that a keyboard can reach.

    Args:
        texts: of its cells, row by row, for the size of its type on paper.
    """
    label = title or f"Table of {texts[0][0]}"
    made = element("table", *inside, id=name or None, class_=class_ or None, aria_label=label)
    style = f"--paper:{paper_size(texts):.2f}pt"
    box = element("div", made, class_="scroll", tabindex=0, role="region", aria_label=label, style=style)
    return join([element("h3", title, class_="title") if title else None, box])


def paper_size(rows: Sequence[Sequence[str]]) -> float:
    """Return the size of type, in points, at which no column of a table is cut off on paper.

    Headings may break between words and after dots, cells only where they are longer than _WORD characters.
    """
    heads = [max(map(len, re.split(r"(?<=[ ._])", text))) for text in rows[0]]
    cells = [[min(len(text), _WORD) for text in row] for row in rows[1 : _SAMPLE + 1]]
    wide: list[int] = [max(column) for column in zip(heads, *cells, strict=True)]
    return min(_LARGEST, max(_SMALLEST, _PAPER / sum(0.62 * n + 0.8 for n in wide)))
