"""Which study is planned: a shipped one with some of its arms, one training of it, or a method without a study."""

import shlex

import pytest

import search_spaces
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import searched
from trainables.data.types.datasets import DATASETS
from trainables.options.methods import METHODS
from tuner.base.errors import UsageError
from tuner.console.preview import plan_text
from tuner.planning.amend import amend
from tuner.planning.chosen_study import example_value
from tuner.planning.command_line import parse
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import STAGES, Plan, from_dict, to_dict
from tuner.planning.resolve import resolve

GIVEN = tuple(
    f"{key}={value}"
    for key, value in {
        "outliers.sigma": 1.5,
        "outliers.weight": 0.5,
        "attack.name": "pgd",
        "attack.epsilon": 0.1,
        "attack.steps": 5,
        "lr": 0.002,
    }.items()
)


def planned(words: str) -> Plan:
    return resolve(parse(shlex.split(words)), "one", words)


def told(words: str) -> str:
    with pytest.raises(UsageError) as error:
        planned(words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_training_of_a_study() -> None:
    plan = resolve(LaunchOptions("aoe_sigma", train=True, settings=GIVEN, seed=3), "one")
    assert plan.trains_one
    assert (plan.study, plan.trials, plan.seed, plan.stages) == (
        "aoe_sigma",
        1,
        3,
        ("search", "evaluate", "report"),
    )
    assert (plan.arms, plan.floors, plan.claim, len(plan.lanes)) == ((), (), "", 1)
    fixed = plan.lanes[0].fixed
    assert (fixed["lr"], fixed["attack.name"], fixed["outliers.generator"], fixed["batch_size"]) == (
        0.002,
        "pgd",
        "pca",
        64,
    )
    assert plan.headline == search_spaces.get("aoe_sigma").headline
    assert from_dict(to_dict(plan)) == plan
    text = plan_text(plan)
    assert "one training of 9 epochs" in text
    assert "--stages confirm,report" in text
    assert "checkpoint: about 403 kB" in text
    for word in ("claim", "sampler", "asha", "floor", "packing"):
        assert word not in text


@pytest.mark.parametrize("study", search_spaces.NAMES)
def test_open_ranges_are_refused_with_a_command_that_works(study: str) -> None:
    line = told(f"--train --study {study}")
    ranges = [key for key in searched(search_spaces.get(study).space) if key in line.partition(";")[0]]
    assert ranges
    example = line.partition("for example: ")[2]
    plan = planned(f"--train --study {study} {example}")
    assert plan.trains_one
    assert set(ranges) <= set(plan.lanes[0].fixed)


@pytest.mark.parametrize(
    ("domain", "default", "value"),
    [
        (Float(1e-4, 1e-2, log=True), 3e-3, 3e-3),  # the default, which is in the range
        (Float(1e-4, 1e-2, log=True), 0.1, 1e-3),  # sqrt(1e-4 * 1e-2)
        (Float(0.0, 1.0), 2.0, 0.5),
        (Float(0.101, 0.102), 2.0, 0.1015),  # two digits would be outside
        (Int(2, 11), 1, 6),
        (Choice(("a", "b")), "c", "a"),
        (Choice(("a", "b")), "b", "b"),
    ],
)
def test_the_example_value(domain: Float | Int | Choice, default: float | str, value: float | str) -> None:
    assert example_value(domain, default) == value
    assert value in domain


@pytest.mark.parametrize("method", METHODS.names)
def test_on_other_data_only_what_one_training_has_is_fitted(method: str) -> None:
    plan = planned(f"--train --method {method} --dataset glyphs")
    assert plan.fitted
    assert not [what for what in plan.fitted if what == "trials" or what.startswith("floor on ")]


@pytest.mark.parametrize("method", METHODS.names)
def test_every_method_trains_alone(method: str) -> None:
    plan = planned(f"--train --method {method}")
    assert plan.trains_one
    assert plan.study == f"method-{method}"
    assert plan.study not in search_spaces.NAMES
    assert plan.method == plan.lanes[0].method == method
    assert plan.validation["score"] == plan.protocol["score"] == METHODS[method].score


def test_the_attack_of_a_method_has_the_radius_of_the_data_set() -> None:
    for data in ("digits", "glyphs"):
        robust, ood = DATASETS[data].robust_epsilons[0], DATASETS[data].ood_epsilons[0]
        assert planned(f"--train --method pgd_at --dataset {data}").lanes[0].fixed["attack.epsilon"] == robust
        assert planned(f"--train --method aoe --dataset {data}").lanes[0].fixed["attack.epsilon"] == ood
    assert "attack.epsilon" not in planned("--train --method standard").lanes[0].fixed
    own = planned("--train --method pgd_at --set attack.epsilon=0.05")
    assert own.lanes[0].fixed["attack.epsilon"] == 0.05


def test_a_method_is_searched_over_the_ranges_that_are_given() -> None:
    plan = planned("--method standard --set 'lr=loguniform(1e-4, 1e-2)' --trials 5")
    assert not plan.trains_one
    assert (plan.trials, plan.stages, set(plan.lanes[0].space)) == (5, STAGES, {"lr"})
    assert told("--method standard").startswith("--method standard has nothing to search; give a range")


def test_arms_are_chosen_with_their_searches() -> None:
    everything = planned("--study aoe_sigma")
    assert planned("--study aoe_sigma --arms gauss,oe").arms == tuple(
        arm for arm in everything.arms if arm.name in ("oe", "gauss")
    )
    assert [lane.name for lane in planned("--study aoe_sigma --arms oe").lanes] == ["search", "oe"]
    assert [lane.name for lane in planned("--study aoe_sigma --arms gauss").lanes] == ["search"]
    none = planned("--study aoe_sigma --arms none")
    assert (none.arms, len(none.lanes), none.stages, none.floors) == ((), 1, STAGES, everything.floors)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "--study aoe_sigma --arms signoise",
            "--arms: unknown arm 'signoise'; did you mean signnoise? known: ",
        ),
        ("--study aoe_sigma --arms none,oe", "--arms is 'none,oe'; none is no arm; write it alone"),
        ("--study aoe_sigma --arms ,", "--arms is ','; write none, or names of arms separated by commas"),
        ("--method standard --arms oe", "--arms: method-standard has no arms"),
        ("--train --method nope", "unknown method 'nope'; "),
        ("--train --method standard --dataset digit", "unknown dataset 'digit'; did you mean digits?"),
        ("--train", "name a study with --study"),
        ("--train --resume r", "--train does not go with --resume; it goes with --study"),
        ("--method standard --study aoe_sigma", "--method does not go with --study; give one of them"),
        *(
            (
                f"--train --method standard {more}",
                f"{more.split()[0]} does not go with --train; give one of them",
            )
            for more in (
                "--trials 3",
                "--arms none",
                "--sampler tpe",
                "--scheduler none",
                "--warm-start r",
                "--time-budget 1h",
                "--epoch-budget 9",
                "--gpu-budget 1h",
            )
        ),
    ],
)
def test_what_is_refused(words: str, says: str) -> None:
    assert told(words).startswith(says)


