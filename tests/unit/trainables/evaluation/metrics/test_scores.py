"""Outlier scores: values by hand, orientation, ranking and gradients far from where a softmax saturates."""

import math

import pytest
import torch

from trainables.evaluation.metrics.score_specs import SCORES
from trainables.evaluation.metrics.scores import energy, entropy, max_logit, msp


def logits(scale: float = 3.0, n: int = 500) -> torch.Tensor:
    return scale * torch.randn(n, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_by_hand() -> None:
    z = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)  # p = (3/4, 1/4), (1/2, 1/2)
    assert msp(z).tolist() == pytest.approx([-math.log(3), 0])
    assert energy(z).tolist() == pytest.approx([-math.log(4), -math.log(2)])
    assert energy(z, temperature=2.0).tolist() == pytest.approx(
        [-2 * math.log(math.sqrt(3) + 1), -2 * math.log(2)]
    )
    assert max_logit(z).tolist() == pytest.approx([-math.log(3), 0])
    assert entropy(z).tolist() == pytest.approx([math.log(4) - 0.75 * math.log(3), math.log(2)])


def test_msp_ranks_as_the_softmax_does() -> None:
    z = logits()
    p = z.softmax(1).amax(1)
    assert torch.equal(msp(z).argsort(), (-p).argsort())
    torch.testing.assert_close(msp(z), ((1 - p) / p).log(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["msp", "energy", "max_logit"])
def test_confident_images_do_not_tie(name: str) -> None:
    """In float32 all of these have a softmax of exactly 1."""
    z = torch.zeros(50, 10)
    z[:, 3] = torch.linspace(30, 80, 50)
    assert (z.softmax(1).amax(1) == 1).all()
    assert (SCORES[name].load()(z).diff() < 0).all()


@pytest.mark.parametrize("name", SCORES.names)
def test_orientation_dtype_and_shape(name: str) -> None:
    confident, flat = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.1, 0.0, 0.0]])
    assert SCORES[name].load()(flat) > SCORES[name].load()(confident)
    for dtype in (torch.float32, torch.float64):
        out = SCORES[name].load()(logits().to(dtype))
        assert (out.shape, out.dtype) == ((500,), dtype)


@pytest.mark.parametrize("name", SCORES.names)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    z = logits(n=4).requires_grad_(True)
    assert torch.autograd.gradcheck(SCORES[name].load(), z)


@pytest.mark.parametrize("name", SCORES.names)
def test_rows_and_classes_are_independent_of_their_place(name: str) -> None:
    z = logits()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(SCORES[name].load()(z[:, order]), SCORES[name].load()(z))
    torch.testing.assert_close(SCORES[name].load()(z[17:18]), SCORES[name].load()(z)[17:18])


def test_msp_and_entropy_ignore_an_offset_and_energy_follows_it() -> None:
    z = logits()
    torch.testing.assert_close(msp(z + 5), msp(z))
    torch.testing.assert_close(entropy(z + 5), entropy(z))
    torch.testing.assert_close(energy(z + 5), energy(z) - 5)
    torch.testing.assert_close(max_logit(z + 5), max_logit(z) - 5)


@pytest.mark.parametrize("name", SCORES.names)
def test_extreme_and_tied_logits_stay_finite(name: str) -> None:
    z = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [5.0, 5.0, -5.0]]).requires_grad_(True)
    score = SCORES[name].load()(z)
    score.sum().backward()
    assert score.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_entropy_of_the_uniform_law_is_its_largest_value() -> None:
    assert entropy(torch.zeros(1, 7)).item() == pytest.approx(math.log(7))
    assert (entropy(logits()) < math.log(7)).all()
