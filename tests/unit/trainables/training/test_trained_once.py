"""Trainings that trials share: done once for equal options, seed and images, and without effect on the trial."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit import toy
from trainables.base.errors import TrainingFailed
from trainables.options.common import RunOptions
from trainables.training.trained_once import shared_start, start_hash

OPTIONS = RunOptions(dataset="toy", seed=3)


def drawing(calls):
    """Return a training whose result is a random number of its context's streams and of each global generator."""

    def train(options, context):
        calls.append(options)
        drawn = [torch.rand(1, generator=context.streams.get("weights")), torch.rand(1)]
        return {"weights": torch.cat(drawn), "means": {"loss": random.random() + float(np.random.rand())}}

    return train


def start(folder, calls, options=OPTIONS, context=None):
    return shared_start(options, drawing(calls), context or toy.context(5), folder)


def test_trains_once_and_then_reads_the_file(tmp_path):
    calls = []
    first = start(tmp_path, calls)
    again = start(tmp_path, calls, context=toy.context(99))  # another trial
    assert calls == [OPTIONS]
    assert torch.equal(first["weights"], again["weights"])
    assert first["means"] == again["means"]
    assert [path.suffix for path in (tmp_path / "shared").iterdir()].count(".pt") == 1


def test_another_seed_is_another_training(tmp_path):
    calls = []
    first, second = start(tmp_path, calls), start(tmp_path, calls, replace(OPTIONS, seed=4))
    assert len(calls) == 2
    assert not torch.equal(first["weights"], second["weights"])
    assert first["means"] != second["means"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"epochs": 3}, False),
        ({"threads": 2}, False),
        ({"cache_dir": "/x"}, True),
        ({"data_dir": "/x"}, True),
    ],
)
def test_what_decides_the_result_decides_the_name(change, same):
    base = start_hash(OPTIONS, toy.context())
    assert (start_hash(replace(OPTIONS, **change), toy.context()) == base) is same


def test_other_images_are_another_training():
    assert start_hash(OPTIONS, toy.context()) != start_hash(OPTIONS, toy.context(data=toy.benchmark(seed=1)))


def test_a_trial_draws_the_same_whether_it_trained_or_read(tmp_path):
    def draws(context):
        return [
            random.random(),
            np.random.rand(),
            torch.rand(1).item(),
            torch.rand(1, generator=context.streams.get("weights")).item(),
        ]

    drawn = []
    for folder in (None, tmp_path, tmp_path):
        context = toy.context(5)
        if folder:
            start(folder, [], context=context)
        drawn.append(draws(context))
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("damage", [b"", b"not a file of torch", None])
def test_a_damaged_file_is_trained_again(tmp_path, damage, caplog):
    calls = []
    expected = start(tmp_path, calls)
    (path,) = tmp_path.rglob("*.pt")
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    assert torch.equal(start(tmp_path, calls)["weights"], expected["weights"])
    assert len(calls) == 2
    assert str(path) in caplog.text


def test_code_in_a_file_is_not_run(tmp_path, caplog):
    calls = []
    start(tmp_path, calls)
    (path,) = tmp_path.rglob("*.pt")
    torch.save({"weights": random.Random(0)}, path)
    start(tmp_path, calls)
    assert len(calls) == 2
    assert "cannot be read (UnpicklingError)" in caplog.text


def test_a_training_that_failed_is_not_kept(tmp_path):
    def fail(options, context):
        raise TrainingFailed("collapsed")

    with pytest.raises(TrainingFailed):
        shared_start(OPTIONS, fail, toy.context(), tmp_path)
    assert not list(tmp_path.rglob("*.pt"))
    calls = []
    start(tmp_path, calls)
    assert len(calls) == 1
