"""The report's first sections: the answer with its winner, verdict and command, cautions, controls."""

from collections.abc import Sequence

from tuner.analysis.checks import checks, winner_of
from tuner.analysis.metric_text import interval_text, metric_label, setting_text, value_text
from tuner.analysis.results import ArmResult, StudyResult
from tuner.analysis.verdict import (
    Level,
    Verdict,
    claim_metric,
    headline,
    measured_headline,
    verdict,
)
from tuner.base.records import TrialRecord
from tuner.base.text import counted
from tuner.planning.command_line import training_command
from tuner.planning.plan import Plan
from tuner.report.blocks import Block, Code, Figure, Heading, Table, Text, Words
from tuner.report.charts_arms import DIFFERENCES, arms_in_words, decomposition, differences, forest
from tuner.report.markup import Markup, element, join, unbroken
from tuner.report.page import block_markup, inline

_KINDS = {
    Level.SUPPORTED: "good",
    Level.PARTLY: "partly",
    Level.EXPLAINED: "bad",
    Level.REFUTED: "bad",
    Level.OPEN: "open",
}


def answer(result: StudyResult) -> list[Block]:
    """Return the winning configuration, the verdict on the claim, the arms in the claim's metric, and a command."""
    plan, judged = result.plan, verdict(result)
    metric, measured = claim_metric(plan), measured_headline(result)
    found = findings(result)
    more = element("a", _cautions_in_short(result, len(found)), href="#cautions") if found else None
    badge = _badge(judged.level, plan.claim) if plan.claim else ()
    leading = dict.fromkeys([*judged.sentences[: judged.deciding], judged.accuracy])
    left = [
        element("div", *badge, more, class_="verdict"),
        *(element("p", unbroken(sentence), class_="lead") for sentence in leading if sentence),
    ]
    if plan.trains_one or result.best is not None:
        left.insert(0, _settings(result))
    right = _forest_box(result, measured) if metric in measured else None
    command = None
    if result.best is not None and not plan.trains_one:
        again = block_markup(Code(_again(result, result.best)))
        command = element(
            "div", element("p", "Train this configuration again:", class_="note"), again, class_="across"
        )
    card = element("div", element("div", *left), right, command, class_="card" if right else "card single")
    others = [element("li", inline(unbroken(line))) for line in judged.sentences if line not in leading]
    blocks: list[Block] = [
        Heading("Answer", "answer"),
        Figure(card),
        *map(Words, _in_words(result, judged)),
    ]
    if others:
        blocks.append(Figure(element("ul", *others)))
    return blocks if result.arms else blocks + _single_runs(result)


def _in_words(result: StudyResult, judged: Verdict) -> list[Text | Code | Table]:
    """Return the answer for Markdown."""
    plan, best = result.plan, result.best
    blocks: list[Text | Code | Table] = []
    if plan.trains_one:
        blocks.append(Table(("option that was set", "value"), [(f"`{k}`", v) for k, v in _set_options(plan)]))
    elif best is not None:
        rows = [(f"`{key}`", setting_text(value)) for key, value in best.params.items()]
        blocks += [Text(f"Winner: {_found(result, best)}"), Table(("searched parameter", "value"), rows)]
    if plan.claim:
        blocks.append(
            Text(f"Claim {judged.level.value} on {plan.dataset}: {plan.claim}.", _KINDS[judged.level])
        )
    blocks += [Text(sentence) for sentence in judged.sentences]
    about = [(arm.label, arm.role, arm.about) for arm in result.arms if arm.name != "best"]
    if about:
        blocks.append(Table(("compared with", "as", "what it is"), about, words=frozenset({0, 1, 2})))
    if best is not None and not plan.trains_one:
        blocks += [Text("Train this configuration again:"), Code(_again(result, best))]
    return blocks


def _again(result: StudyResult, best: TrialRecord) -> str:
    """Return the command that trains the winner; a resume does not repeat what the first launch was given."""
    first = (result.environment.get("command") or result.plan.command).partition("\n")[0]
    return training_command(first, result.plan.study, best.params)


def _badge(level: Level, claim: str) -> tuple[Markup, Markup]:
    return (
        element("strong", f"Claim {level.value}", class_=f"badge {_KINDS[level]}"),
        element("span", f"“{claim}.”"),
    )


def _settings(result: StudyResult) -> Markup:
    """Return the winner's parameters, those that the study asks about first; or the options of one training."""
    plan, best = result.plan, result.best
    if best is None or plan.trains_one:
        what = element("p", f"One training: {plan.method}", class_="kicker")
        return join([what, _definitions(_set_options(plan), "settings")])
    named = [(key, setting_text(value)) for key, value in best.params.items()]
    asked = [pair for pair in named if pair[0] in plan.effects]
    others = [pair for pair in named if pair not in asked]
    return join(
        [
            element(
                "p",
                f"Best configuration of the search{' so far' if result.underway else ''}",
                class_="kicker",
            ),
            _definitions(asked, "settings asked"),
            _definitions(others, "settings"),
            element("p", _found(result, best), class_="note"),
        ]
    )


