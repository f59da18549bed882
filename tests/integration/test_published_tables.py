"""The tables that the systems' papers print, out of one command each, on tiny files in the data sets' own formats."""

from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from tests.integration.conftest import Launcher
from tests.unit import disk_formats as disk
from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.types.datasets import DATASETS

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]

#: a shipped study that measures a few images of each set
FEW_IMAGES = """
from dataclasses import replace
from search_spaces.{study} import STUDY as WHOLE
FEW = {{"max_images": 6}}
STUDY = replace(
    WHOLE,
    name="few_images",
    validation={{**WHOLE.validation, **FEW}},
    profiles=tuple(replace(profile, protocol={{**profile.protocol, **FEW}}) for profile in WHOLE.profiles),
)
"""
ONE = [
    "--trials",
    "1",
    "--max-epochs",
    "1",
    "--confirm-seeds",
    "1",
    "--floor",
    "none",
    "--set",
    "pretrain.epochs=1",
]
Rows = list[dict[str, Any]]


def tables(launcher: Launcher, study: str, dataset: str, *words: str) -> dict[str, Rows]:
    """Run a study with one trial and return its exported tables, {sheet: rows as {column: cell}}."""
    (launcher.folder / "few.py").write_text(FEW_IMAGES.format(study=study))
    data = ["--dataset", dataset, "--data-dir", str(launcher.folder)]
    done = launcher.run("--study", "./few.py", *data, *words, *ONE, "--run-name", "one", timeout=2000)
    assert done.code == 0, done.out + done.err
    file = launcher.folder / "tables.xlsx"
    exported = launcher.run("--export-tables", "one", "--output", str(file))
    assert exported.code == 0, exported.err
    found = {}
    for page in load_workbook(file):
        head, *rows = page.iter_rows(values_only=True)
        found[page.title] = [dict(zip(map(str, head), row, strict=True)) for row in rows]
    return found


def write(name: str, root: Path) -> list[str]:
    """Write a data set with all OOD sets that it is tested on; return their names."""
    roles = DATASETS[name].roles
    assert roles is not None
    for other in (name, *roles.tested):
        if other in disk.ID_SETS:
            disk.ID_SETS[other](root)
    for writer in disk.OOD_SETS:
        writer(root)
    return list(roles.tested)


def has_every_set(rows: Rows, arm: str, score: str, sets: list[str], *kinds: str) -> None:
    """Check that an arm and score have a value of every kind, within [0, 1], on every set."""
    found = {row["OOD set"]: row for row in rows if (row["arm"], row["score"]) == (arm, score)}
    assert set(sets) <= set(found), (arm, score)
    assert all(0 <= found[name][kind] <= 1 for name in sets for kind in kinds)


def test_food101_before_and_after_fine_tuning_and_energy_beside_cores(launcher: Launcher) -> None:
    sets = write("food101", launcher.folder)
    disk.samples_npz(launcher.folder / "outliers", (2.0,), 224)
    found = tables(
        launcher,
        "energy_margins",
        "food101",
        *("--arms", "pretrained", "--set", f"outliers.path={launcher.folder / 'outliers'}"),
        *(
            "--set",
            "outliers.count=4",
            "--set",
            "network=mobilenet_v3_small",
            "--set",
            "energy.trainable=head",
        ),
    )
    assert len(sets) == 8
    for arm in ("winner", "pretrained"):
        for score in ("energy", "msp", "cores"):
            has_every_set(found["OOD sets"], arm, score, sets, "auroc", "fpr95_id_pos", "aupr_in", "aupr_out")


def test_aoe_by_energy_on_the_eight_sets_of_cifar10(launcher: Launcher) -> None:
    sets = write("cifar10", launcher.folder)
    disk.samples_npz(launcher.folder / "outliers", (0.5, 1.0, 2.0, 4.0), 32)
    found = tables(
        launcher,
        "aoe_sigma",
        "cifar10",
        *("--arms", "oe"),
        *("--set", f"outliers.path={launcher.folder / 'outliers'}", "--set", "network=small_cnn"),
        *("--set", "outliers.count=4", "--set", "batch_size=16", "--set", "pretrain.batch_size=16"),
    )
    assert len(sets) == 10  # the eight of the paper, CIFAR-100 and SVHN
    for arm in ("winner", "oe"):
        has_every_set(found["OOD sets"], arm, "energy", sets, "auroc")
        has_every_set(found["OOD sets"], arm, "msp", sets, "auroc", "robust_auroc_0.03137")


def test_noise_training_with_the_mean_corruption_error_of_imagenet_c(launcher: Launcher) -> None:
    write("imagenet", launcher.folder)
    disk.imagenet_c(launcher.folder, CORRUPTIONS, disk.wnids(1000))
    found = tables(
        launcher,
        "ant_strength",
        "imagenet",
        *("--arms", "speckle", "--set", "network=mobilenet_v3_small", "--set", "retrain_iters=2"),
    )
    rows = {row["name"]: row for row in found["corruptions"]}
    corrupted = [name for name in rows if name.startswith("test/accuracy/corrupted/")]
    assert {name.rpartition("/")[2] for name in corrupted} >= set(CORRUPTIONS)
    for arm in ("winner", "speckle"):
        assert (
            rows["test/mce"][arm] > 50
        )  # per cent of AlexNet's error: guessing among 1000 classes is above it
        assert all(0 <= rows[name][arm] <= 1 for name in corrupted)
