"""The verdict on a study's claim: the winner against baselines and controls, paired over seeds.

It is about one metric only, the first of the study's headline, named before anything was run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tuner.analysis.metric_text import (
    difference_text,
    floor_text,
    interval_text,
    larger_is_better,
    metric_label,
    value_text,
)
from tuner.analysis.results import ArmResult, Comparison, StudyResult, interval
from tuner.base.records import State, TrialRecord
from tuner.planning.plan import Plan

CLEAN = "test/accuracy/clean"


class ComparisonOutcome(StrEnum):
    """The result of comparing two arms in one metric."""

    SEPARATED = "better, intervals apart"
    PAIRED = "better, seed by seed"
    SAME = "no difference shown"
    WORSE = "worse"
    UNKNOWN = "no interval"

    @property
    def better(self) -> bool:
        return self in (ComparisonOutcome.SEPARATED, ComparisonOutcome.PAIRED)


#: the outcomes of comparisons with baselines, the least favourable first: it decides the level
_DECIDES = (
    ComparisonOutcome.WORSE,
    ComparisonOutcome.SAME,
    ComparisonOutcome.UNKNOWN,
    ComparisonOutcome.PAIRED,
    ComparisonOutcome.SEPARATED,
)


class Level(StrEnum):
    """The status of the claim."""

    SUPPORTED = "supported"
    PARTLY = "partly supported"
    EXPLAINED = "not shown, a control may do as well"
    REFUTED = "not supported"
    OPEN = "not judged"


@dataclass(frozen=True)
class Verdict:
    """The status of the claim and the sentences that state and explain it.

    Attributes:
        metric: the claim's test metric.
        sentences: in the order to be read; the first `deciding` ones stand alone.
        explained_by: controls that gain over the baseline and that the winner cannot be told from.
        accuracy: the one of the sentences that compares clean accuracies, "" where they are the claim or unmeasured.
    """

    level: Level
    metric: str
    sentences: tuple[str, ...]
    explained_by: tuple[str, ...] = ()
    accuracy: str = ""

    @property
    def deciding(self) -> int:
        """Return how many sentences it takes to say why: the baseline's, and of the control that does as well."""
        return 2 if self.explained_by else 1

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    def __str__(self) -> str:
        return self.text


# -- comparing ---------------------------------------------------------------------------------------------


def paired_comparison(ours: ArmResult, theirs: ArmResult, metric: str) -> Comparison | None:
    """Return one arm against another, paired over the seeds that both have; None if either lacks the metric.

    Args:
        ours, theirs: results whose values stand in the order of the same seeds.
    """
    a, b = ours.values.get(metric, ()), theirs.values.get(metric, ())
    if not any(map(math.isfinite, a)) or not any(map(math.isfinite, b)):
        return None
    apart = ours.seed_interval(metric).is_apart_from(theirs.seed_interval(metric))
    return Comparison(theirs.name, metric, interval(paired_differences(a, b)), apart)


def paired_differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the differences of values in the order of the same seeds, of the seeds that have both finite."""
    # lists of different length have lost the pairing: which seed is missing cannot be told
    pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ()
    return [x - y for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def outcome(comparison: Comparison | None) -> ComparisonOutcome:
    """Return how a comparison reads. An interval that touches 0 is no difference, whether or not the arms' overlap.

    Example:
        difference 0.05 ± 0.02 in an AUROC: PAIRED, or SEPARATED if the arms' intervals lie apart;
        0.02 ± 0.02: SAME; in an FPR 0.05 ± 0.02 is WORSE.
    """
    if comparison is None or not math.isfinite(comparison.difference.half):
        return ComparisonOutcome.UNKNOWN
    difference = comparison.difference
    sign = 1 if larger_is_better(comparison.metric) else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > 0:
        return ComparisonOutcome.SEPARATED if comparison.separated else ComparisonOutcome.PAIRED
    return ComparisonOutcome.WORSE if high < 0 else ComparisonOutcome.SAME


# -- the verdict -------------------------------------------------------------------------------------------


def claim_metric(plan: Plan) -> str:
    """Return the test metric that the claim is about."""
    return plan.headline[0] if plan.headline else plan.objectives[0].metric.replace("val/", "test/", 1)


def headline(plan: Plan) -> tuple[str, ...]:
    """Return the test metrics that the answer shows, the claim's first."""
    return plan.headline or (claim_metric(plan),)


def measured_headline(result: StudyResult) -> list[str]:
    """Return the headline metrics that the confirm stage has a value of."""
    return [m for m in headline(result.plan) if any(arm.seed_interval(m).n for arm in result.arms)]


