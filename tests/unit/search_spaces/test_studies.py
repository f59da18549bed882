"""Every study and every profile of it: resolves, reads back, names real options, states its question and source."""

from dataclasses import replace
from pathlib import Path

import pytest

import search_spaces
from search_spaces.domain import Float, SpaceError
from search_spaces.study import Arm, Floor, Objective, Profile, Study
from trainables.methods.robgan.schedule import joint_epochs
from trainables.options import build, fields_of
from trainables.options.methods import METHODS
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import expected_epochs, from_dict, to_dict
from tuner.planning.resolve import resolve
from tuner.search.sampler_specs import SAMPLERS, check_sampler
from tuner.search.schedulers import SCHEDULERS

PROFILES = [
    (name, profile.dataset) for name in search_spaces.NAMES for profile in search_spaces.get(name).profiles
]


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_a_study_resolves_and_reads_back(name: str) -> None:
    study = search_spaces.get(name)
    assert study.name == name
    plan = resolve(LaunchOptions(name), "run")
    assert from_dict(to_dict(plan)) == plan
    assert plan.content_hash == resolve(LaunchOptions(name), "another run").content_hash
    assert plan.content_hash != resolve(LaunchOptions(name, seed=1), "run").content_hash
    assert any(arm.role == "baseline" and arm.search for arm in study.arms), "a tuned baseline"
    assert plan.headline[0].startswith("test/")
    fewest, most = expected_epochs(plan)
    assert 0 < fewest <= most


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_the_file_says_question_claim_and_source(name: str) -> None:
    text = __import__(f"search_spaces.{name}", fromlist=["x"]).__doc__
    assert text.splitlines()[0].endswith("?")
    assert "Claim:" in text


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_every_arm_names_options_that_its_method_has(name: str) -> None:
    study = search_spaces.get(name)
    for arm in study.arms:
        known = fields_of(METHODS[arm.method or study.method].options)
        assert set(arm.overrides) <= set(known), arm.name


@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_a_profile_resolves_with_a_data_folder(name: str, dataset: str, tmp_path: Path) -> None:
    plan = resolve(LaunchOptions(name, dataset=dataset, data_dir=str(tmp_path)), "run")
    assert plan.dataset == dataset
    assert from_dict(to_dict(plan)) == plan
    with pytest.raises(UsageError, match="--data-dir"):
        resolve(LaunchOptions(name, dataset=dataset), "run")


def test_a_study_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(SpaceError, match="validation metric"):
        Objective("test/accuracy/clean")
    with pytest.raises(SpaceError, match="maximize or minimize"):
        Objective("val/x", "up")
    common = {"question": "?", "claim": "", "source": "", "method": "aoe", "dataset": "digits", "space": {}}
    with pytest.raises(SpaceError, match="no objective"):
        Study(name="x", objectives=(), **common)  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="an arm twice"):
        Study(
            name="x",
            objectives=(Objective("val/x"),),
            arms=(Arm("a", "control"), Arm("a", "control")),
            **common,  # type: ignore[arg-type]
        )


def test_floor_bounds() -> None:
    """Pretrained .983 minus .01 is .973; an absolute floor ignores the pretrained classifier."""
    assert Floor("val/a", below_reference=0.01).bound(0.983) == pytest.approx(0.973)
    assert Floor("val/a", at_least=0.95).bound(None) == 0.95
    with pytest.raises(SpaceError, match="pretrained"):
        Floor("val/a", below_reference=0.01).bound(None)


def test_a_setting_reaches_every_lane_that_has_the_option() -> None:
    plan = resolve(LaunchOptions("aoe_sigma", settings=("attack.epsilon=0.03", "outliers.sigma=2.0")), "run")
    search, oe = plan.lanes
    assert search.fixed["attack.epsilon"] == 0.03
    assert "attack.epsilon" not in oe.fixed  # plain outlier exposure has none
    assert search.fixed["outliers.sigma"] == oe.fixed["outliers.sigma"] == 2.0
    assert "outliers.sigma" not in plan.effects


