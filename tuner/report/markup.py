"""HTML and SVG elements; every text is escaped here and nowhere else."""

import html
import re
from collections.abc import Iterable

_VOID = {"img", "input", "meta", "br"}
_SHAPES = {"path", "line", "rect"}
_END_MAY_BE_LEFT_OUT = {
    "td",
    "th",
    "tr",
    "li",
    "dt",
    "dd",
    "thead",
    "tbody",
    "tfoot",
}  # a long table is a third shorter


class Markup(str):
    """Markup that was made by `element`: it goes into a page as it is."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element: children that are no `Markup` are escaped, those that are None or "" left out.

    Args:
        attributes: False and None are left out, True stands alone; `class_` is `class`, `data_x` is `data-x`.

    Example:
        element("p", "a < b", class_="box") -> '<p class="box">a &lt; b</p>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{html.escape(str(value))}"')
    start = " ".join(words)
    if name in _SHAPES:
        return Markup(f"<{start}/>")
    if name in _VOID:
        return Markup(f"<{start}>")
    end = "" if name in _END_MAY_BE_LEFT_OUT else f"</{name}>"
    return Markup(f"<{start}>{join(children)}{end}")


def breaking(name: str) -> Markup:
    """Return a name that a narrow column may break after its dots and underscores."""
    return Markup(re.sub(r"([._])(?=\w)", r"\1<wbr>", html.escape(name)))


def unbroken(text: str) -> str:
    """Return a text whose values no line break tears from their interval and unit: "89.8 ± 0.8 %"."""
    return re.sub(r"(?<=\d) (?=±|%|points\b)|(?<=±) |(?<=ε) ", "\u00a0", text)


def join(children: Iterable[object]) -> Markup:
    """Return children one after the other, escaped unless they are `Markup`."""
    return Markup(
        "".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children if c is not None)
    )
