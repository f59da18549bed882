"""The plan of a study on data that it has no profile for: values that fit the data, none of the digits'."""

from dataclasses import replace
from pathlib import Path

import pytest

import search_spaces
from search_spaces.domain import Choice, Float
from search_spaces.study import Arm, Floor, Objective, Study
from tests.unit import own_pictures
from trainables.data.loading.data_facts import DataFacts
from trainables.data.types.radii import Radii, radii_of
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.base.errors import UsageError
from tuner.console.preview import plan_text
from tuner.planning.fitted_profile import fitted_profile, suits
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.radius_settings import methods_of, radius_options
from tuner.planning.resolve import resolve

AT_8 = "0.03137"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(own_pictures.folder(tmp_path_factory.mktemp("own")))


def planned(study: str, data_dir: str, **options: object) -> Plan:
    return resolve(LaunchOptions(study, dataset="imagefolder", data_dir=data_dir, **options), "run")  # type: ignore[arg-type]


def facts(side: int, images: int, mirrors: bool = True) -> DataFacts:
    return DataFacts("imagefolder", (3, side, side), images, mirrors)


# -- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "images", "network", "batch", "epochs", "trials"),
    [
        (28, 360, "small_cnn", 32, 18, 20),
        (64, 999, "small_cnn", 32, 18, 20),
        (64, 1_000, "small_cnn", 64, 9, 20),
        (64, 4_999, "small_cnn", 64, 9, 20),
        (64, 5_000, "preact_resnet18", 64, 9, 20),
        (32, 50_000, "preact_resnet18", 128, 9, 20),
        (96, 360, "mobilenet_v3_small", 32, 18, 20),
        (128, 5_000, "preact_resnet18", 64, 9, 20),
        (224, 360, "mobilenet_v3_small", 32, 18, 20),
        (224, 50_000, "mobilenet_v3_large", 64, 9, 20),
        (224, 1_000_000, "resnet50", 64, 9, 10),
        (64, 0, "small_cnn", 64, 9, 20),
    ],
)
def test_network_batch_and_budget_by_size_and_number(
    side: int, images: int, network: str, batch: int, epochs: int, trials: int
) -> None:
    """`aoe_sigma` has 9 epochs and 20 trials."""
    radii = radii_of("imagefolder", (3, side, side))
    profile, chosen = fitted_profile(search_spaces.get("aoe_sigma"), facts(side, images), radii)
    settings = profile.settings
    assert (settings["network"], settings["batch_size"]) == (network, batch)
    assert (profile.max_epochs, profile.trials) == (epochs, trials)
    assert settings["pretrain.batch_size"] == batch
    assert settings["pretrain.epochs"] == (30 if images >= 10_000 else 40)
    assert chosen["network"].startswith(f"{network} (")


def test_a_network_is_trained_as_its_profiles_have_it() -> None:
    """From scratch as in the CIFAR-10 profile of the baselines; `small_cnn` as the study has it."""
    study = search_spaces.get("adversarial_baselines")
    large, _ = fitted_profile(study, facts(32, 50_000), radii_of("cifar10"))
    shipped = study.profile("cifar10")
    assert shipped is not None
    for key in ("network", "optimizer", "lr", "weight_decay", "batch_size", "augment", "attack.epsilon"):
        assert large.settings[key] == shipped.settings[key], key
    assert large.max_epochs == 36
    small, _ = fitted_profile(study, facts(32, 500), radii_of("cifar10"))
    assert not {"lr", "optimizer", "weight_decay"} & set(small.settings)


def test_a_baseline_with_rates_of_its_own_gets_those_of_the_network() -> None:
    profile, _ = fitted_profile(search_spaces.get("robgan"), facts(32, 50_000), radii_of("cifar10"))
    arm = next(arm for arm in profile.arms if arm.name == "pgd_at")
    assert (arm.overrides["lr"], arm.overrides["batch_size"]) == (Float(0.01, 0.2, log=True), 128)


