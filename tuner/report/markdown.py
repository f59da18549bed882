"""Blocks as Markdown, for terminals and code hosts; figures are told in words."""

import re
from collections.abc import Sequence

from tuner.base.text import visible
from tuner.report.blocks import Block, Code, Figure, Heading, Links, Text, Words, is_web, web_address


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the report as Markdown."""
    return visible(f"# {_escaped(title)}\n\n{blocks_to_markdown(blocks)}\n")


def blocks_to_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown, an empty line between any two."""
    return "\n\n".join(filter(None, map(_markdown, blocks)))


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_escaped(block.text)}" if block.anchor else f"### {_escaped(block.text)}"
    if isinstance(block, Text):
        return f"> {_escaped(block.text)}" if block.kind not in ("", "note") else _escaped(block.text)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Words):
        return _markdown(block.block)
    if isinstance(block, Figure):
        return _markdown(block.words) if block.words is not None else ""
    if isinstance(block, Links):
        return "\n".join(_link(words, url) for words, url in block.links)
    lines = [f"{_escaped(block.title)}:", ""] if block.title else []
    lines.append(_row(block.header))
    lines.append("|" + "".join(" --- |" if i in block.words else " ---: |" for i in range(len(block.header))))
    for number, row in enumerate(block.rows):
        lines.append(_row([f"**{cell}**" if cell else "" for cell in row] if number in block.strong else row))
    return "\n".join(lines)


def _link(words: str, url: str) -> str:
    if is_web(url):
        return f"- [{_escaped(words)}](<{web_address(url)}>)"
    return f"- {_escaped(words)}: {_escaped(url)}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Return a text on one line in which no HTML, no table and no link can begin."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(\\*)([\[\]])", lambda found: f"{2 * found[1]}\\{found[2]}", line)
