"""Does the winner beat its baselines, and is it the method that does it? Shared by console and report.

The verdict is about one metric only, the first of the study's headline, named before anything was run.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tuner.plan import Plan
from tuner.records import TrialRecord
from tuner.results import ArmResult, Comparison, Interval, StudyResult, interval


class Outcome(StrEnum):
    """How one arm stands against another in one metric."""

    SEPARATED = "better, intervals apart"
    PAIRED = "better, seed by seed"
    SAME = "no difference shown"
    WORSE = "worse"
    UNKNOWN = "no interval"

    @property
    def better(self) -> bool:
        return self in (Outcome.SEPARATED, Outcome.PAIRED)


class Level(StrEnum):
    """What became of the claim."""

    SUPPORTED = "supported"
    PARTLY = "partly supported"
    EXPLAINED = "explained by a control"
    REFUTED = "not supported"
    OPEN = "not judged"


@dataclass(frozen=True)
class Verdict:
    """The answer in words.

    Attributes:
        metric: the claim's test metric.
        sentences: in the order to be read; the first one stands alone.
        explained_by: controls that show the same gain as the winner.
    """

    level: Level
    metric: str
    sentences: tuple[str, ...]
    explained_by: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


# -- comparing ---------------------------------------------------------------------------------------------


def larger_is_better(metric: str) -> bool:
    """Return False for rates of false alarms, errors and losses."""
    return not re.search(r"fpr|loss|error|ece", metric)


def over_seeds(arm: ArmResult, metric: str) -> Interval:
    """Return the interval over the seeds that have a finite value; a failed seed shows in n."""
    return interval([v for v in arm.values.get(metric, ()) if math.isfinite(v)])


def contrast(ours: ArmResult, theirs: ArmResult, metric: str) -> Comparison | None:
    """Return one arm against another, paired over the seeds that both have; None if either lacks the metric.

    Args:
        ours, theirs: results whose values stand in the order of the same seeds.
    """
    a, b = ours.values.get(metric, ()), theirs.values.get(metric, ())
    if not any(map(math.isfinite, a)) or not any(map(math.isfinite, b)):
        return None
    # lists of different length have lost the pairing: which seed is missing cannot be told
    pairs = zip(a, b, strict=True) if len(a) == len(b) else ()
    differences = [x - y for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    mine, other = over_seeds(ours, metric), over_seeds(theirs, metric)
    separated = mine.low > other.high or mine.high < other.low
    return Comparison(theirs.name, metric, interval(differences), separated)


def outcome(comparison: Comparison | None) -> Outcome:
    """Judge a comparison. Touching 0 is no difference; separated intervals always have a paired one beside 0.

    Example:
        difference 0.05 ± 0.02 in an AUROC: PAIRED, or SEPARATED if the arms' intervals lie apart;
        0.02 ± 0.02: SAME; in an FPR 0.05 ± 0.02 is WORSE.
    """
    if comparison is None or not math.isfinite(comparison.difference.half):
        return Outcome.UNKNOWN
    difference = comparison.difference
    sign = 1 if larger_is_better(comparison.metric) else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > 0:
        return Outcome.SEPARATED if comparison.separated else Outcome.PAIRED
    return Outcome.WORSE if high < 0 else Outcome.SAME


# -- the verdict -------------------------------------------------------------------------------------------


def claim_metric(plan: Plan) -> str:
    """Return the test metric that the claim is about."""
    return plan.headline[0] if plan.headline else plan.objectives[0].metric.replace("val/", "test/", 1)


def headline(plan: Plan) -> tuple[str, ...]:
    return plan.headline or (claim_metric(plan),)


def verdict(result: StudyResult) -> Verdict:
    """Return what the confirm stage says about the study's claim; never more than its intervals carry."""
    metric = claim_metric(result.plan)
    winner = result.arm("best")
    if result.best is None and winner is None:
        return Verdict(Level.OPEN, metric, (_no_winner(result),))
    if winner is None:
        return Verdict(Level.OPEN, metric, (_unconfirmed(result, metric),))
    if not over_seeds(winner, metric).n:
        missing = (
            f"The winner was retrained, but {plain(metric)} was not measured, so the claim is not judged."
        )
        return Verdict(Level.OPEN, metric, (missing,))
    baselines = [arm for arm in result.arms if arm.role == "baseline"]
    controls = [arm for arm in result.arms if arm.role == "control"]
    if not baselines:
        reached = f"The winner reaches {interval_text(metric, over_seeds(winner, metric))} in {plain(metric)}"
        alone = f"{reached}; no baseline was retrained beside it, so the claim is not judged."
        return Verdict(Level.OPEN, metric, (alone,))
    judged = [(arm, outcome(contrast(winner, arm, metric))) for arm in baselines]
    sentences = [_against(winner, arm, metric, found) for arm, found in judged]
    level = _level([found for _, found in judged])
    explained: tuple[str, ...] = ()
    if level in (Level.SUPPORTED, Level.PARTLY):
        lines, explained = _controls(winner, strongest(baselines, metric), controls, metric)
        sentences += lines
        level = Level.EXPLAINED if explained else level
    sentences += _price(winner, baselines, result.plan)
    return Verdict(level, metric, tuple(sentences), explained)


