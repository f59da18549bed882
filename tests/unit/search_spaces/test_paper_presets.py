"""The papers' settings: what a plan of each holds, against the table of the documentation and numbers by hand."""

from pathlib import Path

import pytest

import search_spaces
from search_spaces.domain import Choice, SpaceError
from search_spaces.paper_presets import NAMES, PRESETS, find, markdown
from search_spaces.paper_setting import EPOCHS, PaperPreset, other, same, shown, words
from search_spaces.study import searched
from tests.unit.test_architecture import ROOT
from trainables.options import fields_of
from trainables.options.methods import METHODS
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve
from tuner.planning.space_overrides import RESERVED

#: What a plan may hold beside the published fields: instruments, the judge of samples and values without effect.
OURS = {
    "aoe_attacks": {"inlier_attack.steps"},
    "energy_margins": {"energy.m_in_offset", "energy.gap_factor", "outliers.sigma"},
    "ant_strength": {"pretrain.*"},
    "robgan": {"network", "rounds", "norm_head", "pretrain.*"},
    "dyart_margin": {"speed_images", "speed_radius"},
}
EACH = pytest.mark.parametrize("preset", PRESETS, ids=lambda p: f"{p.study}-{p.dataset}-{p.name}")


def plan_of(preset: PaperPreset, folder: Path, train: bool = False) -> Plan:
    needed = tuple(f"{key}={folder / 'file'}" for key in preset.needs)
    return resolve(
        LaunchOptions(
            preset.study,
            preset=preset.name,
            dataset=preset.dataset,
            data_dir=str(folder),
            settings=needed,
            train=train,
        ),
        "run",
    )


@EACH
def test_a_plan_holds_every_published_value(preset: PaperPreset, tmp_path: Path) -> None:
    plan = plan_of(preset, tmp_path)
    space = {**plan.lanes[0].fixed, **plan.lanes[0].space}
    for key, value in preset.space(searched=True).items():
        if key in fields_of(METHODS[plan.method].options):
            assert space[key] == value, key
        else:  # an option of the arms' methods
            arms = [arm for arm in plan.arms if key in fields_of(METHODS[arm.method or plan.method].options)]
            assert arms, key
    assert plan.max_epochs == preset.epochs
    for which, fields in (("validation", plan.validation), ("protocol", plan.protocol)):
        for key, value in preset.evaluation(which).items():
            assert fields[key] == (list(value) if isinstance(value, tuple) else value), key
    assert from_dict(to_dict(plan)) == plan


@EACH
def test_nothing_else_is_searched_or_set(preset: PaperPreset, tmp_path: Path) -> None:
    plan = plan_of(preset, tmp_path)
    tuned = {s.field: s.tuned for s in preset.settings if s.tuned}
    assert dict(plan.lanes[0].space) == tuned
    allowed = OURS.get(preset.study, set()) | set(preset.space(True)) | set(preset.needs)
    for key in plan.lanes[0].fixed:
        beside = key in RESERVED or key in allowed or f"{key.partition('.')[0]}.*" in allowed
        assert beside, f"{key} is not in the preset"
    assert all(not searched(arm.overrides) for arm in plan.arms)
    assert (plan.scheduler, plan.trials) == (
        "none",
        1 if not tuned else len(next(iter(tuned.values())).options),
    )
    assert len(plan.lanes) == 1 or tuned
    assert set(preset.arms) == {arm.name for arm in plan.arms}


@EACH
def test_one_training_takes_one_value_of_each(preset: PaperPreset, tmp_path: Path) -> None:
    plan = plan_of(preset, tmp_path, train=True)
    assert plan.trains_one
    assert plan.claim == ""
    for setting in preset.settings:
        if setting.tuned:
            assert plan.lanes[0].fixed[setting.key] == setting.ours
            assert setting.ours in setting.tuned.options


@EACH
def test_every_difference_stands_in_the_plan_with_its_reason(preset: PaperPreset, tmp_path: Path) -> None:
    plan = plan_of(preset, tmp_path)
    stated = [s.deviation for s in preset.settings if s.reason]
    assert list(plan.deviations) == stated
    assert all(": theirs " in line and "; here " in line for line in stated)
    assert plan.preset == f"{preset.name}: {preset.source}"


def test_arms_are_options_of_their_methods() -> None:
    for preset in PRESETS:
        arms = {arm.name: arm for arm in search_spaces.get(preset.study).arms}
        assert set(preset.arms) <= set(arms)
        for setting in preset.settings:
            if setting.arm:
                method = arms[setting.arm].method or search_spaces.get(preset.study).method
                assert setting.key in fields_of(METHODS[method].options), setting.field