def test_sampler_and_scheduler_by_profile_study_and_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    study = search_spaces.get("aoe_sigma")
    assert (study.sampler, study.scheduler) == ("tpe", "asha")
    asked = resolve(LaunchOptions("aoe_sigma", sampler="gp", scheduler="median"), "run")
    assert (asked.sampler, asked.scheduler, asked.rungs) == ("gp", "median", ())
    assert asked.content_hash != resolve(LaunchOptions("aoe_sigma"), "run").content_hash
    changed = replace(study, sampler="random", profiles=(Profile("digits", scheduler="none"),))
    monkeypatch.setattr(search_spaces, "get", lambda name: changed)
    assert resolve(LaunchOptions("aoe_sigma"), "run").sampler == "random"
    profiled = resolve(LaunchOptions("aoe_sigma", dataset="digits"), "run")
    assert (profiled.sampler, profiled.scheduler) == ("random", "none")


def test_what_a_sampler_cannot_choose_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"numbers only, and attack.name is a choice; .*--set attack.name=fgsm"
    ):
        resolve(LaunchOptions("aoe_sigma", sampler="cmaes"), "run")
    assert (
        resolve(LaunchOptions("aoe_sigma", sampler="cmaes", settings=("attack.name=pgd",)), "run").sampler
        == "cmaes"
    )
    with pytest.raises(UsageError, match=r"outliers.sigma, .* each is a range; .*=choice\(0.25, 1, 4\)'"):
        resolve(LaunchOptions("aoe_sigma", sampler="grid"), "run")
    with pytest.raises(UsageError, match="one objective, not 2"):
        check_sampler("cmaes", "search", {}, [Objective("val/a"), Objective("val/b")])
    with pytest.raises(UsageError, match=r"lr of oe is a range; .*lr=choice\(0, 0.5, 1\)"):
        check_sampler("grid", "oe", {"lr": Float(0, 1)}, [Objective("val/a")])


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_samplers_and_schedulers_of_studies_are_registered(name: str) -> None:
    study = search_spaces.get(name)
    for one in (study, *study.profiles):
        assert not one.sampler or one.sampler in SAMPLERS
        assert not one.scheduler or one.scheduler in SCHEDULERS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"sampler": "tpee"}, "unknown sampler 'tpee'; did you mean tpe"),
        ({"scheduler": "medium"}, "unknown scheduler 'medium'; did you mean median"),
        ({"scheduler": "hyperband"}, "unknown scheduler 'hyperband'; known: asha, median, none"),
    ],
)
def test_a_study_with_an_unknown_sampler_or_scheduler_is_refused(
    names: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = search_spaces.get("aoe_sigma")
    for changed in (replace(study, **names), replace(study, profiles=(Profile("digits", **names),))):  # type: ignore[arg-type]
        monkeypatch.setattr(search_spaces, "get", lambda name, changed=changed: changed)
        with pytest.raises(UsageError, match=message):
            resolve(LaunchOptions("aoe_sigma", dataset="digits"), "run")
    monkeypatch.undo()
    with pytest.raises(UsageError, match=message):
        resolve(LaunchOptions("aoe_sigma", **names), "run")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "dataset"), PROFILES)
def test_no_trial_on_real_data_is_stopped_in_its_warm_up(name: str, dataset: str) -> None:
    plan = resolve(LaunchOptions(name, dataset=dataset, data_dir="."), "one")
    for lane in plan.lanes:
        options = build(METHODS[lane.method].options, {**lane.fixed, "epochs": plan.max_epochs})
        if getattr(options, "schedule", "") == "one_cycle" and plan.rungs:
            assert min(plan.rungs) > options.warmup * plan.max_epochs


@pytest.mark.parametrize("dataset", ["", "mnist", "cifar10"])
def test_robgan_is_not_stopped_before_its_second_phase(dataset: str, tmp_path: Path) -> None:
    """A trial that is stopped in the joint phase has not used the fine-tuning's options that are searched."""
    given = {"dataset": dataset, "data_dir": str(tmp_path)} if dataset else {}
    plan = resolve(LaunchOptions("robgan", **given), "one")
    options = build(METHODS["robgan"].options, {**plan.lanes[0].fixed, "epochs": plan.max_epochs})
    assert plan.rungs
    assert min(plan.rungs) > joint_epochs(options)