def test_a_resume_adds_fresh_seeds_only_where_it_is_asked() -> None:
    stored = planned("--train --method standard")
    assert amend(stored, parse(["--resume", "one"]), "").stages == ("search", "evaluate", "report")
    confirmed = amend(stored, parse(["--resume", "one", "--stages", "confirm,report"]), "")
    assert (confirmed.stages, confirmed.arms) == (("confirm", "report"), ())
    with pytest.raises(UsageError, match=r"^run one is one training, not 5; .*--confirm-seeds N$"):
        amend(stored, parse(["--resume", "one", "--trials", "5"]), "")
    assert amend(planned("--study aoe_sigma"), parse(["--resume", "one"]), "").stages == STAGES


def test_an_interrupted_launch_goes_on_with_its_stages() -> None:
    """Killed in `--stages search`, it does not evaluate and confirm; once it has ended, a resume does the rest."""
    stored = planned("--study aoe_sigma --stages search")
    words = ["--resume", "one"]
    assert amend(stored, parse(words), "", interrupted=True).stages == ("search",)
    assert amend(stored, parse(words), "", interrupted=False).stages == STAGES
    asked = parse([*words, "--stages", "search,report"])
    assert amend(stored, asked, "", interrupted=True).stages == ("search", "report")
    grown = parse([*words, "--trials", str(stored.trials + 1)])
    assert amend(stored, grown, "", interrupted=True).stages == STAGES


def test_a_resume_keeps_the_arms() -> None:
    stored = planned("--study aoe_sigma --arms oe,gauss")
    assert amend(stored, parse(["--resume", "one", "--arms", "gauss,oe"]), "").arms == stored.arms
    with pytest.raises(
        UsageError, match=r"^--arms differs from the run's oe,gauss; a resume cannot change it$"
    ):
        amend(stored, parse(["--resume", "one", "--arms", "none"]), "")


def test_settings_that_only_a_dropped_arm_has_are_dropped_with_it() -> None:
    """dyart has no attack.epsilon; its baseline pgd_at has, and takes it from the study's space."""
    assert planned("--study dyart_margin --arms pgd_at").lanes[1].fixed["attack.epsilon"] == 0.15
    planned("--study dyart_margin --arms none")
    assert "unknown option 'attack.epsilon'" in told(
        "--study dyart_margin --arms none --set attack.epsilon=0.1"
    )
