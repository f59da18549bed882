"""Which test sets of a data set are available: OOD sets, corrupted sets, and what is left out.

Nothing is opened or imported here (no torch, no numpy): only names are looked up on the disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import find_folder
from trainables.data.types.made_sets import NOISES
from trainables.data.types.ood_sets import files_of
from trainables.data.types.own_datasets import how_to_give
from trainables.data.types.own_ood import own_ood_sets

SMALLEST = 32  #: pixels a side from which the corruptions of ImageNet-C exist
CIFAR_LARGEST = 32  #: pixels a side up to which they have CIFAR-10-C's strengths
EXTRA = "pip install 'robust-tuner[corruptions]'"


def regenerated_count(side: int) -> int:
    """Return how many test images, at most, are corrupted: it takes some 4 CPU minutes and 0.5 to 3 GB."""
    return 2000 if side <= 32 else 1000 if side <= 64 else 256


@dataclass(frozen=True)
class SetsOfAKind:
    """What a plan says of one kind of test sets.

    Attributes:
        label, text: the line of the plan.
        group: of the metrics that read them.
        left_out: why the tests lack some or all of them, "" if they do not.
    """

    label: str
    text: str
    group: str
    left_out: str = ""


def evaluation_sets(
    name: str, shape: tuple[int, int, int], data_dir: str, groups: Sequence[str]
) -> list[SetsOfAKind]:
    """Return the test sets for the plan, one entry for each kind.

    Args:
        groups: the metric groups of the protocol; sets that no group reads are not named.
    """
    roles = DATASETS[name].roles
    if roles is None:
        return []  # the loader brings everything
    kinds = []
    if {"ood", "robust_ood"} & set(groups):
        for label, names in ood_sets(name, data_dir).items():
            if names:
                kinds.append(SetsOfAKind(f"{label} OOD", ", ".join(names), "ood"))
        lacking = missing_ood(roles.tested, name, data_dir)
        if lacking:
            line = lacking_line(name, lacking, data_dir)
            kinds.append(SetsOfAKind("left out", line.removeprefix(f"{name}: "), "ood", line))
    if "corrupted" in groups:
        text, left_out = _corrupted(name, shape, data_dir)
        kinds.append(SetsOfAKind("corrupted", text, "corrupted", left_out))
    return kinds


def ood_sets(name: str, data_dir: str) -> dict[str, list[str]]:
    """Return {"near", "far", "other": the OOD test sets that are there}, of a data set that names its own.

    Raises:
        DataFileError: the user's own sets lie where they are not read, see `own_ood_sets`.
    """
    roles = DATASETS[name].roles
    if roles is None:
        return {}  # the loader brings everything
    named = {"near": roles.near, "far": roles.far, "other": roles.other}
    own = own_ood_sets(name, data_dir)
    return {
        group: [n for n in names if not missing_ood([n], name, data_dir)] + own.get(group, [])
        for group, names in named.items()
    }


def missing_ood(names: Sequence[str], of: str, data_dir: str) -> list[str]:
    """Return which of the named OOD sets of a data set are read from files and are not in the data folder."""
    if DATASETS[of].files is None:
        return []  # a built-in set makes them
    return [n for n in names if n not in NOISES and find_folder(n, data_dir, "test") is None]


def how_to_add(name: str, group: str, data_dir: str) -> str:
    """Return how a data set comes to have OOD sets of a group, of which none is there; "" if it has no such group."""
    spec = DATASETS[name]
    named = getattr(spec.roles, group, ())
    if named:
        return lacking_line(name, named, data_dir).removeprefix(f"{name}: ")
    if spec.sets:
        return f"{how_to_give(spec.name, group)} (docs/own_data.md)"
    if spec.users_own:
        return f"put pictures into {Path(data_dir).expanduser()}/ood/{group}/<set>/"
    return ""


def lacking_line(name: str, lacking: Sequence[str], data_dir: str) -> str:
    """Return one line: which OOD sets are left out, and how to get them."""
    fetched = [n for n in lacking if files_of(n).download]
    placed = [n for n in lacking if n not in fetched]
    how = [f"{n}: put {files_of(n).put}" for n in placed]
    if fetched:
        how.insert(
            0,
            f"fetch with: python -m trainables.data.download {' '.join(fetched)} --data-dir {data_dir}",
        )
    count = f"{len(lacking)} OOD test sets" if len(lacking) > 1 else "one OOD test set"
    return f"{name}: {count} not in {data_dir} ({', '.join(lacking)}); {'; '.join(how)}"


def published_folder(name: str) -> str:
    """Return the folder of a data set's published corrupted test set.

    "" where none was published, and for a `Benchmark` that was made in memory under a name of its own.
    """
    published = DATASETS[name].corrupted if name in DATASETS else None
    return published.folder if published else ""


def has_cifar_strengths(shape: tuple[int, int, int]) -> bool:
    """Return whether images (c, h, w) are corrupted at CIFAR-10-C's strengths: ImageNet's would be far too strong."""
    return max(shape[1:]) <= CIFAR_LARGEST


def regenerated_line(name: str, count: int, shape: tuple[int, int, int]) -> str:
    """Return the line that accompanies every result on regenerated corruptions of images (c, h, w)."""
    whose = "CIFAR-10-C" if has_cifar_strengths(shape) else "ImageNet-C"
    other = f"this is not {published_folder(name)} and " if published_folder(name) else ""
    return (
        f"{name}: corruptions are regenerated from {count} clean test images with {whose}'s strengths; "
        f"{other}not comparable with published results"
    )


def _corrupted(name: str, shape: tuple[int, int, int], data_dir: str) -> tuple[str, str]:
    """Return where the corrupted test sets come from, and why there are none, "" if there are."""
    published = published_folder(name)
    if published and (Path(data_dir).expanduser() / published).is_dir():
        return f"{published} of the data folder", ""
    absent = f"no {published} in {data_dir}" if published else "none was published"
    if min(shape[1:]) < SMALLEST:
        text = f"left out: {absent}, and ImageNet-C's corruptions begin at {SMALLEST} pixels a side"
    elif find_spec("imagecorruptions") is None:
        text = f"left out: {absent}; {EXTRA} makes them from the test images"
    else:
        made = f"regenerated from up to {regenerated_count(shape[1])} test images ({absent}), some 4 CPU minutes once"
        return f"{made}; not comparable with published results", ""
    return text, f"{name}: accuracy on corruptions is {text}"