def test_images_that_may_not_be_mirrored_are_not() -> None:
    profile, _ = fitted_profile(
        search_spaces.get("aoe_sigma"), facts(32, 500, mirrors=False), radii_of("mnist")
    )
    assert profile.settings["augment"] == profile.settings["pretrain.augment"] == "crop"


def test_outliers_of_large_images_fit_into_memory() -> None:
    """50,000,000 numbers / (3 x 224 x 224) = 332.2."""
    study = search_spaces.get("aoe_sigma")
    profile, _ = fitted_profile(study, facts(224, 360), radii_of("imagenet"))
    assert profile.settings["outliers.count"] == 332
    assert "outliers.count" not in fitted_profile(study, facts(64, 360), radii_of("imagefolder"))[0].settings


def test_a_study_written_by_hand() -> None:
    """Radius .1 becomes 8/255 exactly, ranges follow by 8/255 / .1 = .3137, floors and sets of the digits go."""
    study = Study(
        name="mine", question="?", claim="", source="", method="pgd_at", dataset="digits",
        space={"attack.epsilon": 0.1, "speed_radius": Choice((0.1, 0.2)), "lr": 0.01},
        objectives=(Objective("val/accuracy/robust_0.1"),),
        floors=(Floor("val/accuracy/clean", 0.9), Floor("val/accuracy/robust_0.1", below_reference=0.3)),
        arms=(Arm("weak", "control", {"attack.epsilon": 0.05}),),
        headline=("test/accuracy/robust_0.1", "test/accuracy/robust_0.2", "test/auroc/unknown", "test/auroc/far"),
        max_epochs=4, first_rung=4, elsewhere={"momentum": 0.5, "outliers.sigma": 3.0},
    )  # fmt: skip
    profile, chosen = fitted_profile(study, facts(32, 500), Radii((8 / 255, 12 / 255), (8 / 255,)))
    assert profile.settings["attack.epsilon"] == 8 / 255
    assert profile.settings["speed_radius"] == Choice((0.0314, 0.0627))
    assert profile.arms[0].overrides == {"attack.epsilon": 0.0157}
    assert profile.objectives == (Objective(f"val/accuracy/robust_{AT_8}"),)
    assert profile.floors == (
        Floor("val/accuracy/clean", below_reference=0.2),
        Floor(f"val/accuracy/robust_{AT_8}", below_reference=0.3),
    )
    assert profile.headline == (
        f"test/accuracy/robust_{AT_8}",
        "test/accuracy/robust_0.04706",
        "test/auroc/far",
    )
    assert profile.validation["robust_epsilons"] == (8 / 255,)
    assert profile.protocol["robust_epsilons"] == (8 / 255, 12 / 255)
    assert profile.max_epochs == 8
    assert profile.settings["momentum"] == 0.5
    assert "outliers.sigma" not in profile.settings  # pgd_at has none
    assert chosen["floor on val/accuracy/clean"].endswith("(in place of 0.9)")


# -- every study -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_every_study_gives_a_plan_for_400_pictures(name: str, pictures: str) -> None:
    study, plan = search_spaces.get(name), planned(name, pictures)
    assert from_dict(to_dict(plan)) == plan
    assert plan.radii == Radii((8 / 255,), (8 / 255,))
    named = [o.metric for o in plan.objectives] + [f.metric for f in plan.floors] + list(plan.headline)
    assert {metric.split("_")[-1].split("/")[0] for metric in named if "robust_" in metric} <= {AT_8}
    assert plan.headline
    assert not any("unknown" in metric for metric in plan.headline)
    assert all(floor.below_reference is not None for floor in plan.floors)
    for protocol in (plan.validation_protocol(), plan.test_protocol(), plan.test_protocol("confirm", "best")):
        assert protocol.robust_epsilons == protocol.ood_epsilons == (8 / 255,)
    assert (plan.trials, plan.max_epochs) == (study.trials, 2 * study.max_epochs)
    assert plan.first_rung / plan.max_epochs == study.first_rung / study.max_epochs
    for lane in plan.lanes:
        known = fields_of(METHODS[lane.method].options)
        assert lane.values("network") in (("small_cnn",), ())
        assert lane.values("batch_size") == (32,)
        assert lane.values("augment") == ("crop_flip",)
        dropped = next((arm.drop for arm in plan.arms if arm.name == lane.name), ())
        for key in radius_options([lane.method]):
            if key in dropped:
                continue
            if key in lane.space:
                domain = lane.space[key]
                assert isinstance(domain, Float)
                assert 0.05 * 8 / 255 < domain.low < domain.high < 5 * 8 / 255, key
            else:
                assert 0 < lane.fixed[key] <= 4 * 8 / 255, key  # the digits' 0.1, 0.15 and 0.4 are above
        assert set(lane.fixed) <= set(known)


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_the_dry_run_says_what_was_chosen_and_plan_json_keeps_it(name: str, pictures: str) -> None:
    plan = planned(name, pictures)
    text = plan_text(plan)
    assert f"fitted to the data, as {name} has no profile for imagefolder" in text
    assert plan.fitted["radius"] == "8/255 (images of 64 pixels)"
    for what, value in to_dict(plan)["fitted"].items():
        assert what in text
        assert value in text
    assert "note       imagefolder: 40 validation images" in text


