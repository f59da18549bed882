"""Names of data sets that no table holds: where they are, whose code they are, and whole specs of the user's own."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit import disk_formats
from trainables.base.errors import InputError
from trainables.base.user_code import APPROVED, name_code
from trainables.data.loading.open_dataset import load
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.radii import radii_of
from trainables.data.types.splits import Split

SPEC = """
import numpy as np
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import Split

SPEC = DatasetSpec(
    name="theirs", num_classes=2, shape=(1, 6, 6), mean=(0.5,), std=(0.3,), robust_epsilons=(0.1,),
    ood_epsilons=(0.05,), loader="their_whole_spec:open_it", files=None, roles=None, classes=("dark", "light"),
)

def open_it(name, data_dir, search_only):
    shades = LabelledImages(np.zeros((20, 1, 6, 6), np.float32), np.arange(20) % 2)
    return Benchmark(DATASETS[name].info, {Split.TRAIN: {"id": shades}, Split.VAL_ID: {"id": shades}})
"""


def test_a_whole_spec_may_be_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a loader and radii of its own, as one of this project has them."""
    monkeypatch.setenv(APPROVED, "")
    (tmp_path / "their_whole_spec.py").write_text(SPEC)
    name = f"{tmp_path}/their_whole_spec.py:SPEC"
    name_code(name)
    assert (DATASETS[name].name, dataset_info(name).classes) == (name, ("dark", "light"))
    assert radii_of(name).score == (0.05,)
    assert len(load(name).labelled(Split.TRAIN)) == 20
    assert DATASETS.digests(name).keys() == {f"{tmp_path}/their_whole_spec.py"}


def test_arrays_have_no_code_and_radii_by_their_size(tmp_path: Path) -> None:
    """32 x 32 pixels: 8/255."""
    images, labels = disk_formats.pixels(20, 32, 32), np.arange(20) % 2
    np.savez(
        tmp_path / "x.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    name = f"npz:{tmp_path}/x.npz"
    assert DATASETS.code(name) is None
    assert radii_of(name, dataset_info(name).shape).accuracy == (8 / 255,)
    assert DATASETS[name].users_own


@pytest.mark.parametrize("name", ["npz:", "npz", "x.npz", "cifar", "own"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(InputError, match="unknown dataset"):
        DATASETS[name]
