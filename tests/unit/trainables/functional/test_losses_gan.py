"""Rob-GAN's loss terms against values worked out by hand and finite differences."""

import math

import pytest
import torch

from trainables.functional import losses_gan
from trainables.functional.losses_gan import weights

LOG2, LOG4 = math.log(2), math.log(4)


def test_terms_golden():
    """b = 0 and 2. hinge: real 1, 0; fake 1, 3; fool 0, -2. bce: log 2, log(1 + e^-2); fake log(1 + e^2)."""
    b = torch.tensor([0.0, 2.0])
    near, far = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    expected = {
        ("real_term", "hinge"): [1, 0],
        ("fake_term", "hinge"): [1, 3],
        ("fooling_term", "hinge"): [0, -2],
        ("real_term", "bce"): [LOG2, near],
        ("fake_term", "bce"): [LOG2, far],
        ("fooling_term", "bce"): [LOG2, near],
    }
    for (name, loss), values in expected.items():
        assert getattr(losses_gan, name)(b, loss).tolist() == pytest.approx(values)
    with pytest.raises(ValueError, match="known: hinge, bce"):
        losses_gan.real_term(b, "wasserstein")


#: L_D of zero logits of 4 classes with w_c = 1: our loss .5 + 1 of log 2 and .5 log 4 (= log 2), AC-GAN
#: .5 + .5 of log 2 and twice .5 log 4; hinge 1 + 1 and one or two log 4.
LOSS_D = [
    ("bce", False, 2.5 * LOG2),
    ("bce", True, 3 * LOG2),
    ("hinge", False, 2 + LOG4),
    ("hinge", True, 2 + 2 * LOG4),
]


@pytest.mark.parametrize(("loss", "on_fakes", "expected"), LOSS_D)
def test_discriminator_loss_golden(loss, on_fakes, expected):
    heads = torch.zeros(2), torch.zeros(2, 4), torch.tensor([0, 3])
    total, terms = losses_gan.discriminator_loss(heads, heads, loss, weights(loss, on_fakes))
    assert total.item() == pytest.approx(expected)
    assert terms["ce_fake"].item() == pytest.approx(LOG4)


@pytest.mark.parametrize(("loss", "expected"), [("bce", 1.5 * LOG2), ("hinge", LOG4)])
def test_generator_loss_golden(loss, expected):
    """bce: half of log 2 and half of log 4; hinge: 0 and log 4."""
    value = losses_gan.generator_loss(
        torch.zeros(2), torch.zeros(2, 4), torch.tensor([1, 2]), loss, weights(loss, False)
    )
    assert value.item() == pytest.approx(expected)


def test_finetune_loss_golden():
    """Zero logits of 4 classes: log 4 on the reals, lambda log 4 on the fakes."""
    logits, labels = torch.zeros(3, 4), torch.tensor([0, 1, 2])
    total, _ = losses_gan.finetune_loss(logits, labels, logits, labels, 0.5)
    assert total.item() == pytest.approx(1.5 * LOG4)
    total, terms = losses_gan.finetune_loss(logits, labels, logits[:0], labels[:0], 0.5)
    assert total.item() == pytest.approx(LOG4)
    assert set(terms) == {"ce_real"}


@pytest.mark.parametrize("loss", ["hinge", "bce"])
def test_losses_have_the_gradients_of_finite_differences(loss):
    """In float64, away from the hinge's kinks."""
    torch.manual_seed(0)
    b, c = torch.randn(4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    y, weigh = torch.tensor([0, 1, 2, 0]), weights(loss, True, 0.7, 0.3)

    def of_d(rb, rc, fb, fc):
        return losses_gan.discriminator_loss((rb, rc, y), (fb, fc, y), loss, weigh)[0]

    def of_g(fb, fc):
        return losses_gan.generator_loss(fb, fc, y, loss, weigh)

    inputs = [t.clone().requires_grad_(True) for t in (b, c, b.flip(0), c.flip(0))]
    assert torch.autograd.gradcheck(of_d, inputs)
    assert torch.autograd.gradcheck(of_g, inputs[:2])


def test_r1_golden_and_gradient():
    """b = 2 sum(2 x - 1) over 3 pixels: half of 3 * 2^2 is 6; with slope w: 3 w^2 / 2, so a gradient of 3 w."""
    x = torch.rand(2, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    penalty = losses_gan.r1_penalty((w * (2 * x - 1)).sum((1, 2, 3)), x)
    assert penalty.item() == pytest.approx(6.0)
    penalty.backward()
    assert w.grad.item() == pytest.approx(6.0)


@pytest.mark.parametrize("loss", ["hinge", "bce"])
@pytest.mark.parametrize("on_fakes", [False, True])
def test_class_head_learns_from_fakes_only_if_asked_to(loss, on_fakes):
    """The paper's loss gives the class head no gradient from fakes, AC-GAN's does."""
    b, c = torch.zeros(2), torch.zeros(2, 4, requires_grad=True)
    y = torch.tensor([0, 1])
    real = torch.zeros(2), torch.zeros(2, 4), y
    total, _ = losses_gan.discriminator_loss(real, (b + 0 * c.sum(1), c, y), loss, weights(loss, on_fakes))
    total.backward()
    assert bool(c.grad.abs().sum() > 0) is on_fakes
