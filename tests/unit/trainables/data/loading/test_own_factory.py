"""Data sets that the user's code gives: what each kind of return becomes, and what is said of those that fail."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.base.errors import DataFileError, InputError
from trainables.base.user_code import APPROVED, name_code
from trainables.data.loading import from_files, own_factory
from trainables.data.loading.leakage import leakage_notes
from trainables.data.loading.open_dataset import load
from trainables.data.loading.own_data import check_own_data
from trainables.data.types.availability import how_to_add, ood_sets
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.splits import Origin, Split

#: What the files of these tests begin with.
HEAD = """
import os
import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import DatasetInfo, Split

def pixels(count, side=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels)).astype(np.uint8)

class Shades(Dataset):
    def __init__(self, count, side=8, seed=0, torn=False, classes=("cat", "dog", "owl")):
        self.torn, self.classes = torn, list(classes)
        self.images = [Image.fromarray(image) for image in pixels(count, side, seed=seed)]
        self.targets = [i % 3 for i in range(count)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if self.torn:
            raise OSError("no disk")
        return self.images[i], self.targets[i]
"""


@pytest.fixture(autouse=True)
def _none_approved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(APPROVED, "")
    own_factory.forget()
    yield
    own_factory.forget()


def factory(folder: Path, body: str, *, named: bool = True) -> str:
    """Write a file whose `make` has this body, and return the data set's name."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "their_data.py").write_text(f"{HEAD}\ndef make(data_dir=''):\n{lines}\n")
    name = f"{folder}/their_data.py:make"
    if named:
        name_code(name)
    return name


PLAIN = 'return {"train": Shades(30), "test": Shades(9, seed=1), "near": {"paintings": Shades(5, seed=2)}}'


def test_a_data_set_of_pictures(tmp_path: Path) -> None:
    name = factory(tmp_path, PLAIN)
    info = dataset_info(name)
    assert (info.name, info.num_classes, info.shape) == (name, 3, (3, 8, 8))
    assert (info.classes, info.builtin) == (("cat", "dog", "owl"), True)
    data = load(name)
    test = data.labelled(Split.TEST_ID)
    expected = np.random.default_rng(1).integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
    assert np.array_equal(test.images, expected.transpose(0, 3, 1, 2))
    assert test.labels.tolist() == [0, 1, 2] * 3
    assert (len(data.labelled(Split.TRAIN)), len(data.labelled(Split.VAL_ID))) == (27, 3)
    assert len(data.sets(Split.TEST_OOD_NEAR)["paintings"]) == 5
    assert ood_sets(name, "")["far"] == ["gaussian", "uniform"]
    assert how_to_add(name, "near", "") == f"have {name} return some under 'near' (docs/own_data.md)"


#: {kind of return: its body}; each is two classes of 20 dark and bright images of 8 x 8, and 6 to test on
KINDS = {
    "tensors": """
images = torch.tensor([20, 200] * 10, dtype=torch.uint8)[:, None, None, None].expand(20, 1, 8, 8)
whole = TensorDataset(images, torch.arange(20) % 2)
return {"train": whole, "test": Subset(whole, range(6))}""",
    "floats": """
images = (torch.tensor([20, 200] * 10) / 255)[:, None, None, None].expand(20, 1, 8, 8)
whole = TensorDataset(images, torch.arange(20) % 2)
return {"train": whole, "test": Subset(whole, range(6))}""",
    "arrays": """
images, labels = np.full((20, 8, 8), 20, np.uint8), np.arange(20) % 2
images[1::2] = 200
return {"train": (images, labels), "test": (images[:6], labels[:6])}""",
    "lists of items": """
items = [(np.full((8, 8), (20, 200)[i % 2], np.uint8), i % 2) for i in range(20)]
return {"train": items, "test": items[:6]}""",
    "concatenated": """
images = torch.tensor([20, 200] * 5, dtype=torch.uint8)[:, None, None].expand(10, 8, 8)
part = TensorDataset(images, torch.arange(10) % 2)
return {"train": ConcatDataset([part, part]), "test": Subset(part, range(6))}""",
    "names for labels": """
items = [(Image.new("L", (8, 8), (20, 200)[i % 2]), ("dark", "light")[i % 2]) for i in range(20)]
return {"train": items, "test": items[:6]}""",
    "labels that a list has not": """
class Mapped(Shades):
    def __getitem__(self, i):
        return Image.new("L", (8, 8), (20, 200)[i % 2]), i % 2
whole = Mapped(20, classes=["dark", "light"])
return {"train": whole, "test": Subset(whole, range(6))}""",
    "sixteen bits": """
items = [(Image.fromarray(np.full((8, 8), (20, 200)[i % 2] * 257, np.uint16)), i % 2) for i in range(20)]
return {"train": items, "test": items[:6]}""",
    "a benchmark": """
images, labels = np.full((20, 1, 8, 8), 20, np.uint8), np.arange(20) % 2
images[1::2] = 200
info = DatasetInfo("mine", 2, (1, 8, 8), (0.4,), (0.3,))
whole, test = LabelledImages(images, labels), LabelledImages(images[:6], labels[:6])
return Benchmark(info, {Split.TRAIN: {"id": whole}, Split.TEST_ID: {"id": test}})""",
    "a dataclass": """
import dataclasses
@dataclasses.dataclass
class Mine:
    train: object
    test: object
    val: object = None
images, labels = np.full((20, 8, 8), 20, np.uint8), np.arange(20) % 2
images[1::2] = 200
return Mine((images, labels), (images[:6], labels[:6]))""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_return_by_hand(kind: str, tmp_path: Path) -> None:
    name = factory(tmp_path, KINDS[kind].strip("\n"))
    assert dataset_info(name).shape == (1, 8, 8)
    test = load(name).labelled(Split.TEST_ID)
    assert test.images.shape == (6, 1, 8, 8)
    assert test.images[:, 0, 4, 4].tolist() == [20, 200] * 3
    assert test.labels.tolist() == [0, 1] * 3


def test_labels_that_a_data_set_keeps_are_not_read_item_by_item(tmp_path: Path) -> None:
    """As torchvision's data sets keep them: behind the names of the files."""
    body = """
class Files(Shades):
    def __init__(self, count):
        super().__init__(3)
        del self.targets
        self.read, self._samples, self.classes = set(), [(f"{i}.png", i % 2) for i in range(count)], ["dark", "light"]
    def __len__(self):
        return len(self._samples)
    def __getitem__(self, i):
        self.read.add(i)
        return Image.new("L", (8, 8), (20, 200)[i % 2]), i % 2
return {"train": Files(2000), "test": Subset(Files(20), range(6))}"""
    found = own_factory.own_sets(factory(tmp_path, body.strip())).sets[Split.TRAIN]["id"]
    assert found.labels.tolist() == [0, 1] * 1000
    source: Any = found.source
    assert len(source.dataset.read) < 100


def test_validation_and_its_outliers_join(tmp_path: Path) -> None:
    body = """
return {"train": Shades(30), "val": Shades(6, seed=3), "test": Shades(9, seed=1),
        "ood_val": {"sketches": Shades(4, seed=4)}, "far": {"maps": Shades(7, seed=5)}}"""
    data = load(factory(tmp_path, body.strip()))
    assert (len(data.labelled(Split.TRAIN)), len(data.labelled(Split.VAL_ID))) == (30, 6)
    assert list(data.sets(Split.VAL_OOD_NEAR))[-1] == "sketches"
    assert list(data.sets(Split.TEST_OOD_FAR)) == ["gaussian", "uniform", "maps"]


def test_pictures_of_many_sizes_need_a_size(tmp_path: Path) -> None:
    body = 'return {"train": ConcatDataset([Shades(30), Shades(30, side=12)]), "test": Shades(9), SIZE}'
    with pytest.raises(DataFileError) as caught:
        dataset_info(factory(tmp_path, body.replace("SIZE", "")))
    assert str(caught.value) == (
        f"images of train of {tmp_path}/their_data.py:make differ in size (8 x 8, 12 x 12); return size too: pixels "
        "a side, or (height, width)"
    )
    assert dataset_info(factory(tmp_path, body.replace("SIZE", '"size": 10'))).shape == (3, 10, 10)
    name = factory(tmp_path, body.replace("SIZE", '"size": (10, 12)'))
    assert load(name).labelled(Split.TRAIN).images.shape[1:] == (3, 10, 12)


def test_a_benchmark_brings_its_own_sets(tmp_path: Path) -> None:
    body = """
info = DatasetInfo("theirs", 2, (1, 8, 8), (0.4,), (0.3,), classes=("dark", "light"))
def some(count, seed):
    images = pixels(count, channels=1, seed=seed).transpose(0, 3, 1, 2) / np.float32(255)
    return LabelledImages(images, np.arange(count) % 2)
def ood(count, seed):
    return LabelledImages(some(count, seed).images, np.full(count, -1))
parts = {Split.TRAIN: {"id": some(20, 0)}, Split.VAL_ID: {"id": some(4, 1)}, Split.VAL_OOD_FAR: {"own": ood(4, 2)}}
parts |= {Split.TEST_ID: {"id": some(6, 3)}, Split.TEST_OOD_NEAR: {"close": ood(5, 4)}}
parts |= {Split.CORRUPTED: {"fog/1": some(6, 5)}}
return Benchmark(info, parts, notes=("a word of theirs",))"""
    name = factory(tmp_path, body.strip())
    data = load(name)
    assert (data.info.name, data.info.classes, data.info.mean) == (name, ("dark", "light"), (0.4,))
    expected = np.random.default_rng(3).integers(0, 256, (6, 8, 8, 1)).astype(np.uint8)
    assert np.array_equal(data.labelled(Split.TEST_ID).images, expected.transpose(0, 3, 1, 2))
    assert "own" in data.sets(Split.VAL_OOD_FAR)
    assert list(data.sets(Split.CORRUPTED)) == ["fog/1"]
    assert data.corrupted is Origin.OWN
    assert "a word of theirs" in data.notes


@pytest.mark.parametrize(
    ("count", "labels", "says"),
    [
        (2**40, "np.arange(20) % 2", "its Benchmark says 1099511627776 classes and its labels have 2"),
        (
            3,
            "2**39 * (np.arange(20) % 3)",
            "no image of class 1, one of 1099511627777; number the 3 classes ",
        ),
    ],
)
def test_a_benchmark_of_very_many_classes(tmp_path: Path, count: int, labels: str, says: str) -> None:
    """No array is made of them."""
    body = f"""
info = DatasetInfo("mine", {count}, (1, 8, 8), (0.4,), (0.3,))
data = LabelledImages(np.zeros((20, 1, 8, 8), np.uint8), {labels})
return Benchmark(info, {{Split.TRAIN: {{"id": data}}, Split.TEST_ID: {{"id": data}}}})"""
    with pytest.raises(DataFileError, match=says):
        dataset_info(factory(tmp_path, body.strip()))


def test_data_that_stay_on_disk_travel_as_the_function_that_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_files, "IN_MEMORY_BYTES", 0)
    name = factory(tmp_path, PLAIN)
    images: Any = load(name, search_only=True).labelled(Split.TRAIN).images
    expected = np.asarray(images)
    sent = pickle.dumps(images)
    assert len(sent) < 1500
    own_factory.forget()
    assert np.array_equal(np.asarray(pickle.loads(sent)), expected)


def test_items_are_asked_for_one_at_a_time_unless_the_data_set_says_otherwise(tmp_path: Path) -> None:
    body = """
import threading
class Counted(Shades):
    inside = most = 0
    met = threading.Barrier(4)
    def __getitem__(self, i):
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.thread_safe and threading.current_thread() is not threading.main_thread():
            self.met.wait(20)  # for three others
        self.inside -= 1
        return super().__getitem__(i)
train = Counted(64)
train.thread_safe = SAFE
return {"train": train, "test": Shades(9, seed=1)}"""
    most = {}
    for safe in (False, True):
        (tmp_path / str(safe)).mkdir()
        name = factory(tmp_path / str(safe), body.strip().replace("SAFE", str(safe)))
        source: Any = own_factory.own_sets(name).sets[Split.TRAIN]["id"].source
        threads = [threading.Thread(target=source.picture, args=(row,)) for row in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        most[safe] = source.dataset.most
    assert most[False] == 1
    assert most[True] > 1


def test_the_data_folder_is_given_to_who_asks_for_it(tmp_path: Path) -> None:
    name = factory(tmp_path, f'assert data_dir == "/some/where", data_dir\n{PLAIN}')
    assert dataset_info(name, "/some/where").num_classes == 3
    with pytest.raises(DataFileError, match=r"their_data\.py:make: it raises AssertionError"):
        dataset_info(name, "/else/where")


def test_a_random_split_is_the_same_in_every_process(tmp_path: Path) -> None:
    """By torch's global generator, which is seeded for the call; the caller's is left as it was."""
    import torch

    body = """
train, test = random_split(Shades(39), [30, 9])
return {"train": train, "test": test}"""
    name = factory(tmp_path, body.strip())
    torch.manual_seed(5)
    first = load(name).labelled(Split.TEST_ID).images
    drawn = torch.rand(1)
    own_factory.forget()
    assert np.array_equal(load(name).labelled(Split.TEST_ID).images, first)
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
    check_own_data(name, "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "order = np.random.default_rng().permutation(39).tolist()\n"
            'return {"train": Subset(Shades(39), order[:30]), "test": Subset(Shades(39), order[30:])}',
            r"it holds other images when the function is called again; seed its random split",
        ),
        (
            "class Jittered(Shades):\n"
            "    def __getitem__(self, i):\n"
            "        return Image.fromarray(np.random.default_rng().integers(0, 9, (8, 8)).astype(np.uint8)), i % 3\n"
            'return {"train": Jittered(30), "test": Shades(9, seed=1)}',
            r"^train of .*: an item is another image when it is read again; leave random transforms out",
        ),
    ],
)
def test_data_that_change_are_refused_before_anything_starts(body: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=says):
        check_own_data(factory(tmp_path, body), "")


