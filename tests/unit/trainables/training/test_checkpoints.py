"""Checkpoints that are cut, changed, missing or unreadable: told, and passed over."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.base.errors import DataFileError
from trainables.base.storage import Folder, is_full
from trainables.data.types.splits import DatasetInfo
from trainables.options.classifiers import StandardOptions
from trainables.training.checkpoint_files import checkpoint_name
from trainables.training.checkpoints import info_of, load_latest, to_bytes, unpack


def content(epoch: int, **dataset: Any) -> bytes:
    buffer = io.BytesIO()
    made = {
        "format": 1,
        "method": "standard",
        "epoch": epoch,
        "passes": 1.0,
        "options": {},
        "state": {},
        "streams": {},
    }
    made["classifier"] = {"w": torch.arange(1000.0)}
    made["dataset"] = {"name": "x", "num_classes": 2, "shape": (1, 8, 8), "mean": (0.5,), "std": (0.2,)}
    made["dataset"] |= dataset
    torch.save(made, buffer)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "cut": (lambda data: data[: len(data) // 2], "is not a readable checkpoint"),
    "one bit": (flipped, "checksum of archive/data/0 is wrong"),
    "empty": (lambda data: b"", "is not a readable checkpoint"),
    "foreign": (lambda data: b"{}" * 999, "is not a readable checkpoint"),
    "gone": (lambda data: None, "is missing"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path)
    for epoch in (9, 10):
        found.write(checkpoint_name("0000", epoch), content(epoch))
    return found


def damage(folder: Folder, kind: str, epoch: int) -> str:
    name = checkpoint_name("0000", epoch)
    data = DAMAGE[kind][0](folder.read(name))
    folder.delete(name)
    if data is not None:
        folder.write(name, data)
    return DAMAGE[kind][1]


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_one_before_is_taken(folder: Folder, kind: str) -> None:
    words = damage(folder, kind, 10)
    found, problems = load_latest(folder, checkpoint_name("0000", 10), "cpu")
    assert found is not None
    assert found["epoch"] == 9
    assert len(problems) == 1
    assert problems[0].startswith("checkpoints/0000/epoch-0010.pt ")
    assert words in problems[0]


@pytest.mark.parametrize("kind", DAMAGE)
def test_without_a_sound_file_there_is_none(folder: Folder, kind: str) -> None:
    for epoch in (9, 10):
        damage(folder, kind, epoch)
    found, problems = load_latest(folder, checkpoint_name("0000", 10), "cpu")
    assert found is None
    assert len(problems) == (1 if kind == "gone" else 2)


def test_a_later_file_is_not_taken(folder: Folder) -> None:
    """The driver has not recorded it: its epoch is trained again."""
    found, problems = load_latest(folder, checkpoint_name("0000", 9), "cpu")
    assert found is not None
    assert (found["epoch"], problems) == (9, [])


def test_what_the_disk_does_not_give_back_is_passed_over(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Folder.read

    def broken(self: Folder, name: str) -> bytes:
        if "0010" in name:
            raise OSError(5, "Input/output error")
        return read(self, name)

    monkeypatch.setattr(Folder, "read", broken)
    found, problems = load_latest(folder, checkpoint_name("0000", 10), "cpu")
    assert found is not None
    assert found["epoch"] == 9
    assert "cannot be read: [Errno 5] Input/output error" in problems[0]


def test_what_is_known_of_the_data_is_in_a_checkpoint() -> None:
    """Crop, size, mean, std and names of classes: what a picture needs to be classified elsewhere."""
    info = DatasetInfo(
        "imagefolder",
        2,
        (1, 8, 8),
        (0.5,),
        (0.2,),
        builtin=False,
        crop=0.875,
        classes=("cat", "große Katze"),
        pad=2,
    )
    network = torch.nn.Linear(2, 2)
    data = to_bytes("standard", StandardOptions(), network.state_dict(), info)
    assert info_of(unpack(data, "one.pt")) == info


def test_a_checkpoint_of_an_earlier_version_has_numbers_for_names() -> None:
    info = info_of(unpack(content(1), "one.pt"))
    assert (info.crop, info.classes, info.class_names) == (1.0, (), ("0", "1"))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"classes": ("cat",)}, r"dataset\['classes'\] must hold 2 names or none"),
        ({"classes": (1, 2)}, r"dataset\['classes'\] must hold 2 names or none"),
        ({"classes": 5}, r"dataset\['classes'\] must hold 2 names or none"),
        ({"crop": 0.0}, r"dataset\['crop'\] is 0.0; it must be above 0 and at most 1"),
        ({"crop": float("nan")}, r"dataset\['crop'\] is nan"),
        ({"pad": 4}, r"dataset\['pad'\] is 4; it must be a number of pixels, less than half a side"),
    ],
)
def test_facts_of_the_data_that_cannot_be_are_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(DataFileError, match=f"one.pt is not a checkpoint that can be used: {says}"):
        unpack(content(1, **entry), "one.pt")


def test_torch_alone_would_not_notice_a_wrong_bit(tmp_path: Path) -> None:
    """Why the checksums are compared here. If this fails, torch has learnt it and `check_archive` can go."""
    (tmp_path / "x").write_bytes(flipped(content(1)))
    assert torch.load(tmp_path / "x", weights_only=True)["epoch"] == 1
    with pytest.raises(DataFileError, match="checksum"):
        unpack((tmp_path / "x").read_bytes(), "x")


def test_a_full_disk_is_known_behind_other_exceptions() -> None:
    behind = RuntimeError("cannot save")
    behind.__cause__ = OSError(28, "No space left on device")
    assert is_full(behind)
    assert not is_full(OSError(5, "Input/output error"))
    assert not is_full(None)
