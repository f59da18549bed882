"""Loss terms against numbers worked out by hand."""

import math

import pytest
import torch

from trainables.functional.losses import energy, margin, outlier_exposure, uniformity

ZERO = torch.zeros(3, 5)


def test_energy_golden():
    """E of (0, log 3) is -log(1 + 3); at T = 2 of (0, 2 log 3) it is -2 log 4."""
    logits = torch.tensor([[0.0, math.log(3)]])
    assert energy(logits).item() == pytest.approx(-math.log(4))
    assert energy(2 * logits, temperature=2.0).item() == pytest.approx(-2 * math.log(4))


def test_energy_does_not_overflow():
    assert energy(torch.tensor([[1e4, 0.0]])).item() == pytest.approx(-1e4)


def test_uniformity_of_equal_logits_is_log_classes():
    torch.testing.assert_close(uniformity(ZERO), torch.full((3,), math.log(5)))


def test_uniformity_golden():
    """(log 3, 0): logsumexp is log 4, the mean is log(3) / 2."""
    value = uniformity(torch.tensor([[math.log(3), 0.0]])).item()
    assert value == pytest.approx(math.log(4) - math.log(3) / 2)


def test_uniformity_is_the_cross_entropy_against_the_uniform_law():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = -(logits.log_softmax(1) / 4).sum(1)
    torch.testing.assert_close(uniformity(logits), expected)


def test_uniformity_gradient_is_softmax_minus_uniform():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    uniformity(logits).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - 0.25)


def test_outlier_exposure_golden():
    """Zero logits, 2 classes: both terms are log 2; with 1 and 1 rows 1.5 log 2 apart, 0.75 log 2 jointly."""
    zero = torch.zeros(1, 2)
    labels = torch.zeros(1, dtype=torch.int64)
    loss, ce, outlier_term = outlier_exposure(zero, labels, zero, 0.5)
    assert [loss.item(), ce.item(), outlier_term.item()] == pytest.approx(
        [1.5 * math.log(2), math.log(2), math.log(2)]
    )
    joint, _, _ = outlier_exposure(zero, labels, zero, 0.5, "joint_mean")
    assert joint.item() == pytest.approx(0.75 * math.log(2))


def test_joint_mean_divides_the_sums_by_all_rows():
    """3 inliers and 1 outlier of zero logits over 2 classes: (3 log 2 + 0.5 log 2) / 4."""
    labels = torch.zeros(3, dtype=torch.int64)
    joint, ce, _ = outlier_exposure(torch.zeros(3, 2), labels, torch.zeros(1, 2), 0.5, "joint_mean")
    assert joint.item() == pytest.approx(3.5 * math.log(2) / 4)
    assert ce.item() == pytest.approx(math.log(2))


def test_joint_mean_is_half_of_separate_means_for_equal_halves():
    generator = torch.Generator().manual_seed(2)
    logits_in, logits_out = torch.randn(2, 7, 4, generator=generator)
    labels = torch.arange(7) % 4
    separate, _, _ = outlier_exposure(logits_in, labels, logits_out, 0.3)
    joint, _, _ = outlier_exposure(logits_in, labels, logits_out, 0.3, "joint_mean")
    torch.testing.assert_close(joint, separate / 2)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="separate_means"):
        outlier_exposure(ZERO, torch.zeros(3, dtype=torch.int64), ZERO, 0.5, "sum")


def test_margin_golden():
    """(3, 1, 2): label 0 leads the best other by 1, label 2 trails by 1, label 1 trails by 2."""
    logits = torch.tensor([[3.0, 1.0, 2.0]]).repeat(3, 1)
    assert margin(logits, torch.tensor([0, 2, 1])).tolist() == [1.0, -1.0, -2.0]


def test_margin_has_a_gradient_at_the_two_logits_only():
    logits = torch.tensor([[3.0, 1.0, 2.0]], requires_grad=True)
    margin(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1.0, 0.0, -1.0]]


@pytest.mark.parametrize("score", [energy, uniformity])
def test_half_precision_logits_are_computed_in_float32(score):
    logits = torch.tensor([[8.0, 0.5, -3.0]], dtype=torch.bfloat16)
    assert score(logits).dtype == torch.float32
    torch.testing.assert_close(score(logits), score(logits.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(score(logits.float()), score(logits))
    assert score(logits.double()).dtype == torch.float64
