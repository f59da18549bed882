"""Which files of training outliers the trials of a lane may read."""

from dataclasses import replace

from search_spaces.domain import Float
from trainables.options import build
from trainables.options.common import OutlierOptions
from trainables.options.outliers import OUTLIER_SOURCES
from tuner.base.errors import UsageError
from tuner.planning.plan import LanePlan


def outlier_files(lane: LanePlan) -> list[OutlierOptions]:
    """Return the options of every source of files, and every sigma, that a lane may ask for.

    Raises:
        UsageError: sigma is searched in a range, while files are made for single values.
    """
    settings = {
        key.removeprefix("outliers."): value
        for key, value in lane.fixed.items()
        if key.startswith("outliers.")
    }
    fixed = build(OutlierOptions, settings)
    generators = getattr(lane.space.get("outliers.generator"), "options", (fixed.generator,))
    sources = [OUTLIER_SOURCES[name] for name in generators if OUTLIER_SOURCES[name].file]
    sigmas = lane.space.get("outliers.sigma")
    if sources and isinstance(sigmas, Float):
        raise UsageError(
            f"outliers.sigma is {sigmas}, but files exist for single values only; "
            "use for example --set 'outliers.sigma=choice(1.0, 2.0)'"
        )
    return [
        replace(fixed, generator=source.name, sigma=sigma)
        for source in sources
        for sigma in getattr(sigmas, "options", (fixed.sigma,))
    ]
