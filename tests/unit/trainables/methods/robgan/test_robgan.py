"""Rob-GAN: the attack, what trains what, exact resume in both phases, guards, costs, samples, the study."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from search_spaces.robgan import STUDY
from tests.unit import toy
from trainables.base.errors import TrainingFailed
from trainables.functional import losses_gan
from trainables.functional.losses_gan import weights
from trainables.methods.robgan.robgan import RobGAN
from trainables.methods.robgan.schedule import joint_epochs, ramp_up, rate_factor
from trainables.options import build, fields_of
from trainables.options.methods import METHODS
from trainables.options.robgan import RobGANOptions
from trainables.training import checkpoints

#: 64 toy images in batches of 21: 3 steps an epoch.
TINY = {"epochs": 3, "batch_size": 21, "seed": 5, "ndf": 2, "ngf": 2, "nz": 3, "judged": False}
TINY |= {"attack.steps": 2, "attack.epsilon": 0.1, "guards.enabled": False}


def make(folder=None, **values):
    context = replace(toy.context(5, toy.pretrained), folder=folder)
    return RobGAN(build(RobGANOptions, {**TINY, **values}), context)


def run(method, first=0, last=None):
    return [method.train_epoch(epoch) for epoch in range(first, last or method.options.epochs)]


# -- the attack --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["hinge", "bce"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_attack_raises_its_objective_and_touches_nothing(loss, norm):
    method = make(loss=loss, d_norm=norm, **{"attack.steps": 5, "attack.warmup": 0.0})
    data = toy.images_of(40, 3)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    before = toy.weights(method.network)
    method.network.train()
    attacked = method.attack_both(images, labels)
    assert method.network.training
    assert all(parameter.requires_grad for parameter in method.network.parameters())
    assert toy.same(before, toy.weights(method.network))
    assert (attacked - images).abs().max().item() <= 0.1 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    method.network.eval()
    weigh = weights(loss, False, method.options.w_c)

    def objective(x):
        with torch.no_grad():
            return losses_gan.attack_objective(*method.network.both(x), labels, loss, weigh)

    assert (objective(attacked) >= objective(images)).float().mean() > 0.9


def test_radius_warms_up_and_zero_leaves_the_images_alone():
    """9 steps, warm-up over a third of the 6 joint ones: half the radius, then all of it."""
    method = make(**{"attack.warmup": 1 / 3, "ft.share": 0.3})
    radii = []
    for method.step in range(4):
        radii.append(method.epsilon())
    assert radii == pytest.approx([0.05, 0.1, 0.1, 0.1])
    plain = make(**{"attack.epsilon": 0.0})
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(plain.attack_both(images, torch.tensor([0, 1, 2])), images)


# -- schedules ---------------------------------------------------------------------------------------------


def test_phases_golden():
    """40 epochs with a quarter: 30 joint ones; a second phase that is asked for has an epoch, a first one too."""
    expected = {(40, 0.25): 30, (3, 0.3): 2, (2, 0.1): 1, (1, 0.5): 1, (7, 0.0): 7}
    for (epochs, share), joint in expected.items():
        options = build(RobGANOptions, {"epochs": epochs, "ft.share": share})
        assert joint_epochs(options) == joint
        assert joint_epochs(replace(options, generator=False)) == epochs


def test_rates_and_ramps_golden():
    assert [ramp_up(k, 10, 0.4) for k in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert [ramp_up(k, 10, 0.0) for k in range(2)] == [1, 1]
    assert [rate_factor("linear", k, 4) for k in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [rate_factor("halve", k, 8) for k in range(8)] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert rate_factor("cosine", 2, 4) == pytest.approx(0.5)
    stages = [rate_factor("stages", k, 6) for k in range(6)]
    assert stages == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.001])
    assert rate_factor("constant", 5, 6) == 1


def test_adam_forgets_at_a_drop_only_if_asked_to():
    """4 epochs of 3 steps halve at steps 3, 6, 9: the last optimiser has seen 3 of 12 steps."""
    counts = {}
    for reset in (False, True):
        method = make(epochs=4, schedule="halve", reset_optimizer=reset, **{"ft.share": 0.0})
        run(method)
        counts[reset] = int(next(iter(method.optimizer_d.state.values()))["step"])
        assert method.optimizer_d.param_groups[0]["lr"] == pytest.approx(method.options.lr_d / 8)
    assert counts == {False: 12, True: 3}


# -- what trains what --------------------------------------------------------------------------------------


def test_second_phase_trains_the_class_head_and_nothing_else():
    method = make(**{"ft.share": 0.3})
    run(method, 0, 2)
    still = [toy.weights(m) for m in (method.generator, method.average, method.network.critic)]
    body = toy.weights(method.network.classifier)
    means = method.train_epoch(2)
    assert set(means) == {"loss", "ce_real", "ce_fake"}
    assert means["loss"] == pytest.approx(means["ce_real"] + 0.3 * means["ce_fake"], rel=1e-5)
    after = [toy.weights(m) for m in (method.generator, method.average, method.network.critic)]
    assert all(toy.same(a, b) for a, b in zip(still[:2], after[:2], strict=True))
    assert torch.equal(still[2]["bias"], after[2]["bias"])
    assert not toy.same(body, toy.weights(method.network.classifier))


def test_without_fakes_the_second_phase_has_one_term():
    method = make(**{"ft.share": 0.3, "ft.lambda_f": 0.0})
    assert set(run(method)[2]) == {"loss", "ce_real"}


def test_arms_see_the_same_images_in_the_same_order():
    seen = {}
    for fakes in (0.0, 0.5):
        method = make(**{"ft.share": 0.3, "ft.lambda_f": fakes})
        batches = seen.setdefault(fakes, [])
        original = method.attack_class

        def spy(images, labels, epsilon, original=original, batches=batches):
            batches.append((images[:21], labels[:21]))
            return original(images, labels, epsilon)

        method.attack_class = spy
        run(method)
    assert len(seen[0.0]) == 3
    for left, right in zip(*seen.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_without_a_generator_it_is_adversarial_training_of_the_head():
    """One step equals a PGD-AT step written out: the same attack, cross-entropy, Adam."""
    values = {"generator": False, "epochs": 1, "batch_size": 64, "attack.warmup": 0.0, "spectral_norm": False}
    method, reference = make(**values), make(**values)
    images, labels = next(iter(reference.loader))
    attacked = reference.attack_class(images, labels, 0.1)
    loss = F.cross_entropy(reference.network(attacked), labels)
    loss.backward()
    reference.optimizer_d.step()
    generator = toy.weights(method.generator)
    means = method.train_epoch(0)
    assert set(means) == {"loss", "ce_real"}
    assert means["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert toy.same(toy.weights(method.network), toy.weights(reference.network))
    assert toy.same(generator, toy.weights(method.generator))


def test_generator_steps_every_n_dis_steps():
    method = make(epochs=2, n_dis=3, **{"ft.share": 0.0})
    run(method)
    assert int(next(iter(method.optimizer_g.state.values()))["step"]) == 2
    assert int(next(iter(method.optimizer_d.state.values()))["step"]) == 6


def test_joint_and_separate_batches_agree_without_batch_norm():
    """One step: later ones amplify the rounding, as Adam divides by small moments."""
    values = {"batch_size": 64, "spectral_norm": False}
    joint, apart = (make(joint_batch=flag, **values).train_epoch(0) for flag in (True, False))
    assert joint == pytest.approx(apart, rel=1e-4, abs=1e-6)


def test_average_follows_the_generator():
    """After the first step the decay is min(ema, 2 / 11): (2 old + 9 new) / 11."""
    method = make(batch_size=64, ema=0.9)
    old = method.generator.project.weight.clone()
    method.train_epoch(0)
    expected = (2 * old + 9 * method.generator.project.weight) / 11
    torch.testing.assert_close(method.average.project.weight, expected)
    assert make(ema=0.0).sampler().training is False


# -- resume ------------------------------------------------------------------------------------------------

VARIANTS = [
    {},
    {"loss": "bce", "fake_cls_in_d": True, "spectral_norm": False, "pool": "sum", "d_norm": "batch"},
    {
        "d_norm": "batch",
        "joint_batch": False,
        "ft.frozen_bn": True,
        "ft.schedule": "stages",
        "bn_momentum": 0.9,
    },
    {"n_dis": 2, "ema": 0.0, "r1_gamma": 0.1, "dequantize": 1 / 256, "attack.random_start": False},
    {"schedule": "halve", "reset_optimizer": True, "rounds": 2, "augment": "crop", "ft.lambda_f": 0.0},
    {"generator": False, "schedule": "cosine"},
]


@pytest.mark.parametrize("values", VARIANTS)
def test_resume_is_bit_exact_within_and_between_the_phases(values):
    """4 epochs, the last two of the second phase; interrupted after each; streams restored first or last."""
    values = {**values, "epochs": 4, "ft.share": 0.5}
    straight = make(**values)
    expected = run(straight)
    for done in (1, 2, 3):
        first = make(**values)
        run(first, 0, done)
        file = io.BytesIO()
        torch.save({"method": first.state_dict(), "streams": first.streams.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        second = make(**values)
        if done == 2:
            second.streams.load_state_dict(saved["streams"])
        second.load_state_dict(saved["method"])
        if done != 2:
            second.streams.load_state_dict(saved["streams"])
        assert run(second, done) == expected[done:]
        assert toy.same(toy.weights(second.network), toy.weights(straight.network))
        assert toy.same(toy.weights(second.sampler()), toy.weights(straight.sampler()))
        assert toy.same(toy.weights(second.classifier()), toy.weights(straight.classifier()))
        assert second.passes == straight.passes


def test_checkpoint_rebuilds_the_classifier():
    method = make()
    method.train_epoch(0)
    content = checkpoints.unpack(checkpoints.pack("robgan", method, 1, toy.benchmark().info), "x")
    images = torch.rand(3, 1, 8, 8)
    rebuilt = checkpoints.classifier_of(content)
    torch.testing.assert_close(rebuilt(images), method.network.eval()(images))
    torch.testing.assert_close(rebuilt.head(rebuilt.features(images)), rebuilt(images))
    assert METHODS["robgan"].load_method() is RobGAN


def test_looking_at_the_classifier_changes_nothing():
    quiet, watched = make(), make()
    for method in (quiet, watched):
        for epoch in range(3):
            method.train_epoch(epoch)
            if method is watched:
                method.classifier()
                method.sample(5, method.streams.fresh("look"))
    assert toy.same(toy.weights(quiet.network), toy.weights(watched.network))


# -- guards and samples ------------------------------------------------------------------------------------


def collapsed(**values):
    """Return a method whose generator paints everything grey."""
    method = make(lr_g=0.0, ema=0.0, **values)
    torch.nn.init.zeros_(method.generator.to_image.weight)
    return method


def test_a_collapsed_generator_ends_the_trial_with_its_reason():
    method = collapsed(**{"guards.enabled": True, "guards.grace": 0.0})
    with pytest.raises(
        TrainingFailed, match=r"^collapsed: pixels of fakes deviate by .* as far apart as reals"
    ):
        method.train_epoch(0)


def test_guards_wait_for_the_grace_period_and_can_only_report():
    """Of 2 joint epochs, half a grace lets the first pass; switched off they report collapsed = 1."""
    method = collapsed(**{"guards.enabled": True, "guards.grace": 0.5, "ft.share": 0.3})
    assert method.train_epoch(0)["collapsed"] == 1.0
    with pytest.raises(TrainingFailed, match="collapsed"):
        method.train_epoch(1)
    silent = collapsed()
    assert [means.get("collapsed") for means in run(silent)] == [1.0, 1.0, None]


def test_a_discriminator_that_always_wins_is_counted():
    """A streak of right answers grows by the steps of an epoch, and one wrong step ends it."""
    method = make(**{"ft.share": 0.0})
    method.options = replace(method.options, guards=replace(method.options.guards, accuracy=-1.0))
    assert [means["won_steps"] for means in run(method)] == [3.0, 6.0, 9.0]
    assert make(**{"guards.accuracy": 1.0}).train_epoch(0)["won_steps"] == 0.0


def test_samples_are_judged_when_the_joint_phase_ends():
    method = make(judged=True, **{"ft.share": 0.3})
    means = run(method)
    assert "judge_accuracy" not in means[0]
    assert 0 <= means[1]["judge_accuracy"] <= 1
    assert means[1]["judge_frechet"] > 0


def test_sample_grids_are_written_and_kept(tmp_path):
    """4 classes in rows of 8 images of 8x8 with lines: 37 x 73; one file per joint epoch."""
    from PIL import Image

    method = make(folder=str(tmp_path), **{"ft.share": 0.3})
    assert method.samples is None
    run(method)
    assert method.samples.shape == (37, 73)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["samples-0001.png", "samples-0002.png"]
    picture = np.asarray(Image.open(tmp_path / "samples-0002.png"))
    assert np.array_equal(picture[::4, ::4], method.samples)


def test_a_diverged_training_is_reported():
    method = make(lr_d=1e30, spectral_norm=False, **{"ft.share": 0.0})
    with pytest.raises(TrainingFailed, match="diverged"):
        run(method)


#: attack 2 a step; joint: 3 real + 3 fake + 1 for making it + 5 / n_dis; second phase: twice 3, 1 for the fake.
PASSES = [
    ({}, [4 + 7 + 5, 4 + 7 + 5, 8 + 7]),
    ({"n_dis": 5}, [12, 12, 15]),
    ({"attack.epsilon": 0.0}, [12, 12, 7]),
    ({"ft.lambda_f": 0.0, "r1_gamma": 1.0}, [19, 19, 7]),
    ({"generator": False}, [7, 7, 7]),
    ({"rounds": 2}, [32, 32, 30]),
]


@pytest.mark.parametrize(("values", "expected"), PASSES)
def test_passes_golden(values, expected):
    method = make(**{"n_dis": 1, "ft.share": 0.3, **values})
    found = []
    for epoch in range(3):
        before = method.passes
        method.train_epoch(epoch)
        found.append(method.passes - before)
    assert found == pytest.approx(expected)


# -- the study ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", STUDY.profiles, ids=lambda p: p.dataset)
def test_profiles_name_options_that_exist(profile):
    from tuner.planning.space_overrides import check_setting

    known = fields_of(RobGANOptions)
    for key, value in {**STUDY.space, **profile.settings}.items():
        check_setting(key, value, known)
