"""The answer as a short text for MLflow's pages: the winner, the verdict, what to beware of, and links."""

import math
import re
from collections.abc import Mapping

from tuner.analysis.metric_text import difference_text
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import Level, claim_metric, paired_comparison, strongest_baseline, verdict
from tuner.base.text import counted, visible
from tuner.planning.plan import Plan
from tuner.report.answer import answer, findings, headline_metrics
from tuner.report.blocks import Block, Code, Heading, Text, Words, web_address
from tuner.report.markdown import blocks_to_markdown

MOST_CAUTIONS = 5
#: {status of the claim: whether it holds in a word, and why not}
IN_SHORT = {
    Level.SUPPORTED: ("yes", ""),
    Level.PARTLY: ("partly", "intervals overlap"),
    Level.EXPLAINED: ("doubtful", "a control may do as well"),
    Level.REFUTED: ("no", ""),
    Level.OPEN: ("not judged", ""),
}
#: {link: what it is called}; those of the first line, and the others
LABELS = {
    "runs": "trials",
    "arms": "arms",
    "report": "report",
    "winner": "winner",
    "model": "model",
}
MORE_LABELS = {
    "compare": "charts of the best trials",
    "compare_arms": "charts of the arms",
    "run": "this run and its files",
}


def note(result: StudyResult, winner: str, links: Mapping[str, str], most: int) -> str:
    """Return the answer of a finished run as Markdown; its first line, which MLflow shows folded, stands alone.

    Args:
        winner: name of the winner's run, "" if there is none.
        links: {key of `LABELS` or `MORE_LABELS`: address}.
        most: how many characters it may have; the table of all headline metrics and the cautions give way.
    """
    plan = result.plan
    found = findings(result)
    cautions: list[Block] = [Heading("Cautions"), *map(Text, found[:MOST_CAUTIONS])] if found else []
    if len(found) > MOST_CAUTIONS:
        cautions.append(Text(f"And {len(found) - MOST_CAUTIONS} more, in the report."))
    head = _linked(_head(result, winner), links, LABELS) + _linked(_question(plan), links, MORE_LABELS)
    for more in ([*headline_metrics(result), *cautions], cautions, []):
        text = head + blocks_to_markdown([_narrow(block) for block in [*answer(result)[1:], *more]])
        if len(text) <= most:
            return visible(text)
    return visible(text)[: most - 4] + " ..."


def _narrow(block: Block) -> Block:
    """Break a command before its options: MLflow's page is as wide as its longest line, and tables go off screen."""
    inner = block.block if isinstance(block, Words) else block
    return Code(re.sub(r" (?=--)", " \\\\\n  ", inner.text)) if isinstance(inner, Code) else block


def first_note(plan: Plan, links: Mapping[str, str]) -> str:
    """Return what is to be said of a run that has no answer yet."""
    begun = _linked("Begun; the answer will stand here.", links, LABELS)
    return visible(begun + _linked(_question(plan), links, MORE_LABELS))


def claim_in_short(result: StudyResult) -> str:
    """Return whether the claim holds and by how much; lists of MLflow show the first ten or twenty characters.

    Example:
        "yes, +9.1 ± 1.5 points vs oe"; "doubtful, +5.0 ± 1.5 points vs oe: a control may do as well"; "not judged"
        before there are arms; "none" for one training.
    """
    if not result.plan.claim or result.plan.trains_one:
        return "none"
    word, why = IN_SHORT[verdict(result).level]
    return ", ".join([word, *_lead(result)[:1]]) + (f": {why}" if why else "")


def _head(result: StudyResult, winner: str) -> str:
    """Return which configuration won, by how much, and whether the claim holds."""
    if not winner:
        return "No winner."
    if result.plan.trains_one:
        return f"Trained: {winner}."
    lead = "".join(f", {part}" for part in _lead(result))
    claim = f"; claim {verdict(result).level}" if result.plan.claim else ""
    return f"Winner: {winner}{lead}{claim}."


def _lead(result: StudyResult) -> tuple[str, ...]:
    """Return ("+9.1 ± 1.5 points vs oe", "5 seeds") of winner and strongest baseline, () if they were not compared."""
    metric, ours = claim_metric(result.plan), result.arm("best")
    theirs = strongest_baseline(result)
    if ours is None or theirs is None:
        return ()
    compared = paired_comparison(ours, theirs, metric)
    if compared is None or not math.isfinite(compared.difference.mean):
        return ()
    points = difference_text(metric, compared.difference)
    return f"{points} vs {theirs.label}", counted(compared.difference.n, "seed")


def _question(plan: Plan) -> str:
    return f"{plan.question} Run {plan.run_name} on {plan.dataset}."


def _linked(words: str, links: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """Return a paragraph of words and links."""
    text = blocks_to_markdown([Text(words)])
    named = [f"[{label}](<{web_address(links[name])}>)" for name, label in labels.items() if name in links]
    return f"{text} {' · '.join(named)}".strip() + "\n\n"
