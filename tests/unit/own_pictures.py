"""Folders of the user's own pictures, for what only lists them: the files are empty."""

from pathlib import Path

CLASSES = ("ant", "bee", "cat", "dog")


def folder(root: Path, per_class: int = 100, side: int = 64, near: bool = True) -> Path:
    """Write `per_class` names of pictures for each of four classes, a test set, and OOD sets; return the folder."""
    for part, count in (("train", per_class), ("test", 5)):
        for name in CLASSES:
            _names(root / part / name, count)
    for group in ("near", "far") if near else ("far",):
        _names(root / "ood" / group / f"{group} set", 3)
    (root / "dataset.json").write_text(f'{{"side": {side}}}')
    return root


def _names(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i:04d}.png").touch()
