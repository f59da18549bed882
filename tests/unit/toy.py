"""A tiny synthetic benchmark and what methods need around it; no data module, no files, milliseconds."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trainables.base.streams import Streams
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import DatasetInfo, Split
from trainables.networks import build as build_network
from trainables.training.method import Context, Method

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


def pretrained(network: str = "small_cnn") -> dict[str, torch.Tensor]:
    """Return the weights of an untrained network of seed 0, in place of a pretrained classifier's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        info = benchmark().info
        return build_network(network, info.num_classes, info.shape, info.mean, info.std).state_dict()


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a module's state that further training does not change."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two states agree bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def round_trip(state: Any) -> Any:
    """Return a state as a checkpoint file gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def check_resume(
    make: Callable[[], Method], streams_first: bool, done: int = 1, epochs: int = 3
) -> tuple[Method, Method]:
    """Train straight through, and again with a save and a load after `done` epochs; assert that nothing differs.

    Returns:
        The straight and the resumed method, for what else is to be compared.
    """
    straight = make()
    expected = [straight.train_epoch(epoch) for epoch in range(epochs)]
    first = make()
    for epoch in range(done):
        first.train_epoch(epoch)
    saved = round_trip({"method": first.state_dict(), "streams": first.streams.state_dict()})
    second = make()
    if streams_first:
        second.streams.load_state_dict(saved["streams"])
    second.load_state_dict(saved["method"])
    if not streams_first:
        second.streams.load_state_dict(saved["streams"])
    assert [second.train_epoch(epoch) for epoch in range(done, epochs)] == expected[done:]
    assert same(second.network.state_dict(), straight.network.state_dict())
    assert same(second.classifier().state_dict(), straight.classifier().state_dict())
    assert second.passes == straight.passes
    return straight, second
