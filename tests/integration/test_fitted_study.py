"""A study on a folder of the user's own pictures, as they would plan it: what it is judged by fits the pictures."""

import pytest

from tests.integration.conftest import Launcher
from tests.unit import disk_formats as disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_the_plan_for_a_folder_of_pictures(launcher: Launcher) -> None:
    data = launcher.folder / "pictures"
    classes = ["ant", "bee", "cat", "dog"]
    disk.tree(data / "train", classes, 100, suffix=".png")
    disk.tree(data / "test", classes, 5, seed=500, suffix=".png")
    disk.tree(data / "ood" / "near", ["wasp"], 5, seed=900, suffix=".png")
    words = ["--study", "aoe_sigma", "--dataset", "imagefolder", "--data-dir", str(data), "--dry-run"]

    done = launcher.run(*words)
    assert (done.code, done.err) == (0, "")
    assert "objective  maximize val/robust_auroc_0.03137/near\n" in done.out
    assert "fitted to the data, as aoe_sigma has no profile for imagefolder" in done.out
    assert "note       imagefolder: 40 validation images" in done.out
    assert "0.15" not in done.out  # the digits' radius
    assert "judged by test/robust_auroc_0.03137/near" in done.out

    asked = launcher.run(
        *words,
        "--eval-epsilon",
        "2/255,4/255",
        "--objective",
        "accuracy/robust_4/255",
        "--floor",
        "accuracy/clean>=0.5",
    )
    assert asked.code == 0, asked.err
    assert "objective  maximize val/accuracy/robust_0.01569\n" in asked.out
    assert "floor      val/accuracy/clean >= 0.5\n" in asked.out
    assert "judged by test/accuracy/robust_0.01569" in asked.out

    wrong = launcher.run(*words, "--objective", "accuracy/robust_0.1")
    assert (wrong.code, wrong.out, wrong.err) == (
        2,
        "",
        "launch.py: --objective val/accuracy/robust_0.1: nothing is attacked at 0.1, but at 8/255 (0.03137); "
        "add --eval-epsilon 0.1\n",
    )
    assert not (launcher.folder / "runs").exists()