def _set_options(plan: Plan) -> list[tuple[str, str]]:
    return [(key, setting_text(value)) for key, value in plan.lanes[0].fixed.items() if value != ""]


def _definitions(pairs: Sequence[tuple[str, str]], class_: str) -> Markup | None:
    made = [element("div", element("dt", key), element("dd", text)) for key, text in pairs]
    return element("dl", *made, class_=class_) if made else None


def _found(result: StudyResult, best: TrialRecord) -> str:
    own = "; ".join(
        f"{metric_label(o.metric)}: {value_text(o.metric, best.judged.get(o.metric))}"
        for o in result.plan.objectives
    )
    return f"Trial {best.number}, chosen among {counted(len(result.lane('search')), 'trial')} by {own}."


def _forest_box(result: StudyResult, measured: Sequence[str]) -> Markup:
    metric = claim_metric(result.plan)
    note = element("p", _seeds_text(result, measured), class_="note")
    return element("div", forest(result, metric), note, arms_in_words(result))


def _seeds_text(result: StudyResult, metrics: Sequence[str]) -> str:
    seeds = max((arm.seed_interval(m).n for arm in result.arms for m in metrics), default=0)
    if seeds > 1:
        what = f"mean, 95 % interval and single values of {seeds} fresh seeds"
        return f"Test data: {what}. Dashed: the strongest baseline."
    return "Test data, one fresh seed: no interval."


def headline_metrics(result: StudyResult) -> list[Block]:
    """Return every arm in all headline metrics, and the winner's paired differences."""
    metrics = measured_headline(result)
    if not metrics:
        return []
    rows = [
        [_arm_name(arm), *(interval_text(m, arm.seed_interval(m)) for m in metrics)] for arm in result.arms
    ]
    strong = frozenset(i for i, arm in enumerate(result.arms) if arm.name == "best")
    seeds = max((arm.seed_interval(m).n for arm in result.arms for m in metrics), default=0)
    what = (
        f"mean and 95 % t-interval over {seeds} fresh seeds" if seeds > 1 else "one fresh seed, no interval"
    )
    blocks: list[Block] = [
        Heading("All headline metrics", "headline", "Metrics"),
        Table(("configuration", *map(metric_label, metrics)), rows, strong, title=f"Test metrics, {what}"),
    ]
    compared = differences(result, metrics)
    if compared is not None:
        blocks += [compared, DIFFERENCES]
    if len(metrics) > 1:
        panels = [forest(result, m) for m in metrics[1:]]
        blocks.append(Figure(element("div", *panels, class_="panels forests")))
    return blocks


def _arm_name(arm: ArmResult) -> str:
    if arm.name == "best":
        return arm.label
    return f"{arm.name} ({arm.role})"


def _single_runs(result: StudyResult) -> list[Block]:
    """Return the test metrics of the best trial of each search, where no arm was retrained."""
    rows = []
    for lane in result.plan.lanes:
        best = winner_of(result, lane.name)
        tests = result.tests.get(best.key, {}) if best else {}
        if best and tests:
            name = "winner" if lane.name == "search" else f"{lane.name} ({lane.role})"
            values = [value_text(metric, tests.get(metric)) for metric in headline(result.plan)]
            rows.append([lane.method if result.plan.trains_one else f"{name}, trial {best.number}", *values])
    if not rows:
        return []
    words = "Test metrics of single runs: one seed each, no interval, so no comparison can be drawn."
    words = "Test metrics of one training with one seed, no interval." if result.plan.trains_one else words
    return [Text(words), Table(("trial", *map(metric_label, headline(result.plan))), rows)]


# -- cautions and controls ---------------------------------------------------------------------------------


def cautions(result: StudyResult) -> list[Block]:
    """Return what the checks found, the evaluation's remarks, what must be known of the data, and what is in order."""
    found = [Text(line, "warning") for line in findings(result)]
    blocks: list[Block] = [*found, *map(Text, result.test_data)]
    passed = [check.name for check in checks(result) if not check.findings]
    if passed:
        blocks.append(Text(f"Checked and in order: {'; '.join(passed)}.", "note"))
    return [Heading("Cautions", "cautions"), *blocks] if blocks else []


def findings(result: StudyResult) -> list[str]:
    """Return problems of the run, remarks of the evaluation with the trials they concern, findings of the checks."""
    trials: dict[str, list[str]] = {}
    for key, lines in result.remarks.items():
        for line in lines:
            trials.setdefault(line, []).append(key)
    return [
        *result.problems,
        *(f"{line} (trial {', '.join(keys)})" for line, keys in trials.items()),
        *(finding for check in checks(result) for finding in check.findings),
    ]


def _cautions_in_short(result: StudyResult, number: int) -> str:
    """Return how many cautions there are and what they are about, for the first screen."""
    about = [check.trouble for check in checks(result) if check.findings]
    if result.remarks:
        about.insert(0, "remarks of the evaluation")
    if result.problems:
        about.insert(0, "problems of the run")
    return f"{counted(number, 'caution')}: {', '.join(about)}"


def controls(result: StudyResult) -> list[Block]:
    """Return how much of the winner's lead each control shows too."""
    made = decomposition(result)
    return [Heading("Controls", "controls"), Figure(*made)] if made else []
