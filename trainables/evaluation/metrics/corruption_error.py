"""Errors on corrupted images: the mean corruption error of ImageNet-C, and the plain mean of everything else. No torch.

Only ImageNet-C has constants to divide by, so only its published files have an mCE. On CIFAR-C, Tiny-ImageNet-C, digits
and regenerated sets the mean accuracy over corruptions and severities says the same as an unnormalised mean error.
"""

from collections.abc import Mapping

import numpy as np

from trainables.base.errors import InputError
from trainables.data.readers.corrupted_files import CORRUPTIONS, NOISES, missing_corruptions
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import Origin

#: AlexNet's mean top-1 error over the five severities of each corruption of ImageNet-C.
ALEXNET: Mapping[str, float] = dict(
    zip(
        CORRUPTIONS,
        (
            *(0.886428, 0.894468, 0.922640),
            *(0.819880, 0.826268, 0.785948, 0.798360),
            *(0.866816, 0.826572, 0.819324, 0.564592),
            *(0.853204, 0.646056, 0.717840, 0.606500),
        ),
        strict=True,
    )
)


def mce_metrics(benchmark: Benchmark, accuracies: Mapping[str, float]) -> dict[str, float]:
    """Return {"mce", "mce/off_noise"} in per cent for the whole published ImageNet-C, {} for anything else.

    Args:
        benchmark: what was measured on.
        accuracies: {"<corruption>/<severity>": top-1 accuracy in [0, 1]}.
    """
    name = benchmark.info.name
    published = (
        DATASETS[name].corrupted if name in DATASETS else None
    )  # one made in memory has a name of its own
    has_mce = published is not None and published.mce and benchmark.corrupted is Origin.PUBLISHED
    if not has_mce or missing_corruptions(accuracies):
        return {}
    errors = errors_of(accuracies)
    return {"mce": mce(errors), "mce/off_noise": mce(errors, noises=False)}


def errors_of(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Return {corruption: mean error over its severities} of accuracies {"<corruption>/<severity>": in [0, 1]}."""
    by_corruption: dict[str, list[float]] = {}
    for name, value in accuracies.items():
        by_corruption.setdefault(name.split("/")[0], []).append(1.0 - value)
    return {name: float(np.mean(values)) for name, values in by_corruption.items()}


def mce(errors: Mapping[str, float], noises: bool = True) -> float:
    """Return the mean corruption error in per cent: the mean over the 15 of error / AlexNet's error, times 100.

    Only for ImageNet-C, whose constants these are; elsewhere `mean_error`.

    Args:
        errors: {corruption: mean top-1 error over five severities, in [0, 1]}; others than the 15 are ignored.
        noises: False leaves out Gaussian, shot and impulse noise: a mean over 12.

    Raises:
        InputError: one of the 15 is missing; a mean over fewer is not mCE.

    Source:
        Hendrycks & Dietterich 2019.

    Example:
        AlexNet's own errors give 100, half of each 50.
    """
    return 100 * float(np.mean([errors[name] / ALEXNET[name] for name in _complete(errors, noises)]))


def mean_error(errors: Mapping[str, float], noises: bool = True) -> float:
    """Return the unnormalised mean error over the 15 in [0, 1], or over the 12 that are no noise.

    Arguments and errors are those of `mce`. Training on noise tells on the three; the 12 show what it costs.
    """
    return float(np.mean([errors[name] for name in _complete(errors, noises)]))


def _complete(errors: Mapping[str, float], noises: bool) -> list[str]:
    lacking = missing_corruptions(errors)
    if lacking:
        raise InputError(f"mean corruption error: {', '.join(lacking)} missing; it is a mean over all 15")
    return [name for name in CORRUPTIONS if noises or name not in NOISES]
