"""What `--dry-run` says of the user's own data before any image is opened, and of the schedule."""

from pathlib import Path
from typing import Any

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


def early(study: str, **options: Any) -> list[str]:
    lines = plan_text(resolve(LaunchOptions(study, **options), "run")).splitlines()
    return [line.strip() for line in lines if "learning rate rises" in line]


def test_a_first_comparison_in_the_warm_up_is_said() -> None:
    """12 epochs, of which the rate rises for 30 %; the first rung is after epoch 2."""
    words = (
        "the learning rate rises until epoch 3.6 of 12: trials are first compared before that, after epoch 2"
    )
    assert early("dyart_margin") == [words]
    assert early("dyart_margin", scheduler="none") == []
    assert early("dyart_margin", settings=("warmup=0.1",)) == []
    assert early("dyart_margin", settings=("schedule=constant",)) == []
    assert early("aoe_sigma") == []  # a cosine, which falls from the start
