"""The answer as a short text for MLflow's pages: the winner, the verdict, what to beware of, and links."""

from collections.abc import Mapping

from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import verdict
from tuner.base.text import visible
from tuner.planning.plan import Plan
from tuner.report.answer import answer, findings, headline_metrics
from tuner.report.blocks import Block, Heading, Text, web_address
from tuner.report.markdown import blocks_to_markdown

MOST_CAUTIONS = 5
#: {link: what it is called}
LABELS = {
    "runs": "trials",
    "compare": "trial charts",
    "arms": "arms",
    "compare_arms": "arm charts",
    "report": "report",
    "winner": "winner",
    "model": "model",
    "run": "files",
}


def note(result: StudyResult, winner: str, links: Mapping[str, str], most: int) -> str:
    """Return the answer of a finished run as Markdown; its first line, which MLflow shows folded, stands alone.

    Args:
        winner: name of the winner's run, "" if there is none.
        links: {key of `LABELS`: address}.
        most: how many characters it may have; the table of all headline metrics and the cautions give way.
    """
    plan = result.plan
    if winner:
        claim = f"; claim {verdict(result).level}" if plan.claim else ""
        head = f"{'Trained' if plan.trains_one else 'Winner'}: {winner}{claim}."
    else:
        head = "No winner."
    found = findings(result)
    cautions: list[Block] = [Heading("Cautions"), *map(Text, found[:MOST_CAUTIONS])] if found else []
    if len(found) > MOST_CAUTIONS:
        cautions.append(Text(f"And {len(found) - MOST_CAUTIONS} more, in the report."))
    question: list[Block] = [Text(f"{plan.question} Run {plan.run_name} on {plan.dataset}.")]
    for more in ([*headline_metrics(result), *cautions], cautions, []):
        text = _linked(head, links) + blocks_to_markdown([*question, *answer(result)[1:], *more])
        if len(text) <= most:
            return visible(text)
    return visible(text)[: most - 4] + " ..."


def first_note(plan: Plan, links: Mapping[str, str]) -> str:
    """Return what is to be said of a run that has no answer yet."""
    words = f"{plan.question} Run {plan.run_name} on {plan.dataset}."
    return visible(_linked("Begun; the answer will stand here.", links) + blocks_to_markdown([Text(words)]))


def _linked(words: str, links: Mapping[str, str]) -> str:
    """Return the first line: words and links."""
    text = blocks_to_markdown([Text(words)])
    named = [f"[{label}](<{web_address(links[name])}>)" for name, label in LABELS.items() if name in links]
    return f"{text} {' · '.join(named)}".strip() + "\n\n"
