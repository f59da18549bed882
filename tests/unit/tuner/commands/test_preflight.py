"""What is refused before Ray starts and before anything is written, in one line."""

from pathlib import Path

import pytest

from tests.unit import disk_formats
from tests.unit.runs import StoredRun
from trainables.base.errors import InputError
from trainables.data.types.availability import EXTRA
from tuner.base.errors import UsageError
from tuner.cli import run as launch
from tuner.commands.preflight import preflight
from tuner.planning.command_line import parse
from tuner.planning.resolve import resolve
from tuner.store.run_folder import RunFolder


def check(tmp_path: Path, *arguments: str) -> list[str]:
    """Return what the preflight of a study on the pictures in `tmp_path / "data"` says."""
    where = [
        "--dataset",
        "imagefolder",
        "--data-dir",
        str(tmp_path / "data"),
        "--storage",
        str(tmp_path / "runs"),
    ]
    options = parse([*where, *arguments])
    said: list[str] = []
    plan = resolve(options, "run-1")
    preflight(plan, RunFolder(options.storage, plan.run_name), options, said.append)
    return said


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    disk_formats.imagefolder(tmp_path / "data")
    return tmp_path / "data"


def test_a_study_of_own_pictures_says_what_they_are_too_few_for(pictures: Path, tmp_path: Path) -> None:
    said = check(tmp_path, "--study", "aoe_sigma")
    assert said[0].startswith("note: imagefolder: 3 validation images, a tenth of those to train on")
    assert not (tmp_path / "runs").exists()


def test_a_run_does_not_go_on_with_other_classes(pictures: Path, tmp_path: Path) -> None:
    """A folder that was added would shift the labels of those behind it."""
    options = parse(
        ["--dataset", "imagefolder", "--data-dir", str(pictures), "--study", "adversarial_baselines"]
    )
    plan = resolve(options, "run-1")
    folder = RunFolder(str(tmp_path / "runs"), "run-1")
    folder.create(plan, {"commit": "abc"}, classes=["class 0", "class 1", "class 2"])
    preflight(plan, folder, options, lambda line: None)
    for part, seed in (("train", 1), ("train", 2), ("test", 3)):
        disk_formats.picture(pictures / part / "class 00" / f"{seed}.png", seed=seed)
    with pytest.raises(UsageError) as caught:
        preflight(plan, folder, options, lambda line: None)
    assert str(caught.value) == (
        "run run-1 began with the classes class 0, class 1, class 2; imagefolder has class 0, class 00, class 1, "
        "class 2 now; bring the data back, or start a new run"
    )


def test_a_corrupt_picture_is_found(pictures: Path, tmp_path: Path) -> None:
    (pictures / "train" / "class 0" / "torn.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"torn\.jpg is empty"):
        check(tmp_path, "--study", "aoe_sigma")


def test_a_claim_about_a_group_without_a_set_is_refused(pictures: Path, tmp_path: Path) -> None:
    (pictures / "ood" / "near").rename(pictures / "kept")
    with pytest.raises(UsageError) as caught:
        check(tmp_path, "--study", "aoe_sigma")
    assert str(caught.value) == (
        f"the study is judged by test/robust_auroc_0.03137/near, but {pictures} has no near OOD set; put pictures into "
        f"{pictures}/ood/near/<set>/, or leave the tests out: --stages search"
    )
    check(tmp_path, "--study", "aoe_sigma", "--stages", "search")
    check(tmp_path, "--study", "adversarial_baselines")  # is judged by an accuracy


@pytest.mark.parametrize("value", ["/nowhere/model.pt", "choice(/nowhere/model.pt, '')"])
def test_a_pretrained_classifier_that_is_not_there_is_named(
    value: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^pretrain\.checkpoint /nowhere/model\.pt is not a file$"):
        check(tmp_path, "--study", "aoe_sigma", "--set", f"pretrain.checkpoint={value}")


def test_what_the_tests_lack_is_said_and_refused_where_the_study_is_judged_by_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.types.availability.find_spec", lambda name: None)
    lacks = (
        "imagefolder: accuracy on corruptions is left out: none was published; "
        f"{EXTRA} makes them from the test images"
    )
    assert f"note: {lacks}" in check(tmp_path, "--study", "compare_methods")
    with pytest.raises(UsageError) as caught:
        check(tmp_path, "--study", "ant_strength")
    assert str(caught.value) == (
        f"the study is judged by test/accuracy/corrupted, but {lacks}, or leave the tests out: --stages search"
    )
    check(tmp_path, "--study", "ant_strength", "--stages", "search")


def test_the_dry_run_says_what_would_be_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "ood" / "near").rename(pictures / "kept")
    words = ["--study", "aoe_sigma", "--dataset", "imagefolder", "--data-dir", str(pictures), "--dry-run"]
    assert launch(words) == 0
    assert (
        f"refused    the study is judged by test/robust_auroc_0.03137/near, but {pictures}"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["network=resnet50"],
            "network resnet50 takes images of 32 to 1024 pixels a side, not 8 x 8; these take them: small_cnn, ",
        ),
        (
            ["network=./own.py:two"],
            "network ./own.py:two: it cannot be trained on images of 8 x 8: TypeError: in training mode it returns "
            "tuple; it must return the logits alone",
        ),
        (
            ["network=./own.py:make", "pretrain.checkpoint=weights.pt"],
            "pretrain.checkpoint weights.pt does not fit the network: it has 10 classes, the data set 6",
        ),
        (["pretrain.checkpoint=gone.pt"], "pretrain.checkpoint gone.pt is not a file"),
        (["network=./own.py:make", "pretrained=true"], "pretrained is true, but network "),
    ],
)
def test_a_network_or_weights_that_do_not_suit_are_told_before_ray_starts(
    settings: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    torch.save({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, "weights.pt")
    options = parse(["--study", "aoe_sigma", *(word for text in settings for word in ("--set", text))])
    plan = resolve(options, "run-1")
    with pytest.raises(InputError) as caught:
        preflight(plan, RunFolder(str(tmp_path / "runs"), "run-1"), options, print)
    told = str(caught.value).replace(f"{tmp_path}/own.py", "./own.py").replace(f"{tmp_path}/", "")
    assert told.startswith(says)
    assert "\n" not in told


OWN = """
from torch import nn

def make(classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, classes))

def two(classes, size):
    class Auxiliary(nn.Sequential):
        def forward(self, x):
            logits = super().forward(x)
            return (logits, logits) if self.training else logits
    return Auxiliary(nn.Flatten(), nn.Linear(size * size, classes))
"""


@pytest.mark.parametrize("stages", ["confirm", "report", "evaluate,report"])
def test_stages_without_trials_are_refused(
    stages: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--storage", str(tmp_path), "--stages", stages]
    needs = f"launch.py: --stages {stages} needs trials, and"
    assert launch(["--study", "aoe_sigma", *words]) == 2
    assert capsys.readouterr().err == f"{needs} a new run has none; add search, or name a run with --resume\n"
    assert not any(tmp_path.iterdir())
    StoredRun(tmp_path)
    assert launch(["--resume", "one", *words]) == 2
    assert capsys.readouterr().err == f"{needs} run 'one' has none yet; add search\n"
