"""A joint phase that trials share: trained once, the fine-tuning begins where it ended, exact resume."""

import io
from dataclasses import replace

import pytest
import torch

from tests.unit import toy
from trainables.base.errors import InputError, TrainingFailed
from trainables.methods.robgan.robgan import RobGAN
from trainables.options import build
from trainables.options.robgan import RobGANOptions
from trainables.ray.trial_runner import TrialRunner
from trainables.training.trained_once import shared_start

#: 64 toy images in batches of 21: 3 steps an epoch.
TINY = {"epochs": 2, "joint_epochs": 2, "batch_size": 21, "ndf": 2, "ngf": 2, "nz": 3, "judged": False}
TINY |= {"attack.steps": 2, "attack.epsilon": 0.1, "guards.enabled": False}


def make(cache, seed=5, folder=None, **values):
    """Return a trial with a seed of its own; all of them start from the joint phase of seed 0."""
    context = replace(toy.context(seed, toy.pretrained), folder=folder)
    context.shared_start = lambda options, train: shared_start(
        replace(options, seed=0), train, context, cache
    )
    return RobGAN(build(RobGANOptions, {**TINY, "seed": seed, **values}), context)


def run(method, first=0):
    return [method.train_epoch(epoch) for epoch in range(first, method.options.epochs)]


def files(cache):
    return sorted(cache.rglob("*.pt"))


def test_trials_that_differ_in_the_fine_tuning_begin_at_one_end_of_a_joint_phase(tmp_path):
    """With a rate of 0 the class head stays what the joint phase left, whatever the seed and the fakes' weight."""
    still = {"ft.lr": 0.0}
    trials = [make(tmp_path, seed=k, **still, **{"ft.lambda_f": k / 10}) for k in (1, 2)]
    for trial in trials:
        run(trial)
    assert len(files(tmp_path)) == 1
    kept = torch.load(files(tmp_path)[0], weights_only=True)
    for trial in trials:  # buffers aside: spectral norm goes on to estimate
        for name, value in trial.network.classifier.named_parameters():
            assert torch.equal(value, kept["discriminator"][f"classifier.{name}"])
    assert toy.same(toy.weights(trials[0].average), kept["average"])
    moved = make(tmp_path, seed=1)
    run(moved)
    assert len(files(tmp_path)) == 1
    weight = "classifier.body.head.weight"
    assert not torch.equal(dict(moved.network.named_parameters())[weight], kept["discriminator"][weight])


def test_it_is_the_joint_phase_of_a_trial_without_a_second_one(tmp_path):
    """Golden: a Rob-GAN of the joint epochs, without a second phase, with the streams that it is given."""
    run(make(tmp_path, judged=True))
    kept = torch.load(files(tmp_path)[0], weights_only=True)
    values = {**TINY, "joint_epochs": 0, "ft.share": 0.0, "seed": 0, "judged": True}
    seen = {}

    def alone(options, context):
        method = RobGAN(build(RobGANOptions, values), context)
        seen["means"], seen["network"] = run(method)[-1], toy.weights(method.network)
        return {}

    shared_start(build(RobGANOptions, {"seed": 0}), alone, toy.context(7, toy.pretrained), tmp_path / "other")
    assert toy.same(seen["network"], kept["discriminator"])
    assert seen["means"] == kept["means"]


def test_other_options_of_the_joint_phase_are_another_one(tmp_path):
    run(make(tmp_path))
    for values in ({"lr_d": 1e-3}, {"joint_epochs": 1}, {"attack.epsilon": 0.05}):
        run(make(tmp_path, **values))
    assert len(files(tmp_path)) == 4
    run(make(tmp_path, epochs=3, **{"ft.schedule": "constant", "ft.lambda_f": 0.0}))
    assert len(files(tmp_path)) == 4


def test_all_epochs_are_the_second_phase_and_the_first_one_tells_of_the_joint_one(tmp_path):
    first, second = run(make(tmp_path, judged=True))
    assert {"loss_g", "diversity", "judge_accuracy", "epsilon"} <= set(first)
    assert set(second) == {"loss", "ce_real", "ce_fake"}
    assert first["loss"] == pytest.approx(first["ce_real"] + 0.3 * first["ce_fake"], rel=1e-5)


def test_the_fine_tuning_has_a_rate_schedule_of_its_own_epochs(tmp_path):
    """2 epochs of 3 steps by a cosine: at the last of 6 steps (1 + cos(5/6 pi)) / 2 of the rate is left."""
    method = make(tmp_path)
    run(method)
    (group,) = method.optimizer_ft.param_groups
    assert group["lr"] == pytest.approx(method.options.ft.lr * 0.0669873, rel=1e-5)
    assert method.step == 12


def test_a_resume_is_exact_and_needs_the_joint_phase_no_more(tmp_path):
    straight = make(tmp_path)
    expected = run(straight)
    first = make(tmp_path)
    first.train_epoch(0)
    file = io.BytesIO()
    torch.save({"method": first.state_dict(), "streams": first.streams.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    files(tmp_path)[0].unlink()
    second = make(tmp_path)
    second.load_state_dict(saved["method"])
    second.streams.load_state_dict(saved["streams"])
    assert run(second, 1) == expected[1:]
    assert toy.same(toy.weights(second.classifier()), toy.weights(straight.classifier()))
    assert not files(tmp_path)


def test_the_trial_that_trains_it_keeps_its_sample_grids(tmp_path):
    for name, count in (("a", 2), ("b", 0)):
        (tmp_path / name).mkdir()
        run(make(tmp_path / "cache", folder=str(tmp_path / name)))
        assert len(list((tmp_path / name).iterdir())) == count


def test_a_collapse_in_the_joint_phase_fails_the_trial_with_its_reason(tmp_path):
    values = {"guards.enabled": True, "guards.grace": 0.0, "guards.pixel_std": 10.0}
    with pytest.raises(TrainingFailed, match=r"^collapsed: "):
        make(tmp_path, **values).train_epoch(0)
    assert not files(tmp_path)


def test_a_class_head_alone_has_no_joint_phase_to_share():
    with pytest.raises(InputError, match="joint_epochs=2 needs generator=true"):
        build(RobGANOptions, {"joint_epochs": 2, "generator": False})


@pytest.mark.slow
def test_trials_of_a_search_share_it_as_they_share_the_pretrained_classifier(tmp_path):
    """The runner names the seed of the pretrained classifier, not the trial's own."""
    values = {**TINY, "dataset": "digits", "cache_dir": str(tmp_path), "epochs": 1, "joint_epochs": 1}
    values |= {"batch_size": 500}
    runs = tmp_path / "run"
    runs.mkdir(mode=0o700)
    for key, seed, pretrain_seed in (("a", 1, 0), ("b", 2, 0), ("c", 1, 9)):
        runner = TrialRunner()
        service = {"key": key, "method": "robgan", "pretrain_seed": pretrain_seed, "folder": str(runs)}
        runner.setup({**values, "seed": seed, "_service": {**service, "checkpoint": "", "validated": []}})
        assert "failed" not in runner.step()
        runner.cleanup()
    assert len(files(tmp_path / "shared")) == 2