def verdict(result: StudyResult) -> Verdict:
    """Return the verdict of the confirm stage; without an interval of at least two seeds the claim stays open."""
    metric = claim_metric(result.plan)
    winner = result.arm("best")
    if result.best is None and winner is None:
        return Verdict(
            Level.OPEN,
            metric,
            (f"There is no winner: {no_winner_reason(result.plan, result.lane('search'))}.",),
        )
    if winner is None:
        return Verdict(Level.OPEN, metric, (_unconfirmed(result, metric),))
    if not winner.seed_interval(metric).n:
        missing = f"The winner was retrained, but {metric_label(metric)} was not measured, so the claim is not judged."
        return Verdict(Level.OPEN, metric, (missing,))
    baselines = [arm for arm in result.arms if arm.role == "baseline"]
    controls = [arm for arm in result.arms if arm.role == "control"]
    if not baselines:
        return Verdict(Level.OPEN, metric, (_alone(result.plan, winner, metric),))
    judged = [(arm, outcome(paired_comparison(winner, arm, metric))) for arm in baselines]
    judged.sort(key=lambda one: _DECIDES.index(one[1]))  # the comparison that decides is told first
    sentences = [_baseline_sentence(winner, arm, metric, judgement) for arm, judgement in judged]
    level = _level([judgement for _, judgement in judged])
    baseline = strongest(baselines, metric)
    explained: tuple[str, ...] = ()
    if level in (Level.SUPPORTED, Level.PARTLY):
        told = _control_sentences(winner, baseline, controls, metric)
        explained = tuple(c.name for c in controls if _may_do_as_well(winner, baseline, c, metric))
        level = Level.EXPLAINED if explained else level
        sentences[1:1] = [told.pop(name) for name in explained]
        sentences += told.values()
    accuracy = _accuracy_sentence(winner, baseline, metric)
    sentences += [accuracy] if accuracy else []
    sentences += _losses(winner, baselines, result.plan)
    return Verdict(level, metric, tuple(sentences), explained, accuracy)


def no_winner_reason(plan: Plan, searched: Sequence[TrialRecord]) -> str:
    """Return why a search has no winner."""
    complete = sum(r.state is State.COMPLETE for r in searched)
    if not complete:
        return "no trial of the search is complete"
    floors = "; ".join(floor_text(floor, {}) for floor in plan.floors)
    return f"none of the {complete} complete trials meets the floors ({floors})"


def trials_to_add(plan: Plan, searched: Sequence[TrialRecord]) -> int | None:
    """Return with how many trials a search without a winner may find one; None if some of its own are still to run."""
    ended = sum(r.state is not State.RUNNING for r in searched)
    return 2 * plan.trials if ended >= plan.trials else None


def _unconfirmed(result: StudyResult, metric: str) -> str:
    value = result.tests.get(result.best.key, {}).get(metric) if result.best else None
    subject = "It" if result.plan.trains_one else "Its single run"
    seen = ""
    if value is not None:
        seen = f" {subject} shows {value_text(metric, value)} in {metric_label(metric)} on test data."
    if result.plan.trains_one:
        return (
            f"One training with one seed, so there is no interval.{seen} "
            f"For one: --resume {result.plan.run_name} --stages confirm,report."
        )
    if result.underway and "confirm" in result.plan.stages:
        return (
            "The confirm stage is not over, so there is no interval and no comparison yet: the winner so far is the "
            f"best of many, with one seed each.{seen}"
        )
    return (
        "The confirm stage was not run, so there is no interval and no comparison: the winner is the best of "
        f"many, with one seed each.{seen} Run it with --resume {result.plan.run_name} --stages confirm,report."
    )


def _alone(plan: Plan, winner: ArmResult, metric: str) -> str:
    reached = f"{interval_text(metric, winner.seed_interval(metric))} in {metric_label(metric)}"
    if plan.trains_one:
        return f"The configuration, trained again with fresh seeds, reaches {reached}; nothing was compared."
    unjudged = ", so the claim is not judged" if plan.claim else ""
    return f"The winner reaches {reached}; no baseline was retrained beside it{unjudged}."


def _level(outcomes: Sequence[ComparisonOutcome]) -> Level:
    """Return the status of the claim against its baselines: the least favourable comparison decides."""
    if all(one is ComparisonOutcome.SEPARATED for one in outcomes):
        return Level.SUPPORTED
    if all(one.better for one in outcomes):
        return Level.PARTLY
    if any(one in (ComparisonOutcome.SAME, ComparisonOutcome.WORSE) for one in outcomes):
        return Level.REFUTED
    return Level.OPEN


def _baseline_sentence(winner: ArmResult, arm: ArmResult, metric: str, judgement: ComparisonOutcome) -> str:
    comparison = paired_comparison(winner, arm, metric)
    if comparison is None:
        return f"The baseline {arm.name} has no {metric_label(metric)}, so it is not compared."
    ours = winner.seed_interval(metric)
    both = f"{interval_text(metric, ours)} against {interval_text(metric, arm.seed_interval(metric))}"
    n = comparison.difference.n
    lead = difference_text(metric, comparison.difference)
    ahead, paired = lead.lstrip("+-"), f"paired difference {lead}"
    where = f"in {metric_label(metric)}"
    if judgement is ComparisonOutcome.SEPARATED:
        return (
            f"The winner beats the baseline {arm.name} by {ahead} {where}: {both} over {n} fresh seeds, "
            "95 % intervals that do not overlap."
        )
    if judgement is ComparisonOutcome.PAIRED:
        return (
            f"The winner is ahead of the baseline {arm.name} {where}: the {paired} over {n} fresh seeds "
            f"excludes 0, but the two 95 % intervals overlap ({both})."
        )
    if judgement is ComparisonOutcome.WORSE:
        return f"The winner is worse than the baseline {arm.name} {where}: {both} over {n} seeds ({paired})."
    if judgement is ComparisonOutcome.SAME:
        return (
            f"The winner does not beat the baseline {arm.name} {where}: the {paired} over {n} fresh seeds "
            f"includes 0 ({both})."
        )
    if n:
        return (
            f"The winner and the baseline {arm.name} were compared on one seed only {where} ({both}): "
            "without an interval there is no verdict; use --confirm-seeds 5."
        )
    return (
        f"The winner and the baseline {arm.name} share no seed {where} ({both}), so they cannot be compared "
        "in pairs and there is no verdict."
    )


