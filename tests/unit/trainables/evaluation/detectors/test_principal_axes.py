"""Principal axes by whichever of features and images is fewer, and the detectors that need them."""

import pytest
import torch

from tests.unit.trainables.evaluation.detectors.test_detectors import generator, linear
from trainables.base.errors import InputError
from trainables.evaluation.detectors import principal_axes as module
from trainables.evaluation.detectors.mahalanobis import Mahalanobis
from trainables.evaluation.detectors.principal_axes import principal_axes
from trainables.evaluation.detectors.vim import Vim


def few(n=30, d=80):
    """Return (n, d) float64 features of full rank whose axes have very different lengths, and their labels."""
    lengths = torch.logspace(-2, 2, d, dtype=torch.float64)
    return torch.randn(n, d, dtype=torch.float64, generator=generator(3)) * lengths, torch.arange(n) % 3


def test_golden():
    values, axes = principal_axes(torch.tensor([[3.0, 4, 0, 0], [0, 0, 0, 2]], dtype=torch.float64), "x")
    assert values.tolist() == pytest.approx([2.0, 12.5])
    assert axes.abs().T.tolist() == [pytest.approx([0, 0, 0, 1]), pytest.approx([0.6, 0.8, 0, 0])]


@pytest.mark.parametrize(("n", "d", "k"), [(30, 40, 30), (31, 40, 40), (40, 40, 40), (90, 40, 40)])
def test_axes_are_orthonormal_and_make_up_the_matrix(n, d, k):
    rows = few(n, d)[0]
    values, axes = principal_axes(rows, "x")
    assert axes.shape == (d, k)
    assert (values[1:] >= values[:-1]).all()
    torch.testing.assert_close(axes.T @ axes, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-12)
    matrix = rows.T @ rows / n
    torch.testing.assert_close((axes * values) @ axes.T, matrix, rtol=1e-10, atol=1e-10 * float(matrix.max()))


def test_mahalanobis_of_few_images_is_by_the_inverse_written_out():
    """30 images of 80 features: the covariance has rank 27 and is inverted with its ridge, in 80 dimensions."""
    features, labels = few()
    means = torch.stack([features[labels == c].mean(0) for c in range(3)])
    within = features - means[labels]
    inverse = torch.linalg.inv(within.T @ within / 30 + 1e-2 * torch.eye(80, dtype=torch.float64))
    fresh = few(20)[0] + 1
    gaps = fresh[:, None] - means
    expected = torch.einsum("ncd,de,nce->nc", gaps, inverse, gaps).amin(1)
    head = linear([[0.0] * 80] * 3, [0.0] * 3)
    found = Mahalanobis(ridge=1e-2).fit_features(features, labels, head).score_features(fresh)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


def test_vim_of_few_images_is_that_of_all_axes(monkeypatch):
    features, labels = few()
    head = linear(torch.randn(3, 80, generator=generator(1)).tolist(), [0.1, 0.2, 0.3])
    fresh = few(20)[0] + 1
    quick = Vim(dim=10).fit_features(features.float(), labels, head).score_features(fresh.float())
    monkeypatch.setattr("trainables.evaluation.detectors.vim.principal_axes", eigenvectors_of_all)
    slow = Vim(dim=10).fit_features(features.float(), labels, head).score_features(fresh.float())
    torch.testing.assert_close(quick, slow, rtol=1e-8, atol=1e-8)


def eigenvectors_of_all(rows, detector):
    return torch.linalg.eigh(rows.T @ rows / len(rows))


def test_what_would_take_hours_is_refused(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 30)
    assert principal_axes(few(30, 80)[0], "x")[1].shape == (80, 30)
    with pytest.raises(InputError, match="ViM needs the covariance of 80 features of 31 images, which takes"):
        principal_axes(few(31, 80)[0], "ViM")
    with pytest.raises(InputError, match="at most 30 features or images"):
        principal_axes(few(31, 31)[0], "x")
