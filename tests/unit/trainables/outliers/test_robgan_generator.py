"""Rob-GAN's generator as a source of outliers: paired by sigma, read back exactly, no trace in global states."""

import io

import numpy as np
import pytest
import torch

from tests.unit import toy
from trainables.outliers import robgan_generator
from trainables.outliers.robgan_generator import RobGANOutliers


@pytest.fixture(scope="module")
def fitted():
    """Fit once on the toy images, 4 steps, with the global random states watched."""
    before, steps = torch.get_rng_state(), robgan_generator.STEPS
    np_before = np.random.get_state()[1].copy()
    robgan_generator.STEPS = 4
    try:
        generator = RobGANOutliers()
        generator.fit(toy.images_of(64, 0))
    finally:
        robgan_generator.STEPS = steps
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(np_before, np.random.get_state()[1])
    return generator


def test_outliers_scale_their_latents_with_sigma(fitted):
    """At sigma 0 all outliers of a class are one image; equal random states give equal classes at every sigma."""
    still = fitted.sample(40, 0.0, np.random.default_rng(0))
    assert still.shape == (40, 1, 8, 8)
    assert still.dtype == np.float32
    assert len(np.unique(still.reshape(40, -1).round(5), axis=0)) <= toy.CLASSES
    near = fitted.sample(40, 1e-4, np.random.default_rng(0))
    assert np.abs(near - still).max() < 1e-3
    assert np.array_equal(near, fitted.sample(40, 1e-4, np.random.default_rng(0)))
    assert np.abs(fitted.sample(40, 3.0, np.random.default_rng(0)) - still).max() > 1e-3


def test_outlier_state_survives_its_file(fitted):
    file = io.BytesIO()
    np.savez(file, **fitted.state())
    file.seek(0)
    second = RobGANOutliers()
    second.load_state(dict(np.load(file)))
    left, right = (g.sample(9, 2.0, np.random.default_rng(1)) for g in (fitted, second))
    assert np.array_equal(left, right)
    for damage in ("sizes", "weight.project.weight"):
        with pytest.raises((KeyError, ValueError)):
            RobGANOutliers().load_state({k: v for k, v in fitted.state().items() if k != damage})
    with pytest.raises(ValueError, match="do not fit"):
        RobGANOutliers().load_state({**fitted.state(), "weight.project.weight": np.zeros((2, 2), np.float32)})