#: what stands for "train", beside a sound "test"
TRAINS = {
    "DataLoader(Shades(30))": "train of {name} is of type DataLoader; give its dataset",
    "'x.npz'": "train of {name} is of type str; want a map-style Dataset, or (images, labels)",
    "Shades(0)": "train of {name} is empty",
    "pixels(9)": "train of {name} is images alone; want (images, labels)",
    "[pixels(1)[0]] * 9": "train of {name}: item 0 has no label; want (image, label)",
    "[(pixels(1)[0], 0.5)] * 9": "train of {name}: the label of item 0 is of type float; want a whole number or a name",
    "[('a.png', i % 3) for i in range(9)]": "train of {name}: item 0 is of type str; want (image, label), the image a ",
    "(pixels(9, channels=4), np.arange(9))": "train of {name} is uint8 9 x 8 x 8 x 4; want n x h x w x c",
    "TensorDataset(torch.randn(9, 3, 8, 8), torch.arange(9) % 3)": "train of {name}: item 0: image 0 has values from -",
    "Shades(30, torn=True)": "train of {name}: item 0 cannot be read: OSError: no disk",
}
#: what is given beside sound "train" and "test"
MORE = {
    "'valid': 1": "dataset {name}: it returns 'valid', which nothing reads; did you mean val?",
    "'near': Shades(5)": "dataset {name}: near is Shades; want a dict of OOD sets by name",
    "'near': {'uniform': 0}": "near['uniform'] of {name}: the name 'uniform' is taken by the tests' own; rename it",
    "'near': {'s': 0}, 'far': {'s': 0}": "near['s'] and far['s'] have one name, which their metrics would share",
    "'classes': ['a', 'b']": "train of {name} runs from 0 to 2; want 0 to 1, the numbers of the classes",
    "'size': '8'": "dataset {name}: size is '8'; want pixels a side, or (height, width)",
    "'std': [0, 1, 1]": "dataset {name}: std is [0.0, 1.0, 1.0]; want 3 numbers above 0",
    "'val': Shades(9, classes=['dog', 'cat', 'owl'])": "val of {name} has other classes than train: their order ",
}
OTHERS = {
    "[1, 2]": "dataset {name}: it returns list; want a dict with train and test, and val, near, far, ood_val if ",
    "{'train': Shades(30)}": "dataset {name}: it returns no test",
    "1 / 0": "dataset {name}: it raises ZeroDivisionError: division by zero",
}
RETURNS = {
    **{f"{{'train': {train}, 'test': Shades(9)}}": says for train, says in TRAINS.items()},
    **{f"{{'train': Shades(30), 'test': Shades(9), {more}}}": says for more, says in MORE.items()},
    **OTHERS,
}


