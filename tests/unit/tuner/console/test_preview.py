"""What `--dry-run` says of the user's own data before any image is opened."""

from pathlib import Path

from tests.unit import disk_formats
from tuner.console.preview import plan_text
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve


def refusals(folder: Path, *settings: str) -> list[str]:
    options = LaunchOptions("aoe_sigma", dataset="imagefolder", data_dir=str(folder), settings=settings)
    lines = plan_text(resolve(options, "run")).splitlines()
    return [line.removeprefix("refused    ") for line in lines if line.startswith("refused")]


def test_folders_that_a_launch_would_refuse_are_named(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path)
    assert refusals(tmp_path) == []
    (tmp_path / "test" / "class 9").mkdir()
    assert refusals(tmp_path) == [
        f"{tmp_path}/test has other class folders than {tmp_path}/train: 1 more (class 9)"
    ]


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    disk_formats.imagefolder(tmp_path / "data")
    path = tmp_path / "weights.pt"
    settings = (f"pretrain.checkpoint={path}",)
    assert refusals(tmp_path / "data", *settings) == [f"pretrain.checkpoint {path} is not a file"]
    path.touch()
    assert refusals(tmp_path / "data", *settings) == []
