"""Where a user's own OOD sets are read, and that everything else below `ood/` is refused with the right layout."""

from pathlib import Path

import pytest

from trainables.base.errors import DataFileError
from trainables.data.types.availability import SetsOfAKind, evaluation_sets, ood_sets
from trainables.data.types.own_ood import own_ood_sets


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_sets_are_the_folders_of_the_two_groups(tmp_path: Path) -> None:
    touch(tmp_path, "ood/near/b/1.png", "ood/near/a/2.jpg", "ood/near/a/notes.txt", "ood/far/c d/3.png")
    touch(tmp_path, "ood/.DS_Store", "ood/near/@eaDir/x.jpg", "ood/near/a/@eaDir/x.jpg", "ood/README.txt")
    touch(tmp_path, "ood/val/e/1.png")
    assert own_ood_sets("imagefolder", str(tmp_path)) == {
        "near": ["a", "b"],
        "far": ["c d"],
        "val": ["e"],
    }
    assert ood_sets("imagefolder", str(tmp_path)) == {
        "near": ["a", "b"],
        "far": ["gaussian", "uniform", "c d"],
        "other": [],
    }
    assert evaluation_sets("imagefolder", (3, 16, 16), str(tmp_path), ("ood",)) == [
        SetsOfAKind("near OOD", "a, b", "ood"),
        SetsOfAKind("far OOD", "gaussian, uniform, c d", "ood"),
    ]


def test_other_data_sets_have_no_folders_of_the_user(tmp_path: Path) -> None:
    touch(tmp_path, "ood/1.png")
    assert (
        own_ood_sets("cifar10", str(tmp_path))
        == own_ood_sets("digits", "")
        == {
            "near": [],
            "far": [],
            "val": [],
        }
    )


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ["ood/1.png", "ood/2.png"],
            "{ood} holds 1.png and 1 more pictures outside of a set; put them into {ood}/near/<set>/ or "
            "{ood}/far/<set>/ or {ood}/val/<set>/",
        ),
        (
            ["ood/near/1.png"],
            "{ood}/near holds 1.png outside of a set; put them into {ood}/near/<set>/",
        ),
        (
            ["ood/paintings/1.png"],
            "{ood}/paintings is not read: OOD sets are folders in near/ or far/, or in val/ for validation; "
            "move it to {ood}/near/paintings, {ood}/far/paintings or {ood}/val/paintings",
        ),
        (
            ["ood/far/maps/notes.txt"],
            "{ood}/far/maps holds no picture; put those of the set there, or remove the folder",
        ),
        (
            ["ood/far/mine/maps/1.png", "ood/far/mine/plans/2.png"],
            "{ood}/far/mine has pictures in folders of its own (maps, plans); put the pictures of the set into "
            "{ood}/far/mine/, or each of these folders into {ood}/far/ as a set of its own",
        ),
        (
            ["ood/near/s/1.png", "ood/far/s/2.png"],
            "{ood}/near/s and {ood}/far/s have one name, which their metrics would share; rename one of them",
        ),
        (
            ["ood/far/a (1)/1.png"],
            "{ood}/far/a (1): the name of an OOD set may hold letters, digits, '.', '_', '-' and spaces (100 at most)",
        ),
        *(
            (
                [f"ood/near/{name}/1.png"],
                f"{{ood}}/near/{name}: the name {name!r} is taken by the tests' own; rename the folder",
            )
            for name in ("id", "near", "far", "all", "other", "unknown", "uniform", "gaussian", "s attacked")
        ),
        (
            ["ood/val/jigsaw/1.png"],
            "{ood}/val/jigsaw: the name 'jigsaw' is taken by the validation's own; rename the folder",
        ),
    ],
)
def test_what_would_not_be_read_is_refused(names: list[str], line: str, tmp_path: Path) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataFileError) as caught:
        own_ood_sets("imagefolder", str(tmp_path))
    assert str(caught.value) == line.format(ood=tmp_path / "ood")