def _no_winner(result: StudyResult) -> str:
    complete = sum(r.state.value == "COMPLETE" for r in result.lane("search"))
    if complete:
        floors = ", ".join(str(floor) for floor in result.plan.floors)
        return f"There is no winner: none of the {complete} complete trials meets the floors ({floors})."
    return "There is no winner: no trial of the search is complete."


def _unconfirmed(result: StudyResult, metric: str) -> str:
    value = result.tests.get(result.best.key, {}).get(metric) if result.best else None
    seen = (
        f" Its single run shows {value_text(metric, value)} in {plain(metric)}." if value is not None else ""
    )
    return (
        "The confirm stage was not run, so there is no interval and no comparison: the winner is the best of "
        f"many, with one seed each.{seen} Run it with --resume --stages confirm,report."
    )


def _level(outcomes: Sequence[Outcome]) -> Level:
    """Return the claim's fate against its baselines: the least favourable one decides."""
    if all(found is Outcome.SEPARATED for found in outcomes):
        return Level.SUPPORTED
    if all(found.better for found in outcomes):
        return Level.PARTLY
    if any(found in (Outcome.SAME, Outcome.WORSE) for found in outcomes):
        return Level.REFUTED
    return Level.OPEN


def _against(winner: ArmResult, arm: ArmResult, metric: str, found: Outcome) -> str:
    comparison = contrast(winner, arm, metric)
    if comparison is None:
        return f"The baseline {arm.name} has no {plain(metric)}, so it is not compared."
    ours = over_seeds(winner, metric)
    both = f"{interval_text(metric, ours)} against {interval_text(metric, over_seeds(arm, metric))}"
    n = comparison.difference.n
    paired = f"paired difference {difference_text(metric, comparison.difference)}"
    where = f"in {plain(metric)}"
    if found is Outcome.SEPARATED:
        return (
            f"The winner beats the baseline {arm.name} {where}: {both} over {n} fresh seeds, "
            f"95 % intervals that do not overlap ({paired})."
        )
    if found is Outcome.PAIRED:
        return (
            f"The winner is ahead of the baseline {arm.name} {where}: the {paired} over {n} fresh seeds "
            f"excludes 0, but the two 95 % intervals overlap ({both})."
        )
    if found is Outcome.WORSE:
        return f"The winner is worse than the baseline {arm.name} {where}: {both} over {n} seeds ({paired})."
    if found is Outcome.SAME:
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
    measured = [arm for arm in baselines if over_seeds(arm, metric).n]
    return max(measured or baselines, key=lambda arm: sign * over_seeds(arm, metric).mean)


def _controls(
    winner: ArmResult, baseline: ArmResult, controls: Sequence[ArmResult], metric: str
) -> tuple[list[str], tuple[str, ...]]:
    """Return a sentence for each control, and the names of those that show the winner's gain."""
    sentences, explained = [], []
    if not controls:
        sentences.append("No control was run, so plain augmentation is not ruled out as the cause.")
    for control in controls:
        ahead, gained = contrast(winner, control, metric), contrast(control, baseline, metric)
        ours, theirs = outcome(ahead), outcome(gained)
        if ahead is None or gained is None or Outcome.UNKNOWN in (ours, theirs):
            sentences.append(f"The control {control.name} could not be compared.")
            continue
        lead = difference_text(metric, ahead.difference)
        own = difference_text(metric, gained.difference)
        about = f"{control.name} ({control.about})" if control.about else control.name
        if not ours.better and theirs.better:
            explained.append(control.name)
            sentences.append(
                f"The control {about} shows the same gain ({own} over {baseline.name}; the winner "
                f"differs from it by {lead}): it counts as augmentation, not as an effect of the method."
            )
        elif not ours.better:
            sentences.append(
                f"The winner cannot be told from the control {about} (difference {lead}), so what causes the "
                "gain stays open."
            )
        elif theirs.better:
            sentences.append(
                f"The control {about} gains {own} over {baseline.name} too, and the winner {lead} over it: "
                "part of the gain is augmentation."
            )
        else:
            sentences.append(f"The control {about} does not show it: the winner differs by {lead}.")
    return sentences, tuple(explained)


