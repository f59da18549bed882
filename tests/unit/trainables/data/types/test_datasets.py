"""Specs of data sets: complete, documented, and enough for a new one to be loaded and validated."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit import disk_formats as disk
from trainables.base.errors import InputError
from trainables.base.registry import resolve_reference
from trainables.data.loading.open_dataset import load
from trainables.data.synthetic.digits import split_digits
from trainables.data.types import tables
from trainables.data.types.availability import evaluation_sets
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.dataset_spec import DatasetSpec
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.data.types.ood_sets import OOD_SETS, files_of, names_with_files
from trainables.data.types.radii import radii_of
from trainables.data.types.splits import DatasetInfo, Split
from trainables.evaluation.measure import validate
from trainables.evaluation.metrics import presets
from trainables.networks import build as build_network

ROOT = Path(__file__).resolve().parents[5]
SPEC = {
    "name": "shades",
    "num_classes": 2,
    "shape": (1, 6, 6),
    "mean": (0.5,),
    "std": (0.3,),
    "robust_epsilons": (0.1,),
    "ood_epsilons": (0.05,),
    "loader": f"{__name__}:load_shades",
    "files": None,
    "roles": None,
}


def load_shades(name: str, data_dir: str, search_only: bool) -> Benchmark:
    """Return dark images (class 0) and bright ones (class 1); noise is OOD."""
    labels = np.arange(20) % 2
    images = np.full((20, 1, 6, 6), 0.2, np.float32) + 0.6 * labels.astype(np.float32)[:, None, None, None]
    shades = LabelledImages(images, labels)
    noise = np.random.RandomState(0).random_sample((8, 1, 6, 6)).astype(np.float32)
    ood = LabelledImages(noise, np.full(8, -1))
    parts = {Split.TRAIN: {"id": shades}, Split.VAL_ID: {"id": shades}, Split.VAL_OOD_FAR: {"noise": ood}}
    if not search_only:
        parts |= {Split.TEST_ID: {"id": shades}, Split.TEST_OOD_FAR: {"noise": ood}}
    return Benchmark(DATASETS[name].info, parts)


@pytest.fixture
def shades() -> Iterator[DatasetSpec]:
    yield DATASETS.register(DatasetSpec(**SPEC))
    DATASETS.unregister("shades")


def test_a_new_data_set_needs_its_spec_and_loader_alone(shades: DatasetSpec) -> None:
    """Registered, it is known to the checks, the table of test data, the protocols and the loader."""
    assert check_dataset_files("shades", "") == ""
    assert evaluation_sets("shades", shades.shape, "", ("ood", "corrupted")) == []
    assert dataset_info("shades") == DatasetInfo("shades", 2, (1, 6, 6), (0.5,), (0.3,), builtin=True)
    assert presets.named("standard", radii_of("shades")).robust_epsilons == (0.1,)
    assert radii_of("shades", (1, 500, 500)).accuracy == (0.1,)  # a spec's own, whatever the size
    assert presets.named("full", radii_of("shades")).ood_epsilons == (0.0125, 0.025, 0.05)
    assert "| `shades` | 2 | 1 x 6 x 6 |" in tables.dataset_table()

    data = load("shades", search_only=True)
    torch.manual_seed(0)
    info = data.info
    network = build_network("small_cnn", info.num_classes, info.shape, info.mean, info.std)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    train = data.labelled(Split.TRAIN)
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(
            network(torch.tensor(train.images)), torch.tensor(train.labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    protocol = presets.named("quick", radii_of("shades"))
    metrics = validate(network.eval(), data.for_search(), protocol, torch.Generator().manual_seed(0), "cpu")
    assert metrics["val/accuracy/clean"] == 1.0
    assert 0 <= metrics["val/auroc/noise"] <= 1


@pytest.mark.parametrize("key", ["robust_epsilons", "ood_epsilons", "loader", "files", "roles", "mean"])
def test_a_spec_without_radii_or_another_fact_cannot_be_made(key: str) -> None:
    with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{key}'"):
        DatasetSpec(**{k: v for k, v in SPEC.items() if k != key})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"robust_epsilons": ()}, r"robust_epsilons is \(\); it must give radii in \(0, 1\] pixel units"),
        ({"ood_epsilons": (8.0,)}, r"ood_epsilons is \(8.0,\)"),
        ({"ood_epsilons": (0.0,)}, r"ood_epsilons is \(0.0,\)"),
        ({"std": (0.2, 0.2)}, "images have 1 channels, but mean has 1 and std 2"),
        ({"classes": ("dark",)}, "1 names of 2 classes"),
    ],
)
def test_a_spec_with_wrong_values_cannot_be_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DatasetSpec(**SPEC | change)


def test_every_reference_of_a_spec_leads_to_a_function() -> None:
    for spec in DATASETS:
        assert callable(resolve_reference(spec.loader)), spec.name
    for name in names_with_files():
        assert callable(resolve_reference(files_of(name).reader)), name


def test_every_data_set_with_files_is_written_and_read_by_the_tests() -> None:
    """`disk_formats.ID_SETS` drives the tests of readers, broken files and downloads."""
    assert set(disk.ID_SETS) == {spec.name for spec in DATASETS if spec.files}


def test_a_name_means_one_set() -> None:
    assert not set(DATASETS.names) & set(OOD_SETS.names)
    with pytest.raises(InputError, match="unknown dataset 'lsun-corp'; did you mean lsun-crop"):
        files_of("lsun-corp")
    with pytest.raises(InputError, match="glyphs is built in: it has no files"):
        files_of("glyphs")


def test_classes_have_the_names_of_their_publishers() -> None:
    """CIFAR's from the sheet of its archive, which is sorted; Fashion-MNIST's as torchvision has them."""
    from torchvision.datasets import FashionMNIST

    assert dataset_info("fashion-mnist").class_names == tuple(FashionMNIST.classes)
    assert dataset_info("cifar10").class_names[3:6] == ("cat", "deer", "dog")
    fine = dataset_info("cifar100").class_names
    assert (len(set(fine)), fine[0], fine[57], fine[99]) == (100, "apple", "pear", "worm")
    assert fine == tuple(sorted(fine))
    assert dataset_info("digits-open").class_names == tuple("012345")
    assert dataset_info("glyphs").class_names == tuple("ABEFHKRSTX")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("imagefolder", ("class 0", "class 1", "class 2")),
        ("tiny-imagenet", tuple(disk.wnids(200))),
        ("food101", tuple(f"dish_{c:03d}" for c in range(101))),
    ],
)
def test_names_of_classes_are_read_from_the_files(name: str, names: tuple[str, ...], tmp_path: Path) -> None:
    disk.ID_SETS[name](tmp_path)
    assert dataset_info(name, str(tmp_path)).classes == names


def test_the_digits_hold_out_what_their_specs_say() -> None:
    """All ten classes: `digits-open` keeps those of its six. `test_glyphs` looks at the glyphs."""
    _, validation, _ = split_digits()
    assert len(validation) == DATASETS["digits"].hold_out.count == DATASETS["digits-open"].hold_out.count


def test_the_page_on_data_holds_the_tables_of_the_specs() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    for table in (tables.dataset_table(), tables.tested_on_table(), tables.ood_table()):
        assert table in page, (
            "run: python -m trainables.data.types.tables, and put its tables into docs/data.md"
        )


@pytest.mark.parametrize(
    ("radii", "text"), [((8 / 255,), "8/255"), ((0.15, 0.2), "0.15, 0.2"), ((0.1,), "0.1")]
)
def test_radii_are_written_as_the_literature_does(radii: tuple[float, ...], text: str) -> None:
    assert tables._radii(radii) == text


def test_specs_have_no_hidden_defaults_for_what_decides_a_result() -> None:
    optional = {field.name for field in fields(DatasetSpec) if field.name not in SPEC}
    assert optional == {
        *("hold_out", "crop", "corrupted", "classes", "sets", "pad", "train_images", "mirrors"),
    }
