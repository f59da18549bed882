"""Print the tables of docs/data.md from the specs: `python -m trainables.data.types.tables`. No torch."""

import sys
from collections.abc import Iterable, Sequence

from trainables.data.types.dataset_spec import DatasetSpec, Epsilons, Files
from trainables.data.types.datasets import DATASETS
from trainables.data.types.ood_sets import OOD_SETS
from trainables.data.types.radii import radius_text

#: Of the built-in digits, whose OOD sets their loader makes.
_OWN = "see [protocol.md](protocol.md)"


def dataset_table() -> str:
    """Return the data sets to train on: what they are and where their files come from."""
    rows = [
        [f"`{spec.name}`", str(spec.num_classes or "any"), _shape(spec), *_files(spec.files), _hold_out(spec)]
        for spec in DATASETS
    ]
    head = ("`--dataset`", "classes", "images", "put into DIR", "source, MD5", "download", "validation")
    return _table(head, rows)


def tested_on_table() -> str:
    """Return what each data set is tested on."""
    rows = []
    for spec in DATASETS:
        roles = spec.roles
        ood = (roles.near, roles.far, roles.other) if roles else ((), (), ())
        sets = [", ".join(names) for names in ood] if roles else [_OWN, "", ""]
        if roles and roles.own:
            sets[0] = "folders in `ood/near/`"
            sets[1] = ", ".join(["folders in `ood/far/`", sets[1]])
        published = f"`{spec.corrupted.folder}/` ({spec.corrupted.source})" if spec.corrupted else ""
        rows.append(
            [f"`{spec.name}`", *sets, published, _radii(spec.robust_epsilons), _radii(spec.ood_epsilons)]
        )
    head = (
        *("`--dataset`", "near OOD", "far OOD", "in no mean", "published corruptions"),
        *("radii on accuracy", "radii on the outlier score"),
    )
    return _table(head, rows)


def ood_table() -> str:
    """Return the sets that are OOD test data only."""
    rows = [[f"`{spec.name}`", *_files(spec.files)] for spec in OOD_SETS]
    return _table(("OOD set", "put into DIR", "source, MD5", "download"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shape(spec: DatasetSpec) -> str:
    return " x ".join(map(str, spec.shape))


def _files(files: Files | None) -> list[str]:
    if files is None:
        return ["nothing", "built in", ""]
    put = files.put.replace("<", "\\<").replace("*", "\\*")
    return [put, files.source, f"{files.download.megabytes} MB" if files.download else ""]


def _hold_out(spec: DatasetSpec) -> str:
    rule = spec.hold_out
    return f"first {rule.count}" if rule.first else str(rule.count) if rule.count else "a tenth"


def _radii(radii: Epsilons) -> str:
    return ", ".join(radius_text(radius) for radius in radii) or "by size"


if __name__ == "__main__":
    sys.stdout.write("\n\n".join([dataset_table(), tested_on_table(), ood_table()]) + "\n")