def strongest(baselines: Sequence[ArmResult], metric: str) -> ArmResult:
    """Return the baseline that is best in the metric: the one a gain is measured from."""
    sign = 1 if larger_is_better(metric) else -1
    measured = [arm for arm in baselines if arm.seed_interval(metric).n]
    return max(measured or baselines, key=lambda arm: sign * arm.seed_interval(metric).mean)


def strongest_baseline(result: StudyResult) -> ArmResult | None:
    """Return the baseline that is best in the claim's metric, None without any."""
    baselines = [arm for arm in result.arms if arm.role == "baseline"]
    return strongest(baselines, claim_metric(result.plan)) if baselines else None


def _may_do_as_well(winner: ArmResult, baseline: ArmResult, control: ArmResult, metric: str) -> bool:
    """Return whether a control beats the baseline and the winner, compared with it, is not ahead."""
    gained = outcome(paired_comparison(control, baseline, metric))
    ahead = outcome(paired_comparison(winner, control, metric))
    return gained.better and ahead in (ComparisonOutcome.SAME, ComparisonOutcome.WORSE)


def _control_sentences(
    winner: ArmResult, baseline: ArmResult, controls: Sequence[ArmResult], metric: str
) -> dict[str, str]:
    """Return {control: a sentence on it}; {"": what their absence means} without any."""
    if not controls:
        return {"": "No control was run, so plain augmentation is not ruled out as the cause."}
    return {control.name: _control_sentence(winner, baseline, control, metric) for control in controls}


def _control_sentence(winner: ArmResult, baseline: ArmResult, control: ArmResult, metric: str) -> str:
    ahead, gained = paired_comparison(winner, control, metric), paired_comparison(control, baseline, metric)
    ours, theirs = outcome(ahead), outcome(gained)
    if ahead is None or gained is None or ComparisonOutcome.UNKNOWN in (ours, theirs):
        return f"The control {control.name} could not be compared."
    lead = difference_text(metric, ahead.difference)
    own = difference_text(metric, gained.difference)
    about = f"{control.name} ({control.about})" if control.about else control.name
    if _may_do_as_well(winner, baseline, control, metric):
        return (
            f"But the control {about} gains {own} over {baseline.name} as well, and the winner is not ahead of it "
            f"({lead}): that the method is the cause is not shown."
        )
    if not ours.better:
        return (
            f"The winner cannot be told from the control {about} (difference {lead}), so what causes the "
            "gain stays open."
        )
    if theirs.better:
        return (
            f"The control {about} gains {own} over {baseline.name} too: that part of the gain has another cause, and "
            f"the winner's own part is {lead}."
        )
    return f"The control {about} does not show it: the winner differs by {lead}."


def _accuracy_sentence(winner: ArmResult, baseline: ArmResult, metric: str) -> str:
    """Return what the winner's clean accuracy is beside the strongest baseline's, and which loss is not ruled out."""
    compared = paired_comparison(winner, baseline, CLEAN)
    if metric == CLEAN or compared is None:
        return ""
    label = metric_label(CLEAN)
    ours, theirs = (interval_text(CLEAN, arm.seed_interval(CLEAN)) for arm in (winner, baseline))
    text = f"{label[0].upper()}{label[1:]}: {ours} against {theirs}"
    reading = outcome(compared)
    if reading is ComparisonOutcome.UNKNOWN:
        return f"{text}."
    lead = difference_text(CLEAN, compared.difference)
    if reading is ComparisonOutcome.SAME and compared.difference.low < 0:
        most = 100 * -compared.difference.low
        return f"{text} ({lead}: no loss is shown, one of up to {most:.1f} is not ruled out)."
    return f"{text} ({lead})."


def _losses(winner: ArmResult, baselines: Sequence[ArmResult], plan: Plan) -> list[str]:
    """Return a sentence for the other headline metrics in which the winner is worse than a baseline."""
    parts = []
    for arm in baselines:
        for metric in headline(plan)[1:]:
            comparison = paired_comparison(winner, arm, metric)
            if comparison is not None and outcome(comparison) is ComparisonOutcome.WORSE:
                lost = difference_text(metric, comparison.difference)
                parts.append(f"{metric_label(metric)} ({lost} against {arm.name})")
    return [f"It is worse in {'; '.join(parts)}."] if parts else []