def test_what_the_command_line_gives_is_not_said_to_be_chosen(pictures: str) -> None:
    plan = planned(
        "aoe_sigma", pictures, settings=("network=wrn_40_2",), trials=2, max_epochs=3,
        eval_epsilon=(2 / 255,), floor=(Floor("val/accuracy/clean", 0.5),),
    )  # fmt: skip
    assert not {"network", "trials", "epochs", "floor on val/accuracy/clean"} & set(plan.fitted)
    assert plan.fitted["radius"] == "2/255 (--eval-epsilon)"
    assert (plan.trials, plan.max_epochs, plan.lanes[0].fixed["network"]) == (2, 3, "wrn_40_2")


def test_the_reasons_do_not_change_which_plan_it_is(pictures: str) -> None:
    plan = planned("aoe_sigma", pictures)
    assert replace(plan, fitted={}, notes=(), radii=None).content_hash == plan.content_hash


def test_a_data_set_that_a_study_was_made_for_keeps_its_values() -> None:
    study = search_spaces.get("aoe_sigma")
    assert suits(study, "digits-open")
    assert suits(study, "digits")  # the same images and radii
    assert not suits(study, "mnist")
    assert not suits(study, "imagefolder")
    for dataset in ("digits-open", "digits"):
        assert resolve(LaunchOptions("aoe_sigma", dataset=dataset), "run").fitted == {}


def test_a_published_set_without_a_profile_has_its_own_radii(tmp_path: Path) -> None:
    plan = resolve(LaunchOptions("adversarial_baselines", dataset="mnist", data_dir=str(tmp_path)), "run")
    assert plan.objectives[0].metric == "val/accuracy/robust_0.15"
    assert plan.headline[:2] == ("test/accuracy/robust_0.15", "test/accuracy/robust_0.3")
    fixed = plan.lanes[0].fixed
    assert (fixed["augment"], fixed["network"], fixed["attack.epsilon"]) == ("crop", "preact_resnet18", 0.15)
    assert plan.fitted["radius"] == "0.15, 0.3; on the outlier score 0.1 (the data set's)"


def test_the_methods_of_a_study_must_take_the_size(tmp_path: Path) -> None:
    large = str(own_pictures.folder(tmp_path / "large", 5, side=224))
    with pytest.raises(UsageError) as told:
        planned("compare_methods", large)
    assert str(told.value) == (
        "method robgan of study compare_methods takes images of 8 to 64 pixels a side, imagefolder has 224 x 224; "
        'write {"side": 64} into dataset.json beside train/, or leave it out: '
        "--arms standard,oe,energy,noise_augment,ant,pgd_at,trades,mart,dyart"
    )
    others = tuple(arm.name for arm in search_spaces.get("compare_methods").arms if arm.name != "robgan")
    plan = planned("compare_methods", large, arms=others)
    assert plan.objectives[0].metric == "val/robust_auroc_0.01569/near"  # 4/255
    assert methods_of(search_spaces.get("compare_methods"))[-1] == "robgan"
