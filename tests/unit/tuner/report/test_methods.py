"""The section on methods that were tuned alike: who leads, ranks and colours, what they cost."""

import re
from dataclasses import replace

from tests.unit.study_results import CLAIM, arm, realistic
from tuner.analysis.results import ArmResult, StudyResult
from tuner.report.blocks import Figure, Table, Text
from tuner.report.build import report_files
from tuner.report.methods import methods_compared

GOOD, BAD = (0.90, 0.91, 0.92, 0.90, 0.91), (0.70, 0.72, 0.71, 0.69, 0.72)


def study() -> StudyResult:
    """The winner is far ahead of oe and trades, which nothing tells apart."""
    made = realistic()
    own, oe = made.plan.lanes
    lanes = (own, oe, replace(oe, name="trades", method="trades"))
    arms = tuple(
        replace(arm(name, values, role), seconds=seconds)
        for name, values, role, seconds in (
            ("best", GOOD, "", 12.0),
            ("trades", tuple(reversed(BAD)), "baseline", 61.0),
            ("oe", BAD, "baseline", 3.0),
        )
    )
    return replace(made, plan=replace(made.plan, lanes=lanes, headline=(CLAIM,)), arms=arms)


def test_the_leader_is_named_and_ties_share_ranks() -> None:
    _, leaders, figure, _, note, costs = methods_compared(study())
    assert isinstance(leaders, Text)
    assert leaders.text == "First, by metric. robust AUROC (ε 0.1), near OOD: aoe (the study's own)."
    assert isinstance(figure, Figure)
    assert isinstance(figure.words, Table)
    assert [row[0] for row in figure.words.rows] == ["aoe (the study's own)", "trades", "oe"]
    assert [row[1].partition(", ")[2] for row in figure.words.rows] == ["rank 1", "rank 2–3", "rank 2–3"]
    assert re.findall(r'class="([bw]\d)"', figure.markup) == ["b3", "w2", "w2"]
    assert isinstance(note, Text)
    assert "all 3 pairs" in note.text
    assert isinstance(costs, Table)
    assert [row[1] for row in costs.rows] == ["12.0 s", "1 min 01 s", "3.0 s"]
    assert [row[2] for row in costs.rows] == ["20", "0", "20"]  # trades' search has no trials here


def test_a_tie_at_the_top_is_said() -> None:
    made = study()
    tied = tuple(ArmResult(a.name, a.role, "", {}, {CLAIM: GOOD}) for a in made.arms)
    blocks = methods_compared(replace(made, arms=tied))
    assert isinstance(blocks[1], Text)
    assert "(3 methods that no other is shown to beat)" in blocks[1].text
    assert isinstance(blocks[2], Figure)
    assert not re.findall(r'class="([bw]\d)"', blocks[2].markup)


def test_the_section_is_left_out_where_fewer_were_tuned() -> None:
    assert methods_compared(realistic()) == []


def test_it_stands_in_page_and_markdown() -> None:
    files = report_files(study())
    assert 'id="methods-title"' in files["report.html"]
    assert "## Methods compared" in files["report.md"]
    assert "| trades | 70.8 ± " in files["report.md"]
