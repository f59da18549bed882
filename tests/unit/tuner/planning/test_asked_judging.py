"""--objective, --floor and --eval-epsilon reach validation, protocols, floors and headline; a resume keeps them."""

import shlex

import pytest

from search_spaces.study import Floor, Objective
from trainables.data.types.radii import Radii
from tuner.base.errors import UsageError
from tuner.planning.amend import amend
from tuner.planning.command_line import parse
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve


def planned(words: str) -> Plan:
    return resolve(parse(shlex.split(words)), "one", words)


def told(words: str) -> str:
    with pytest.raises(UsageError) as error:
        planned(words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_objective_reaches_validation_headline_and_claim() -> None:
    plan = planned("--study aoe_sigma --objective accuracy/robust_0.2,calibration/ece")
    assert plan.objectives == (
        Objective("val/accuracy/robust_0.2"),
        Objective("val/calibration/ece", "minimize"),
    )
    assert plan.headline[:4] == (
        "test/accuracy/robust_0.2",
        "test/calibration/ece",
        "test/accuracy/robust_0.15",
        "test/robust_auroc_0.1/near",
    )
    assert plan.claim == "the winner beats its tuned baselines in accuracy under attack (ε 0.2)"
    validation = plan.validation_protocol()
    assert validation.groups == ("clean", "ood", "robust_ood", "robust", "calibration")
    assert validation.robust_epsilons == (0.2,)  # 0.15, which nobody asked for, costs as much again
    assert validation.ood_epsilons == (0.1,)
    assert plan.floors == (Floor("val/accuracy/clean", below_reference=0.01),)
    assert from_dict(to_dict(plan)) == plan


def test_a_mean_over_all_validation_sets_is_judged_by_the_near_ones() -> None:
    plan = planned("--study energy_margins --objective robust_auroc_id_0.1/all")
    assert plan.headline[0] == "test/robust_auroc_id_0.1/near"
    validation = plan.validation_protocol()
    assert validation.ood_sides == ("ood", "id")
    assert validation.ood_epsilons == (0.1,)


@pytest.mark.parametrize("group", ["near", "far"])
def test_a_mean_over_near_or_far_sets_is_judged_by_that_of_the_tests(group: str) -> None:
    plan = planned(f"--study energy_margins --objective auroc/{group}")
    assert plan.objectives == (Objective(f"val/auroc/{group}"),)
    assert plan.headline[0] == f"test/auroc/{group}"


def test_the_studys_own_objective_changes_nothing() -> None:
    plain = planned("--study dyart_margin")
    asked = planned("--study dyart_margin --objective accuracy/robust_0.15")
    assert (asked.objectives, asked.headline, asked.validation) == (
        plain.objectives,
        plain.headline,
        plain.validation,
    )


def test_floors_in_place_of_the_studys() -> None:
    plan = planned("--study dyart_margin --floor accuracy/clean>=pretrained-0.05 --floor corrupted/x>=0.1".replace(
        "corrupted/x", "accuracy/corrupted"
    ))  # fmt: skip
    assert plan.floors == (
        Floor("val/accuracy/clean", below_reference=0.05),
        Floor("val/accuracy/corrupted", at_least=0.1),
    )
    assert "corrupted" in plan.validation_protocol().groups
    assert planned("--study dyart_margin --floor none").floors == ()


def test_radii_reach_everything_that_names_one() -> None:
    plan = planned("--study dyart_margin --eval-epsilon 0.05,0.1")
    assert plan.radii == Radii((0.05, 0.1), (0.05, 0.1))
    assert plan.objectives[0].metric == "val/accuracy/robust_0.05"
    assert plan.headline == ("test/accuracy/robust_0.05", "test/accuracy/robust_0.1", "test/accuracy/clean")
    assert plan.validation_protocol().robust_epsilons == (0.05,)
    assert plan.test_protocol().robust_epsilons == (0.05, 0.1)
    search, pgd_at = plan.lanes[:2]
    assert pgd_at.fixed["attack.epsilon"] == 0.05  # trained at the radius of the objective, as before
    assert str(search.space["r0"]) == "uniform(0.0667, 0.2)"  # 0.2 and 0.6 times 0.05 / 0.15
    assert plan.floors == (Floor("val/accuracy/clean", 0.95),)


def test_radii_of_a_profile_and_of_a_named_protocol() -> None:
    plan = planned(
        "--study aoe_sigma --dataset cifar10 --data-dir . --eval-epsilon 4/255 --protocol autoattack"
    )
    assert plan.objectives[0].metric == "val/robust_auroc_0.01569/near"
    assert (
        str(plan.lanes[0].space["attack.epsilon"]) == "loguniform(0.00196, 0.126)"
    )  # half of 1/255 to 64/255
    assert plan.test_protocol("confirm", "oe").auto_attack_epsilons == (4 / 255,)
    again = amend(plan, parse(["--resume", "one", "--protocol", "full"]), "")
    assert again.test_protocol("confirm", "oe").ood_epsilons == (4 / 255, 1 / 255, 2 / 255)


def test_the_second_radius_can_be_the_objective() -> None:
    plan = planned("--study aoe_sigma --eval-epsilon 2/255,4/255 --objective robust_auroc_4/255/all")
    assert plan.objectives[0].metric == "val/robust_auroc_0.01569/all"
    assert plan.headline[:2] == ("test/robust_auroc_0.01569/near", "test/robust_auroc_0.007843/near")
    assert plan.validation_protocol().ood_epsilons == (2 / 255, 4 / 255)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "--study aoe_sigma --objective accuracy/robust_0.05",
            "--objective val/accuracy/robust_0.05: nothing is attacked at 0.05, but at 0.15, 0.2; "
            "add --eval-epsilon 0.05",
        ),
        (
            "--study aoe_sigma --eval-epsilon 8/255 --objective accuracy/robust_0.1",
            "--objective val/accuracy/robust_0.1: nothing is attacked at 0.1, but at 8/255 (0.03137); add",
        ),
        (
            "--study aoe_sigma --floor accuracy/robust_0.3>=0.1",
            "--floor val/accuracy/robust_0.3: nothing is attacked at 0.3",
        ),
        ("--study aoe_sigma --objective mce", "--objective val/mce: it is measured on the tests alone"),
        (
            "--study aoe_sigma --objective accuracy/autoattack_0.15",
            "--objective val/accuracy/autoattack_0.15: it is measured on the tests alone",
        ),
        (
            "--study aoe_sigma --objective auroc/unknown",
            "--objective val/auroc/unknown: the unknown classes are test data; write one of val/auroc/near, "
            "val/auroc/far, val/auroc/all",
        ),
        (
            "--study aoe_sigma --objective energy/auroc/all",
            "--objective val/energy/auroc/all: validation measures the study's own score alone; write val/auroc/all",
        ),
        (
            "--study aoe_sigma --dataset cifar10 --data-dir . --objective auroc/jigsow",
            "--objective val/auroc/jigsow: validation has no OOD set 'jigsow'; did you mean jigsaw?",
        ),
        (
            "--study aoe_sigma --dataset cifar10 --data-dir . --objective fpr95_id_pos/jigsaw",
            "--objective val/fpr95_id_pos/jigsaw: validation measures means over OOD sets; write one of",
        ),
        (
            "--study aoe_sigma --floor calibration/ece>=0.1",
            "floor val/calibration/ece >= 0.1: only a metric of which more is better can have a least value",
        ),
        (
            "--study aoe_sigma --floor accuracy/clean>=90",
            "floor val/accuracy/clean >= 90: the metric is a fraction in [0, 1]",
        ),
        (
            "--study aoe_sigma --floor accuracy/clean>=pretrained-2",
            "floor val/accuracy/clean >= pretrained - 2: what is subtracted must be from 0 to 1",
        ),
        (
            "--study aoe_sigma --floor none --floor accuracy/clean>=0.1",
            "--floor none goes with no other --floor",
        ),
        (
            "--study adversarial_baselines --dataset cifar10 --data-dir . --floor accuracy/clean>=pretrained-0.1",
            "floor val/accuracy/clean >= pretrained - 0.1: this study trains no classifier beforehand "
            "(pretrain.epochs is 0); add --set pretrain.epochs=20, or give a value: val/accuracy/clean>=0.5",
        ),
    ],
)
def test_what_cannot_judge_is_refused_in_one_line(words: str, says: str) -> None:
    assert told(words).startswith(says)


def test_a_resume_takes_the_same_and_refuses_others() -> None:
    words = "--objective accuracy/clean --floor accuracy/clean>=0.5 --eval-epsilon 0.05,0.1"
    plan = planned(f"--study aoe_sigma {words}")
    amended = amend(plan, parse(shlex.split(f"--resume one {words}")), "")
    assert amended.content_hash == plan.content_hash
    for change, says in (
        (
            "--objective auroc/all",
            "--objective val/auroc/all differs from the run's val/accuracy/clean; a resume",
        ),
        (
            "--floor none",
            "--floor none differs from the run's val/accuracy/clean >= 0.5; a resume cannot change it",
        ),
        (
            "--eval-epsilon 0.1,0.05",
            "--eval-epsilon 0.1,0.05 differs from the run's 0.05,0.1; a resume cannot",
        ),
    ):
        with pytest.raises(UsageError) as error:
            amend(plan, parse(shlex.split(f"--resume one {change}")), "")
        assert str(error.value).startswith(says)
    plain = planned("--study aoe_sigma")
    with pytest.raises(UsageError, match=r"^--eval-epsilon 0.1 differs from the run's 0.15,0.2; a resume"):
        amend(plain, parse(["--resume", "one", "--eval-epsilon", "0.1"]), "")
