"""Checks of a result that a reader should know the outcome of: seeds, ranges, validation against test, failures.

They judge how the result came about, not the claim: what the arms show is said by `verdict` alone.
"""

import math
from dataclasses import dataclass

from search_spaces.domain import Choice
from tuner.analysis.metric_text import interval_text, larger_is_better, metric_label, setting_text, value_text
from tuner.analysis.range_ends import edge_of, widened
from tuner.analysis.ranking import ranking, regret_text
from tuner.analysis.results import StudyResult
from tuner.analysis.selection import ranked
from tuner.analysis.verdict import claim_metric, verdict
from tuner.base.records import State, TrialRecord, most_common
from tuner.base.text import counted

ENOUGH_SEEDS = 5  # 95 % t-intervals: 2.8 standard errors with 5 seeds, 4.3 with 3, 12.7 with 2
FEWEST_RANKED = 8  # a rank correlation of fewer says nothing
AGREEMENT = 0.5  # rank correlation
MOST_FAILED = 0.1


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what is in order if nothing was found, "enough seeds".
        findings: a sentence for each thing that was found.
        trouble: what the findings come to in a few words, "few fresh seeds".
    """

    name: str
    findings: tuple[str, ...] = ()
    trouble: str = ""


def checks(result: StudyResult) -> list[Check]:
    """Return every check that the result has the data for."""
    made = (_seeds, _controls, _ranges, _repeats, _agreement, _trials)
    return [check for check in (make(result) for make in made) if check is not None]


def _seeds(result: StudyResult) -> Check | None:
    winner, planned = result.arm("best"), result.plan.confirm_seeds
    if winner is None:
        return None
    n = winner.seed_interval(claim_metric(result.plan)).n
    found = []
    if n < ENOUGH_SEEDS:
        wide = (
            f"95 % intervals are {_factor(n):.1f} standard errors wide on each side"
            if n > 1
            else "no interval"
        )
        found.append(f"Only {counted(n, 'fresh seed')}: {wide}; use --confirm-seeds {ENOUGH_SEEDS} or more.")
    if n < planned:
        found.append(f"{planned} fresh seeds were asked for; every arm has finished {n} of them.")
    return Check("enough fresh seeds", tuple(found), "few fresh seeds")


def _factor(n: int) -> float:
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes a second to import

    return float(stdtrit(n - 1, 0.975))


def _controls(result: StudyResult) -> Check | None:
    if not any(arm.role == "control" for arm in result.arms):
        return None
    explaining = verdict(result).explained_by
    found = (
        f"The winner is not told apart from {', '.join(explaining)}, which gain{'s' if len(explaining) == 1 else ''} "
        f"over the baseline as well: {'a control' if len(explaining) == 1 else 'controls'} without the method's part."
    )
    return Check("no control that may do as well", (found,) if explaining else (), "a control may do as well")


def _ranges(result: StudyResult) -> Check | None:
    """Return where the winner of a search lies at an end of a range: a wider one might have a better trial."""
    found, looked_at = [], False
    for lane in result.plan.lanes:
        winner = winner_of(result, lane.name)
        for key, domain in lane.space.items() if winner else ():
            end = edge_of(domain, winner.params.get(key)) if winner else ""
            looked_at = looked_at or not isinstance(domain, Choice)
            if winner and end and not isinstance(domain, Choice):
                whose = "The winner's" if lane.name == "search" else f"The tuned baseline {lane.name}'s best"
                span = f"{setting_text(domain.low)} to {setting_text(domain.high)}"
                wider = widened(domain, end, lane.method, key)
                more = f"; for a new run: --set '{key}={wider}'" if wider else ""
                found.append(
                    f"{whose} {key} = {setting_text(winner.params[key])} lies at the {end} end of its range "
                    f"({span}): values beyond were not tried{more}."
                )
    made = Check("winners inside their ranges", tuple(found), "values at the end of their range")
    return made if looked_at else None


def winner_of(result: StudyResult, lane: str) -> TrialRecord | None:
    """Return a lane's best complete, feasible trial by the first objective; the search's own is `result.best`."""
    if lane == "search":
        return result.best
    candidates = [r for r in result.lane(lane) if r.state is State.COMPLETE and r.key in result.feasible]
    return next(iter(ranked(candidates, result.plan.objectives[0])), None)


def _repeats(result: StudyResult) -> Check | None:
    """Compare the winner's own run with the same configuration on fresh seeds: the best of many was lucky too."""
    metric, winner = claim_metric(result.plan), result.arm("best")
    own = result.tests.get(result.best.key, {}).get(metric) if result.best else None
    if winner is None or own is None:
        return None
    again = winner.seed_interval(metric)
    if again.n < 3 or not math.isfinite(again.half):
        return None
    one_more = again.half * math.sqrt(again.n + 1)  # half the interval in which 95 % of single runs fall
    sign = 1 if larger_is_better(metric) else -1
    found = (
        f"The winner's run in the search reached {value_text(metric, own)} in {metric_label(metric)}, the same "
        f"configuration with fresh seeds {interval_text(metric, again)}: the search's own number is too good."
    )
    lucky = sign * (own - again.mean) > one_more
    return Check(
        "the winner repeated with fresh seeds", (found,) if lucky else (), "a lucky run in the search"
    )


def _agreement(result: StudyResult) -> Check | None:
    found = ranking(result)
    if found.n < FEWEST_RANKED:
        return None
    poor = (
        f"Validation and test order the {found.n} evaluated trials differently (rank correlation {found.text}): the "
        "trial that is best on validation need not be the best on test. " + regret_text(result, found)
    ).strip()
    return Check(
        "validation and test agree",
        (poor,) if found.correlation < AGREEMENT else (),
        "validation and test disagree",
    )


def _trials(result: StudyResult) -> Check | None:
    records = result.lane("search")
    if not records:
        return None
    found = []
    ended = [r for r in records if r.state is not State.RUNNING]
    failed = [r for r in ended if r.state is State.FAIL]
    complete = result.count("search", State.COMPLETE)
    if result.plan.trains_one:
        return Check("the training ended", tuple(f"It failed: {r.reason}." for r in failed), "it failed")
    if len(ended) < result.plan.trials:
        found.append(f"{len(ended)} of {counted(result.plan.trials, 'planned trial')} have ended.")
    if len(failed) > MOST_FAILED * len(records):
        reason = most_common([" ".join(r.reason.split()) for r in failed])
        found.append(f"{len(failed)} of {counted(len(records), 'trial')} failed: {reason}.")
    searched = len(result.plan.lanes[0].space)
    if result.plan.trials < searched:
        trials = counted(result.plan.trials, "trial")
        found.append(f"{trials} for {searched} parameters: most values of their ranges were not tried.")
    if result.best is not None and complete < 3:
        found.append(f"The winner is the best of {counted(complete, 'trial')} that trained to the end.")
    return Check("trials ended as planned", tuple(found), "few or failed trials")
