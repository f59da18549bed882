"""A tiny synthetic benchmark and what methods need around it; no data module, no files, milliseconds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from trainables.data.benchmark import Benchmark, LabelledImages
from trainables.data.splits import DatasetInfo, Split
from trainables.method import Context
from trainables.streams import Streams

CLASSES = 4
SHAPE = (1, 8, 8)


def images_of(count: int, seed: int) -> LabelledImages:
    """Return noisy images whose bright quadrant is their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = rng.uniform(0.0, 0.3, size=(count, *SHAPE))
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[:, row : row + 4, column : column + 4] += 0.5
    return LabelledImages(images.astype(np.float32), labels.astype(np.int64))


def outliers_of(count: int, seed: int) -> np.ndarray:
    """Return uniform noise images."""
    return np.random.default_rng(seed).uniform(size=(count, *SHAPE)).astype(np.float32)


def benchmark(train: int = 64, seed: int = 0) -> Benchmark:
    """Return a benchmark sealed for search with a training and a validation split."""
    info = DatasetInfo("toy", CLASSES, SHAPE, (0.3,), (0.25,), builtin=True)
    parts = {
        Split.TRAIN: {"id": images_of(train, seed)},
        Split.VAL_ID: {"id": images_of(32, seed + 1)},
        Split.TEST_ID: {"id": images_of(32, seed + 2)},
    }
    return Benchmark(info, parts, stage="search")


def context(
    seed: int = 0, pretrained: Callable[[], Any] | None = None, data: Benchmark | None = None
) -> Context:
    """Return a CPU context; 50 outliers depend on the seed that the method passes."""

    def refuse() -> Any:
        raise AssertionError("this method must not ask for pretrained weights")

    return Context(
        data=data or benchmark(),
        streams=Streams(seed),
        device=torch.device("cpu"),
        pretrained=pretrained or refuse,
        outliers=lambda options, outlier_seed: outliers_of(50, outlier_seed % 2**32),
    )