@pytest.mark.parametrize("returned", RETURNS)
def test_returns_that_do_not_suit_are_told_in_one_line(returned: str, tmp_path: Path) -> None:
    name = factory(tmp_path, f"return {returned}")
    with pytest.raises(DataFileError) as caught:
        check_own_data(name, "")
    assert str(caught.value).startswith(RETURNS[returned].format(name=name))
    assert "\n" not in str(caught.value)


def test_a_parameter_that_nobody_gives_is_told(tmp_path: Path) -> None:
    (tmp_path / "their_data.py").write_text("def make(root):\n    pass\n")
    name_code(f"{tmp_path}/their_data.py:make")
    with pytest.raises(DataFileError, match=r"its parameter root has no default; what is given: data_dir$"):
        dataset_info(f"{tmp_path}/their_data.py:make")


def test_what_is_no_function_is_told(tmp_path: Path) -> None:
    (tmp_path / "their_data.py").write_text("make = 5\n")
    name_code(f"{tmp_path}/their_data.py:make")
    with pytest.raises(
        InputError,
        match=r"^dataset .*their_data\.py:make: it is of type int, not a function that returns data$",
    ):
        dataset_info(f"{tmp_path}/their_data.py:make")


def test_code_that_the_user_has_not_named_is_not_run(tmp_path: Path) -> None:
    name = factory(tmp_path, f"os._exit(1)\n{PLAIN}", named=False)
    with pytest.raises(
        InputError, match="is not code that you have launched with; look at it, and name it yourself"
    ):
        DATASETS[name]


def test_copies_are_found_when_the_data_are_loaded(tmp_path: Path) -> None:
    name = factory(tmp_path, 'whole = Shades(30)\nreturn {"train": whole, "test": Subset(whole, range(3))}')
    with pytest.raises(DataFileError, match=r"of 3 images of test are in (train|validation) too"):
        leakage_notes(name, "", (), allowed=False)
