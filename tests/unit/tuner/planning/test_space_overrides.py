"""`--set KEY=VALUE`: a key has one value."""

from pathlib import Path

import pytest

from search_spaces.domain import Choice, Float, Setting
from search_spaces.study import Arm
from trainables.base.errors import InputError
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.resolve import resolve
from tuner.planning.space_overrides import check_arm, override_space


def settled(*texts: str) -> dict[str, Setting]:
    return override_space({"lr": 0.1}, texts, ("standard",))


def test_a_key_is_set_once() -> None:
    assert settled("lr=1", "weight_decay=0", "lr=1") == {"lr": 1.0, "weight_decay": 0.0}
    with pytest.raises(UsageError, match=r"^--set lr is given twice, as 1 and as 2; give it once$"):
        settled("lr=1", "weight_decay=0", " lr=2")


def test_paths_are_kept_as_they_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume from another folder must not read another file of the same name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    space = {"outliers.path": Choice(("a.npz", "s3://b/c.npz"))}
    texts = ("pretrain.checkpoint=~/w.pth", "cache_dir=/cache", "outliers.generator=npz")
    assert override_space(space, texts, ("oe",)) == {
        "outliers.path": Choice((f"{tmp_path}/a.npz", "s3://b/c.npz")),
        "pretrain.checkpoint": "/home/me/w.pth",
        "cache_dir": "/cache",
        "outliers.generator": "npz",
    }


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        (Arm("a", "control", {"lrr": 0.1}), "arm a: unknown option 'lrr'; did you mean lr? "),
        (Arm("a", "control", {"outliers.weight": 0.1}), "arm a: unknown option 'outliers.weight'; "),
        (Arm("a", "control", {"lr": -1}), "arm a: lr is -1.0; it must be at least 0"),
        (
            Arm("a", "control", {"lr": Float(0.1, 0.2)}),
            "arm a: 'lr' is a range, and the arm has no search of its own; ",
        ),
        (
            Arm("a", "control", drop=("attack.epsilon",)),
            "arm a drops 'attack.epsilon', which the study does not set; ",
        ),
    ],
)
def test_an_arm_is_checked_before_the_search(arm: Arm, said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_arm(arm, {"lr": 0.1}, "standard")
    assert str(caught.value).startswith(said)


def test_an_arm_that_is_searched_may_have_ranges() -> None:
    arm = Arm("a", "baseline", {"lr": Float(0.1, 0.2)}, search=True, drop=("momentum",))
    check_arm(arm, {"lr": 0.1, "momentum": 0.9}, "standard")


def planned(*settings: str, arms: tuple[str, ...] | None = None) -> list[str]:
    plan = resolve(LaunchOptions("robgan", settings=settings, arms=arms, pack=1), "r")
    return [lane.name for lane in plan.lanes]


def test_settings_that_contradict_each_other_in_an_arm_are_refused_before_anything_trains() -> None:
    """The class head alone has no joint phase, the study's own method has."""
    with pytest.raises(UsageError) as caught:
        planned("joint_epochs=5")
    assert str(caught.value) == (
        "arm class_head_at: joint_epochs=5 needs generator=true: a class head alone has no second phase; "
        "--arms NAME,... leaves arms out"
    )
    assert planned("joint_epochs=5", arms=("pgd_at",)) == ["search", "pgd_at"]
    assert planned("joint_epochs=int(0, 5)") == ["search", "class_head_at", "pgd_at"]  # 0 is allowed
    with pytest.raises(UsageError, match=r"^joint_epochs=5 needs generator=true: "):
        planned("joint_epochs=5", "generator=false")
