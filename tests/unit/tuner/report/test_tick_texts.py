"""Texts of ticks below level axes: none reaches into the next one where the page is at its narrowest."""

import re
from itertools import pairwise

import pytest

from search_spaces.domain import Choice, Float, Int
from tests.unit.study_results import realistic
from tuner.report.axes import Axis, count_axis, parameter_axis, span_axis
from tuner.report.build import report_files
from tuner.report.svg import MIDDLE, NARROW, OVER, ROWS, WIDE, apart, option_texts, rows_of, x_ticks

#: widths of characters in units of the size of type, in DejaVu Sans, the widest of the usual fonts
SIZES = {"%": 0.95, "m": 0.974, "w": 0.818, "…": 1.0, "_": 0.5, "-": 0.361, "+": 0.838}
SIZES |= dict.fromkeys(" .,", 0.318) | dict.fromkeys("ijl", 0.278) | dict.fromkeys("frt", 0.4)
OTHER, TYPE = 0.636, 12
ATTACKS = Choice(("fgsm", "pgd", "mifgsm", "eba", "eba_pgd"))
NETWORKS = Choice(
    ("resnet18", "resnet50", "wide_resnet50", "vit_small", "convnext_tiny", "efficientnet_b0", "densenet121")
)
AXES = [
    parameter_axis("lr", Float(3e-4, 1e-2, log=True)),
    parameter_axis("decay", Float(1e-6, 1e-1, log=True)),
    parameter_axis("steps", Int(1, 10_000, log=True)),
    parameter_axis("weight", Float(-1.0, 1.0)),
    parameter_axis("attack", ATTACKS),
    parameter_axis("network", NETWORKS),
    parameter_axis("count", Choice(tuple(10**n for n in range(9)))),
    span_axis("test/auroc/near", 0.92, 0.97),
    span_axis("test/auroc/near", 0.0, 1.0),
    count_axis("epoch", 0, 20_000),
]


def size(text: str) -> float:
    """Return the width of a text in pixels."""
    return TYPE * sum(SIZES.get(letter, OTHER) for letter in text)


def boxes(markup: str, width: float) -> list[tuple[float, float, float, str]]:
    """Return (row, left, right, text) of the texts of ticks on so many pixels, row by row from the left."""
    found = []
    for attributes, text in re.findall(r"<text ([^>]*)>([^<]*)", markup):
        at, row = (float(re.search(rf'{name}="([\d.]+)', attributes)[1]) for name in ("x", "y"))  # type: ignore[index]
        held = re.search(r'class="(first|last)?', attributes)
        shift = {"first": 0.0, "last": 1.0}.get((held and held[1]) or "", 0.5)
        left = at / 100 * width - shift * size(text)
        found.append((row, left, left + size(text), text))
    return sorted(found)


def collisions(found: list[tuple[float, float, float, str]]) -> list[tuple[str, str]]:
    """Return the texts of a row of which one ends less than a pixel before the next begins."""
    return [(a[3], b[3]) for a, b in pairwise(found) if a[0] == b[0] and a[2] + 1 > b[1]]


@pytest.mark.parametrize("width", [NARROW, MIDDLE, WIDE])
@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.label)
def test_no_text_reaches_into_the_next(axis: Axis, width: int) -> None:
    found = boxes("".join(x_ticks(axis, 100, width)), width)
    assert collisions(found) == []
    assert len(found) >= (len(axis.options) or 2)
    assert min(left for _, left, *_ in found) > -OVER - size("…")
    assert max(right for _, _, right, _ in found) < width + OVER + size("…")


def test_collisions_are_seen() -> None:
    crowded = "".join(f'<text x="{x}%" y="15">0.005</text>' for x in (0, 20, 80))
    assert collisions(boxes(crowded, 100)) == [("0.005", "0.005")]
    assert collisions(boxes(crowded, 400)) == []


def test_ticks_that_would_collide_are_left_out_evenly() -> None:
    axis = Axis("", 0, 1, ticks=tuple((k / 4, f"{25 * k} %") for k in range(5)))
    shown = {width: [text for _, text in apart(axis, width)] for width in (232, 100, 60, 30)}
    assert shown == {
        232: ["0 %", "25 %", "50 %", "75 %", "100 %"],
        100: ["0 %", "75 %"],  # 0 %, 50 % and 100 % would be two pixels apart
        60: ["0 %", "75 %"],
        30: ["0 %"],
    }


def test_options_stand_in_as_many_rows_as_they_need() -> None:
    attack = parameter_axis("attack", ATTACKS)
    assert [rows_of(attack, width) for width in (400, WIDE, MIDDLE, NARROW)] == [1, 2, 2, 3]
    assert [(text, row) for _, text, row in option_texts(attack, NARROW)] == [
        ("fgsm", 0),
        ("pgd", 1),
        ("mifgsm", 2),
        ("eba", 0),
        ("eba_pgd", 1),
    ]
    texts = [text for _, text, _ in option_texts(parameter_axis("network", NETWORKS), NARROW)]
    assert texts[0] == "res…"
    assert rows_of(parameter_axis("network", NETWORKS), NARROW) == ROWS


def test_no_text_reaches_into_the_next_in_a_whole_report() -> None:
    page = report_files(realistic(40))["report.html"]
    plots = re.findall(r'data-width="(\d+)"[^>]*><g class="yt">.*?</g><g class="xt">(.*?)</g>', page)
    assert len(plots) > 40
    assert [collisions(boxes(texts, int(width))) for width, texts in plots if texts] == [[]] * len(plots)
    feet = re.findall(r'<svg height="16" class="strip" aria-hidden="true">(.*?)</svg>', page)
    assert len(feet) > 4
    assert any('"more"' in foot for foot in feet)
    for foot in feet:
        assert collisions(boxes(foot, 110)) == []
        assert (
            collisions(boxes(re.sub(r'<text [^>]*class="[^"]*more"[^>]*>[^<]*</text>', "", foot), 60)) == []
        )