def _price(winner: ArmResult, baselines: Sequence[ArmResult], plan: Plan) -> list[str]:
    """Return a sentence for the other headline metrics in which the winner is worse than a baseline."""
    losses = []
    for arm in baselines:
        for metric in headline(plan)[1:]:
            comparison = contrast(winner, arm, metric)
            if comparison is not None and outcome(comparison) is Outcome.WORSE:
                lost = difference_text(metric, comparison.difference)
                losses.append(f"{plain(metric)} ({lost} against {arm.name})")
    return [f"It is worse in {'; '.join(losses)}."] if losses else []


# -- wording -----------------------------------------------------------------------------------------------

_FAMILIES = {
    "accuracy/clean": "clean accuracy",
    "accuracy/corrupted": "accuracy on corruptions",
    "accuracy/corrupted/off_noise": "accuracy on corruptions that are no noise",
    "calibration/ece": "expected calibration error",
    "auroc": "AUROC",
    "aupr_in": "AUPR (ID)",
    "aupr_out": "AUPR (OOD)",
    "fpr95_id_pos": "FPR95 (OOD accepted at 95 % ID)",
    "fpr95_ood_pos": "FPR95 (ID flagged at 95 % OOD)",
}
_GROUPS = {"near": "near OOD", "far": "far OOD", "all": "all OOD sets", "unknown": "unknown classes"}


def plain(metric: str) -> str:
    """Return a metric in plain words.

    Example:
        "test/robust_auroc_0.1/near" -> "robust AUROC (ε 0.1), near OOD"; "val/accuracy/clean" ->
        "validation clean accuracy"; a name of no known form stays as it is.
    """
    split, _, name = metric.partition("/")
    if split not in ("val", "test", "train") or not name:
        return metric
    prefix = {"val": "validation ", "train": "training "}.get(split, "")
    return prefix + _plain_name(name)


def _plain_name(name: str) -> str:
    if name in _FAMILIES:
        return _FAMILIES[name]
    if found := re.fullmatch(r"accuracy/robust_([\d.]+)", name):
        return f"accuracy under attack (ε {found[1]})"
    if found := re.fullmatch(r"accuracy/autoattack_([\d.]+)", name):
        return f"accuracy under AutoAttack (ε {found[1]})"
    if found := re.fullmatch(r"attack_check_([\d.]+)/auroc_change", name):
        return f"robust AUROC, stronger attack minus this one (ε {found[1]})"
    if found := re.fullmatch(r"accuracy/corrupted/(.+)", name):
        return f"accuracy on {set_name(found[1])}"
    family, _, where = name.rpartition("/")
    if found := re.fullmatch(r"(?:(\w+)/)?robust_(auroc|fpr95_\w+?)_(?:(id|both)_)?([\d.]+)", family):
        score = f" by {found[1]}" if found[1] else ""
        attacked = {"id": "ID attacked, ", "both": "ID and OOD attacked, "}.get(found[3], "")
        return f"robust {_FAMILIES[found[2]]}{score} ({attacked}ε {found[4]}), {set_name(where)}"
    score, _, kind = family.rpartition("/")
    if kind in _FAMILIES:
        return f"{_FAMILIES[kind]}{f' by {score}' if score else ''}, {set_name(where)}"
    return name


def set_name(name: str) -> str:
    return _GROUPS.get(name, name.replace("_", " "))


def is_share(metric: str) -> bool:
    """Return whether a metric is a fraction that is shown as a percentage."""
    return bool(re.search(r"accuracy|auroc|aupr|fpr95|/ece$", metric))


def value_text(metric: str, value: float | None) -> str:
    """Return a value as shown: "90.1 %" for shares, four digits for the rest, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.4g}"


def interval_text(metric: str, found: Interval) -> str:
    """Return "90.1 ± 1.7 %", or the mean alone where one seed gives no interval."""
    if not math.isfinite(found.half):
        return value_text(metric, found.mean)
    if is_share(metric):
        return f"{100 * found.mean:.1f} ± {100 * found.half:.1f} %"
    return f"{found.mean:.4g} ± {found.half:.2g}"


def difference_text(metric: str, found: Interval) -> str:
    """Return "+5.3 ± 2.1 points"; points are percentage points."""
    if not math.isfinite(found.mean):
        return "-"
    scale, digits, unit = (100, "+.1f", " points") if is_share(metric) else (1, "+.4g", "")
    half = f" ± {scale * found.half:{digits[1:]}}" if math.isfinite(found.half) else ""
    return f"{scale * found.mean:{digits}}{half}{unit}"


def setting_text(value: Any) -> str:
    """Return a parameter's value with at most four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_text(record: TrialRecord) -> str:
    return ", ".join(f"{key}={setting_text(value)}" for key, value in record.params.items())


def duration(seconds: float) -> str:
    """Return a time span as people say it: "12.3 s", "4 min 05 s", "3 h 12 min"."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
