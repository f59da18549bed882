"""The answer as a text for MLflow's pages."""

from dataclasses import replace

from tests.unit.study_results import plan, realistic, result
from tuner.report.note import first_note, note

LINKS = {"runs": "#/experiments/7/runs?a=1&b=$(parent)", "winner": "#/experiments/7/runs/$(run:0016)"}


def test_question_links_winner_verdict_metrics_and_cautions() -> None:
    found = realistic()
    text = note(found, "t16 pgd eps .14", LINKS, 8000)
    assert found.best is not None
    first, in_order = (
        text.partition("\n\n")[0],
        [
            found.plan.question,
            f"Winner: Trial {found.best.number}",
            "Claim supported on digits-open",
            "launch.py --train",
            "All headline metrics",
            "Cautions",
        ],
    )
    assert first == (
        "Winner: t16 pgd eps .14, +11.0 ± 0.9 points vs oe, 5 seeds; claim supported. "
        "[trials](<#/experiments/7/runs?a=1&b=$(parent)>)"
        " · [winner](<#/experiments/7/runs/$(run:0016)>)"
    )
    places = [text.index(words) for words in in_order]
    assert places == sorted(places)


def test_what_is_too_long_gives_way_from_its_end() -> None:
    found = realistic()
    whole = note(found, "t16 pgd eps .14", LINKS, 100_000)
    shorter = note(found, "t16 pgd eps .14", LINKS, len(whole) - 1)
    assert "All headline metrics" not in shorter
    assert "Cautions" in shorter
    shortest = note(found, "t16 pgd eps .14", LINKS, len(shorter) - 1)
    assert "Cautions" not in shortest
    assert "Claim supported" in shortest
    assert len(note(found, "t16 pgd eps .14", LINKS, 500)) <= 500


def test_a_name_cannot_make_a_link_of_its_own() -> None:
    first = note(realistic(), "t16 [x](<http://evil>) <b>", LINKS, 8000).partition("\n\n")[0]
    assert first.startswith(
        "Winner: t16 \\[x\\](&lt;http://evil>) &lt;b>, +11.0 ± 0.9 points vs oe, 5 seeds; claim supported. [trials](<#/"
    )


def test_no_winner_and_no_answer_yet() -> None:
    assert note(result(), "", {}, 8000).startswith("No winner.\n\n")
    unconfirmed = replace(realistic(), arms=())
    assert note(unconfirmed, "t16", {}, 8000).startswith("Winner: t16; claim not judged.\n\n")
    begun = first_note(plan(), LINKS)
    assert begun.startswith(
        "Begun; the answer will stand here. [trials](<#/experiments/7/runs?a=1&b=$(parent)>)"
    )
    assert "Run aoe_sigma-test on digits-open." in begun
