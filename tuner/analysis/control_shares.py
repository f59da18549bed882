"""How much of the winner's lead over the baseline each control shows too: two paired differences per control."""

from dataclasses import dataclass

from tuner.analysis.metric_text import larger_is_better
from tuner.analysis.results import ArmResult, Interval, StudyResult
from tuner.analysis.verdict import claim_metric, paired_comparison, strongest


@dataclass(frozen=True)
class ControlShare:
    """One control between the strongest baseline and the winner, in the claim's metric.

    The means of `shown` and `beyond` add up to the winner's lead where all three arms have the same seeds.

    Attributes:
        shown: control minus baseline, paired by seed.
        beyond: winner minus control, paired by seed.
    """

    baseline: ArmResult
    control: ArmResult
    shown: Interval
    beyond: Interval


def control_shares(result: StudyResult) -> list[ControlShare]:
    """Return each control that can be compared, the one closest to the winner first; [] without baseline or winner."""
    metric, winner = claim_metric(result.plan), result.arm("best")
    baselines = [arm for arm in result.arms if arm.role == "baseline" and arm.seed_interval(metric).n]
    if winner is None or not baselines:
        return []
    baseline = strongest(baselines, metric)
    shares = []
    for control in (arm for arm in result.arms if arm.role == "control"):
        shown = paired_comparison(control, baseline, metric)
        beyond = paired_comparison(winner, control, metric)
        if shown is not None and beyond is not None and shown.difference.n and beyond.difference.n:
            shares.append(ControlShare(baseline, control, shown.difference, beyond.difference))
    sign = 1 if larger_is_better(metric) else -1
    return sorted(shares, key=lambda share: sign * share.beyond.mean)