#: By hand, from the recipes: {(study, data set, preset): some of its values}.
GOLDEN = {
    ("aoe_sigma", "cifar10", "paper"): {
        "attack.epsilon": 0.5, "attack.name": "eba", "attack.steps": 20, "outlier_norm": "raw01",
        "outlier_clamp": False, "attack_bn": "train", "lr": 5e-4, "outliers.count": 9984, EPOCHS: 10,
    },
    ("energy_margins", "cifar10", "paper"): {"energy.m_in": -23.0, "energy.gap": 18.0, "energy.lam": 0.1, "lr": 1e-3},
    ("energy_margins", "cifar100", "paper"): {"energy.m_in": -27.0, "energy.gap": 22.0, "outliers.ratio": 2.0},
    ("ant_strength", "imagenet", "paper"): {
        "lr": 1e-3, "batch_size": 70, "retrain_iters": 1001, "augment": "resized_crop_flip", EPOCHS: 121,
    },
    ("robgan", "cifar10", "paper"): {"lr_d": 2e-4, "n_dis": 5, "loss": "bce", "ema": 0.0, EPOCHS: 260},
    ("dyart_margin", "cifar10", "paper"): {
        "alpha": 3.0, "r0": 16 / 255, "robust_weight": 1000.0, "grad_clip": 0.1, "warmup": 0.025, "pretrain.ema": 0.995,
        EPOCHS: 200,
    },
    ("dyart_margin", "cifar10", "paper-extra"): {
        "batch_size": 512, "robust_weight": 800.0, "unsup_fraction": 0.7, EPOCHS: 800,
    },
    ("dyart_margin", "tiny-imagenet", "paper"): {"alpha": 5.0, "r0": 32 / 255, "grad_clip": 1.0, EPOCHS: 100},
}  # fmt: skip


@pytest.mark.parametrize("key", GOLDEN, ids="-".join)
def test_numbers_by_hand(key: tuple[str, str, str]) -> None:
    study, dataset, name = key
    values = {s.field: s.ours for s in find(name, study, dataset).settings}
    assert {field: values[field] for field in GOLDEN[key]} == GOLDEN[key]


def test_lengths_and_shares_by_hand() -> None:
    """ANT: 135 = rms x sqrt(3 x 224 x 224). Rob-GAN: 60 of 260 epochs, attack steps of 0.0039 = 0.624 x 8/255 / 5."""
    ant = find("paper", "ant_strength", "imagenet").space(False)
    assert ant["rms"] * (3 * 224 * 224) ** 0.5 == pytest.approx(135)
    gan = find("paper", "robgan", "cifar10").space(False)
    assert round(gan["ft.share"] * 260) == 60
    assert gan["attack.step_scale"] * (0.0625 / 2) / gan["attack.steps"] == pytest.approx(0.0078 / 2)


def test_the_page_is_made_of_the_presets() -> None:
    assert (ROOT / "docs" / "papers.md").read_text() == markdown()


def test_the_table_has_a_row_for_every_field_of_every_preset() -> None:
    page = markdown()
    for preset in PRESETS:
        section = page[page.index(f"{preset.source}.") :]
        for s in preset.settings:
            name = f"`{s.field}`" if s.option else s.field
            assert f"| {name} | {s.theirs} | {s.shown} | {s.reason or '-'} | {s.source} |" in section


def test_where_there_is_none_the_line_names_where_there_is() -> None:
    with pytest.raises(
        SpaceError, match=r"energy_margins has no published setting on food101.*cifar10, cifar100"
    ):
        find("paper", "energy_margins", "food101")
    with pytest.raises(SpaceError, match=r"compare_methods has no published setting; these have: aoe_sigma"):
        find("paper", "compare_methods", "digits-open")
    assert NAMES == ("paper", "paper-extra")


def test_a_setting_is_of_a_study_an_arm_an_evaluation_or_words() -> None:
    arm, field = same("trades: beta", 6.0, "code"), same("protocol.steps", 20, "code")
    assert (arm.arm, arm.key, arm.evaluation) == ("trades", "beta", "")
    assert (field.arm, field.key, field.evaluation) == ("", "steps", "protocol")
    difference = words("validation. Its size", "10", "20", "code", "more is better")
    assert (difference.arm, difference.evaluation) == ("", "")
    line = other("lr", "0.1", 0.2, "code", "faster").deviation
    assert line == "lr: theirs 0.1; here 0.2: faster"
    with pytest.raises(SpaceError, match="needs a reason"):
        words("x", "a", "b", "code", "")
    with pytest.raises(SpaceError, match="sets lr twice"):
        PaperPreset("s", "d", "", "", (same("lr", 1, ""), same("lr", 2, "")), {})


def test_values_as_tables_write_them() -> None:
    values = (0.5, 16 / 255, True, (4 / 255, 0.5), (), 1000.0, 135 / 150528**0.5, Choice((1, 2)))
    expected = ["0.5", "16/255", "true", "4/255, 0.5", "none", "1000", "0.347957", "choice(1, 2)"]
    assert list(map(shown, values)) == expected
