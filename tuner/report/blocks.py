"""Blocks of a report (headings, texts, tables, figures), rendered as Markdown and as one self-contained HTML page.

The page loads nothing: style and pictures are inside, there is no script. Every text is escaped here and
nowhere else, so reasons and parameters may hold any text.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tuner.base.text import visible


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` between backticks.

    Attributes:
        kind: "" or how the verdict box is coloured: "good", "partly", "bad", "open", "warning".
    """

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        strong: indices of the rows in bold.
        text_columns: how many columns from the left hold words; the others are numbers, set to the right.
        folded: title; the HTML table is hidden under it until it is opened.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    text_columns: int = 1
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with a caption; Markdown has the caption only.

    Attributes:
        name: of a file that it is also written to, beside the report; "" for none.
    """

    png: bytes
    caption: str
    name: str = ""


@dataclass(frozen=True)
class Links:
    """(words, address) pairs; only web addresses become links."""

    links: Sequence[tuple[str, str]]


Block = Heading | Text | Code | Table | Picture | Links


# -- HTML --------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b6670; --page: #ffffff; --card: #f5f7f9;
  --line: #d8dee4; --link: #0060a0; --good: #00795a; --partly: #9a6a00; --bad: #b54700; --open: #5b6670; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #9aa6b1; --page: #14181c; --card: #1d2329; --line: #333c45; --link: #6cb6ff;
    --good: #35c79a; --partly: #e6b04a; --bad: #ff8f50; --open: #9aa6b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
p { margin: .6rem 0; overflow-wrap: anywhere; }
a { color: var(--link); }
code, pre { font: .875em/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
code { background: var(--card); padding: .1em .3em; border-radius: 4px; overflow-wrap: anywhere; }
th code { white-space: nowrap; overflow-wrap: normal; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: 8px; overflow-x: auto; }
.box { background: var(--card); border-left: 5px solid var(--open); padding: .8rem 1rem; border-radius: 6px; }
.good { border-color: var(--good); } .partly { border-color: var(--partly); }
.bad, .warning { border-color: var(--bad); }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
td.word, th.word { text-align: left; }
tr.strong td { font-weight: 650; background: var(--card); }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 8px; padding: .5rem; }
figcaption { color: var(--soft); font-size: .875rem; max-width: 46rem; }
summary { cursor: pointer; color: var(--link); }
ul { padding-left: 1.2rem; }
@media print { details > * { display: block; } body { max-width: none; } }
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the HTML page of a report."""
    body = "\n".join(_html(block) for block in blocks)
    return visible(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{html.escape(block.text)}</h2>"
    if isinstance(block, Text):
        kind = f' class="box {html.escape(block.kind)}"' if block.kind else ""
        return f"<p{kind}>{_inline(block.text)}</p>"
    if isinstance(block, Code):
        return f"<pre>{html.escape(block.text)}</pre>"
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Picture):
        data, words = base64.b64encode(block.png).decode(), html.escape(block.caption)
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{words}">'
            f"<figcaption>{words}</figcaption></figure>"
        )
    return f"<ul>{''.join(f'<li>{_link(words, url)}</li>' for words, url in block.links)}</ul>"


def _inline(text: str) -> str:
    """Escape a text and turn `...` into code; no other markup exists."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _link(words: str, url: str) -> str:
    if not is_web(url):
        return f"{html.escape(words)}: {html.escape(url)}"
    return f'<a href="{html.escape(_address(url))}">{html.escape(words)}</a>'


def is_web(url: str) -> bool:
    """Return whether an address may become a link; javascript: and the like may not."""
    return url.startswith(("http://", "https://"))


def _address(url: str) -> str:
    """Return an address with every character that may end it, or the line, as an escape."""
    return quote(url, safe=":/?#[]@!$&'()*+,;=%")


def _html_table(table: Table) -> str:
    def cell(tag: str, column: int, text: str) -> str:
        word = ' class="word"' if column < table.text_columns else ""
        return f"<{tag}{word}>{_inline(text)}</{tag}>"

    head = "".join(cell("th", i, text) for i, text in enumerate(table.header))
    rows = []
    for number, row in enumerate(table.rows):
        strong = ' class="strong"' if number in table.strong else ""
        rows.append(f"<tr{strong}>{''.join(cell('td', i, text) for i, text in enumerate(row))}</tr>")
    body = "\n".join(rows)
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    made = f'<div class="scroll"><table>\n{inside}</table></div>'
    if not table.folded:
        return made
    return f"<details><summary>{html.escape(table.folded)}</summary>\n{made}</details>"


# -- Markdown ----------------------------------------------------------------------------------------------


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the report as Markdown; pictures are named, not shown."""
    return visible("\n\n".join([f"# {_escaped(title)}", *(_markdown(block) for block in blocks)]) + "\n")


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_escaped(block.text)}"
    if isinstance(block, Text):
        return f"> {_escaped(block.text)}" if block.kind else _escaped(block.text)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Picture):
        return f"(picture in report.html: {_escaped(block.caption)})"
    if isinstance(block, Links):
        return "\n".join(
            f"- [{_escaped(words)}](<{_address(url)}>)"
            if is_web(url)
            else f"- {_escaped(words)}: {_escaped(url)}"
            for words, url in block.links
        )
    lines = [f"{_escaped(block.folded)}:", ""] if block.folded else []
    lines.append(_markdown_row(block.header))
    lines.append(
        "|" + "".join(" --- |" if i < block.text_columns else " ---: |" for i in range(len(block.header)))
    )
    for number, row in enumerate(block.rows):
        lines.append(
            _markdown_row([f"**{cell}**" if cell else "" for cell in row] if number in block.strong else row)
        )
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Return a text on one line in which no HTML, no table and no link can begin."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(\\*)([\[\]])", lambda found: f"{2 * found[1]}\\{found[2]}", line)
