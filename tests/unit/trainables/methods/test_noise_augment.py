"""Gaussian, multi-sigma and speckle training: exact resume, exact share, and pairing with the other arms."""

import pytest
import torch

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same, weights
from trainables.base.errors import InputError
from trainables.methods.ant import ANT
from trainables.methods.noise_augment import NoiseAugment
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.ant import ANTOptions, NoiseAugmentOptions
from trainables.options.classifiers import StandardOptions
from trainables.options.methods import METHODS

COMMON = {"epochs": 3, "batch_size": 21, "seed": 5}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "grad_clip": 1.0}


def make(seed=5, **values):
    return NoiseAugment(build(NoiseAugmentOptions, {**COMMON, **values}), toy.context(seed, pretrained))


def test_is_registered_by_name():
    assert METHODS["noise_augment"].load_method() is NoiseAugment
    assert METHODS["noise_augment"].options is NoiseAugmentOptions


RESUMES = [
    {},
    {"rms": 0.2},
    {"kind": "gaussian_multi", "from_pretrained": False},
    {"kind": "speckle", "optimizer": "sgd", "lr": 0.02, "schedule": "step", "step_size": 1},
]


@pytest.mark.parametrize("values", RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact_at_every_epoch(values, streams_first):
    for done in (1, 2):
        check_resume(lambda: make(**{**FULL, **values}), streams_first, done)


@pytest.mark.parametrize(("p_clean", "clean"), [(0.0, 0), (0.3, 6), (0.5, 11), (0.8, 17), (1.0, 21)])
def test_noise_on_the_exact_share(p_clean, clean):
    method = make(p_clean=p_clean)
    images = torch.rand(21, 1, 8, 8)
    before = images.clone()
    changed = (method.augmented(images) != images).flatten(1).any(1)
    assert changed.tolist() == [True] * (21 - clean) + [False] * clean
    assert torch.equal(images, before)


def test_kinds_golden():
    """Spread of the change on grey images of 0.4: 0.1, the quadratic mean of 0.02 and 0.1, and 0.4 of that."""
    mean = ((0.02**2 + 0.1**2) / 2) ** 0.5
    for kind, values, expected in (
        ("gaussian", {"sigma": 0.1}, 0.1),
        ("gaussian_multi", {"sigmas": (0.02, 0.1)}, mean),
        ("speckle", {"sigmas": (0.02, 0.1)}, 0.4 * mean),
    ):
        method = make(kind=kind, p_clean=0.0, **values)
        images = torch.full((21, 1, 8, 8), 0.4)
        change = torch.cat([method.augmented(images) - images for _ in range(100)])
        assert change.square().mean().sqrt().item() == pytest.approx(expected, rel=0.03)


def test_upstreams_sigmas_are_the_default():
    for kind, expected in (
        ("gaussian_multi", [0.08, 0.12, 0.18, 0.26, 0.38]),
        ("speckle", [0.15, 0.2, 0.35, 0.45, 0.6]),
    ):
        assert make(kind=kind).sigmas.tolist() == pytest.approx(expected)
    with pytest.raises(InputError, match="sigmas"):
        make(kind="speckle", sigmas=(0.1, -0.1))


@pytest.mark.parametrize("size", [{"rms": 0.2}, {"l2": 1.6}, {"l2": 1.6, "rms": 0.9}])
def test_equal_length_is_that_of_adversarial_noise(size):
    images = torch.rand(21, 1, 8, 8).clamp(0.05, 0.95)
    adversary = ANT(build(ANTOptions, {**COMMON, **size}), toy.context(5, pretrained))
    mine = (make(**size).augmented(images) - images).flatten(1).norm(dim=1)
    theirs = (adversary.mixed(images, torch.zeros(21).long(), [])[0] - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert mine[0].item() == pytest.approx(1.6, rel=1e-5)


def test_without_noise_it_is_the_continuation_bit_for_bit():
    """A control at sigma 0, or on no rows, is standard training from the same weights on the same batches."""
    options = build(StandardOptions, {**COMMON, "from_pretrained": True})
    plain = Standard(options, toy.context(5, pretrained))
    silent, idle = make(sigma=0.0), make(p_clean=1.0)
    for epoch in range(2):
        assert plain.train_epoch(epoch) == silent.train_epoch(epoch) == idle.train_epoch(epoch)
    assert same(weights(plain.network), weights(silent.network))
    assert same(weights(plain.network), weights(idle.network))
    assert plain.passes == silent.passes == 6.0


def test_learns_the_toy_classes_under_noise():
    method = make(epochs=8, sigma=0.2)
    for epoch in range(8):
        method.train_epoch(epoch)
    data = toy.images_of(32, 1)
    predicted = method.classifier().eval()(torch.from_numpy(data.images)).argmax(1)
    assert (predicted == torch.from_numpy(data.labels)).float().mean().item() >= 0.95
