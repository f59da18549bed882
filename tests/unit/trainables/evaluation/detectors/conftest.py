"""A benchmark and a small classifier trained on it, for the tests of the detectors."""

import pytest

from tests.unit import toy
from trainables.data.loading.open_dataset import load
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.classifiers import StandardOptions


@pytest.fixture(scope="module")
def benchmark():
    return load("digits-open")


@pytest.fixture(scope="module")
def network(benchmark):
    method = Standard(build(StandardOptions, {"epochs": 6}), toy.context(0, data=benchmark.for_search()))
    for epoch in range(6):
        method.train_epoch(epoch)
    return method.network
