"""Schedules of Rob-GAN as pure functions: the length of its two phases, ramps and learning rates."""

import math

from trainables.options.robgan import RobGANOptions


def joint_epochs(options: RobGANOptions) -> int:
    """Return how many of a trial's epochs are the joint phase: all but round(ft.share * epochs), at least one.

    Without a generator there is no second phase; with a shared joint phase (`options.joint_epochs`) there is only that.

    Example:
        40 epochs, share 0.25: 30. 2 epochs, share 0.1: 1, as a second phase that is asked for exists.
    """
    if options.joint_epochs:
        return 0
    if not options.generator or options.ft.share == 0:
        return options.epochs
    return max(1, options.epochs - max(1, round(options.ft.share * options.epochs)))


def ramp_up(step: int, total: int, share: float) -> float:
    """Return a factor that rises linearly to 1 over the first `share` of `total` steps.

    Example:
        10 steps, share 0.4: 0.25, 0.5, 0.75, 1, 1, ...
    """
    return min(1.0, (step + 1) / max(1.0, share * total))


def rate_factor(schedule: str, step: int, total: int) -> float:
    """Return the factor on the learning rate at a step of one phase.

    linear falls to 0, cosine too; halve halves at each quarter; stages divides by 10 at 2/6, 4/6 and 5/6.
    """
    progress = min(1.0, step / max(1, total))
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "halve":
        return float(0.5 ** min(3, int(4 * progress)))
    if schedule == "stages":
        return float(0.1 ** sum(6 * step >= bound * total for bound in (2, 4, 5)))
    return 1.0
