"""The table of data sets, readable without torch."""

from trainables.data.splits import DatasetInfo
from trainables.errors import InputError
from trainables.options.schema import unknown

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", 10, (1, 8, 8), (0.3050,), (0.3759,), builtin=True),
        DatasetInfo("digits-open", 6, (1, 8, 8), (0.3035,), (0.3765,), builtin=True),
    )
}


def get(name: str) -> DatasetInfo:
    """Return the entry of a data set, or raise InputError with the nearest known name."""
    if name not in DATASETS:
        raise InputError(unknown("dataset", name, DATASETS))
    return DATASETS[name]
