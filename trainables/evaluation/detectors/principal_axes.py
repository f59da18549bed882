"""Principal axes of features in double precision, also where features outnumber images."""

import torch
from torch import Tensor

from trainables.base.errors import InputError

LARGEST = 4096  #: the eigenvalues of so many features take a minute on one core, those of twice as many eight


def principal_axes(rows: Tensor, detector: str) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues and eigenvectors of the mean of z z^T over all rows z.

    Of few rows those within their span alone: all other eigenvalues are 0.

    Args:
        rows: (n, d) float64.
        detector: who asks, for the error.

    Returns:
        ((k,) ascending, (d, k) orthonormal columns); k is d, or n where n is at most 3/4 d.

    Raises:
        InputError: more than `LARGEST` axes.

    Example:
        Rows (3, 4, 0, 0) and (0, 0, 0, 2): eigenvalues 2 and 12.5, vectors (0, 0, 0, 1) and (0.6, 0.8, 0, 0).
    """
    n, d = rows.shape
    few = 4 * n <= 3 * d
    if (n if few else d) > LARGEST:
        raise InputError(
            f"{detector} needs the covariance of {d} features of {n} images, which takes hours; it takes at most "
            f"{LARGEST} features or images"
        )
    if not few:
        values, vectors = torch.linalg.eigh(rows.T @ rows / n)
        return values, vectors
    # rows^T = Q R: the matrix is Q (R R^T / n) Q^T, and R R^T is n by n
    basis, triangle = torch.linalg.qr(rows.T)
    values, vectors = torch.linalg.eigh(triangle @ triangle.T / n)
    return values, basis @ vectors
