"""`--preset`: whose setting a plan has, what `--set` still changes, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.domain import Choice, Float
from tuner.base.errors import UsageError
from tuner.console.preview import plan_text
from tuner.planning.command_line import parse, training_command
from tuner.planning.paper_preset import size_and_sampler
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve


def plan(folder: Path, *words: str, study: str = "robgan") -> Plan:
    line = ["--study", study, "--preset", "paper", "--dataset", "cifar10", "--data-dir", str(folder), *words]
    return resolve(parse(line), "run")


def test_set_overrides_a_published_value_and_is_listed(tmp_path: Path) -> None:
    changed = plan(tmp_path, "--set", "lr_d=0.001", "--max-epochs", "30")
    assert changed.lanes[0].fixed["lr_d"] == 0.001
    assert "lr_d: theirs 0.0002; here 0.001: --set" in changed.deviations
    assert "epochs: theirs 200 joint and 60 of fine-tuning; here 30: --max-epochs" in changed.deviations
    assert len(changed.deviations) == len(plan(tmp_path).deviations) + 2
    same = plan(tmp_path, "--set", "lr_d=2e-4")
    assert same.deviations == plan(tmp_path).deviations


def test_a_range_of_set_is_searched_as_the_study_is(tmp_path: Path) -> None:
    opened = plan(tmp_path, "--set", "lr_d=loguniform(1e-4, 1e-3)")
    assert opened.lanes[0].space == {"lr_d": Float(1e-4, 1e-3, log=True)}
    assert (opened.trials, opened.sampler, opened.scheduler) == (8, "tpe", "none")


def test_listed_values_are_trained_once_each(tmp_path: Path) -> None:
    swept = plan(tmp_path, study="aoe_sigma")
    assert swept.lanes[0].space == {"outliers.sigma": Choice(tuple(map(float, range(11))))}
    assert (swept.trials, swept.sampler) == (11, "grid")
    assert [lane.trials for lane in swept.lanes] == [11, 11]
    assert swept.lanes[1].fixed["attack.name"] == "none"
    assert plan(tmp_path, "--trials", "3", study="aoe_sigma").trials == 3


def test_without_arms_their_options_are_left_out(tmp_path: Path) -> None:
    """attack.epsilon and attack.steps are PGD-AT's; DyART has none."""
    alone = plan(tmp_path, "--arms", "none", study="dyart_margin")
    assert alone.arms == ()
    assert not [key for key in alone.lanes[0].fixed if key.startswith("attack.")]
    some = plan(tmp_path, "--arms", "trades", study="dyart_margin")
    assert [(arm.name, arm.search) for arm in some.arms] == [("trades", False)]
    assert dict(some.arms[0].overrides) == {
        "attack_bn": "train", "beta": 6.0, "attack.widen": 1.0, "label_smoothing": 0.1,
    }  # fmt: skip


def test_the_setting_is_a_text_of_the_plan_and_decides_no_result(tmp_path: Path) -> None:
    one = plan(tmp_path)
    assert one.preset.startswith("paper: Liu & Hsieh")
    assert replace(one, preset="", deviations=()).content_hash == one.content_hash


def test_the_dry_run_lists_what_is_not_as_published(tmp_path: Path) -> None:
    text = plan_text(plan(tmp_path))
    assert "preset     paper: Liu & Hsieh, Rob-GAN (CVPR 2019), and its code (docs/papers.md)" in text
    assert "not as published, in 9 respects" in text
    assert "\n  batch of the fine-tuning: theirs 128; here 64, that of the joint phase: " in text
    line = ["--study", "robgan", "--dataset", "cifar10", "--data-dir", str(tmp_path)]
    assert "preset" not in plan_text(resolve(parse(line), "run"))


def test_the_command_that_trains_a_trial_again_keeps_the_preset() -> None:
    command = training_command("launch.py --study robgan --preset paper --trials 3", "robgan", {"lr_d": 0.1})
    assert command == "launch.py --train --study robgan --preset paper --set lr_d=0.1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--study aoe_sigma --preset paper",
            r"no published setting on digits-open; it has on cifar10, cifar100",
        ),
        ("--study compare_methods --preset paper", "compare_methods has no published setting; these have"),
        ("--study robgan --preset papr", "did you mean paper"),
        ("--method oe --preset paper", "--preset does not go with --method"),
        ("--study robgan --resume --preset paper", "--preset does not go with --resume"),
        (
            "--study dyart_margin --dataset cifar10 --data-dir . --preset paper-extra",
            "needs --set synthetic_path=..., the npz file of generated images",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve(parse(words.split()), "run")
    assert "\n" not in str(caught.value)


def test_trials_of_a_lane_by_hand() -> None:
    pair, three = Choice((1, 2)), Choice((1, 2, 3))
    assert size_and_sampler({}, 20, "tpe") == (1, "random")
    assert size_and_sampler({"a": pair, "b": three}, 20, "tpe") == (6, "grid")
    assert size_and_sampler({"a": pair, "b": Float(0, 1)}, 20, "tpe") == (20, "tpe")
