"""The answer as a text for MLflow's pages."""

from dataclasses import replace

from tests.unit.study_results import arm, plan, realistic, record, result
from tuner.report.note import claim_in_short, first_note, note

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
            "launch.py",
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


def test_the_command_is_broken_before_its_options() -> None:
    text = note(realistic(), "t16", LINKS, 8000)
    command = text[text.index("    python launch.py") :]
    lines = command.partition("\n\n")[0].splitlines()
    assert len(lines) > 3
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert max(map(len, lines)) < 60


def test_the_claim_in_short_begins_with_whether_it_holds() -> None:
    """Lists of MLflow cut a tag after ten to thirty characters."""
    best, base = arm("best", (0.90, 0.91, 0.92)), arm("oe", (0.80, 0.81, 0.82))
    arms = {
        "yes, +10.0 ± 0.0 points vs oe": (best, base),
        "doubtful, +10.0 ± 0.0 points vs oe: a control may do as well": (
            best,
            base,
            arm("gauss", (0.91, 0.90, 0.92)),
        ),
        "no, +0.0 ± 2.5 points vs oe": (best, arm("oe", (0.91, 0.90, 0.92))),
        "not judged": (),
    }
    for words, found in arms.items():
        assert claim_in_short(result(best=record(), records=(record(),), arms=found)) == words


def test_no_winner_and_no_answer_yet() -> None:
    assert note(result(), "", {}, 8000).startswith("No winner.\n\n")
    unconfirmed = replace(realistic(), arms=())
    assert note(unconfirmed, "t16", {}, 8000).startswith("Winner: t16; claim not judged.\n\n")
    begun = first_note(plan(), LINKS)
    assert begun.startswith(
        "Begun; the answer will stand here. [trials](<#/experiments/7/runs?a=1&b=$(parent)>)"
    )
    assert "Run aoe_sigma-test on digits-open." in begun
