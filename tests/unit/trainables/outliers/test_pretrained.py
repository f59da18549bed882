"""The cache of pretrained classifiers: trained once, safe to load, and without effect on its caller."""

import multiprocessing
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit import toy
from trainables.base.cache import default_cache_dir
from trainables.base.errors import DataFileError
from trainables.options.classifiers import OEOptions
from trainables.options.common import PretrainOptions
from trainables.outliers import pretrained
from trainables.outliers.pretrained import content_hash, pretrained_state

OPTIONS = OEOptions(dataset="toy", network="small_cnn", seed=3)
PRETRAIN = PretrainOptions(epochs=1)


def state(folder, options=OPTIONS, pretrain=PRETRAIN, data=None):
    return pretrained_state(options, pretrain, data or toy.benchmark(), folder, "cpu")


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def files(folder):
    return sorted(folder.rglob("*.pt"))


def test_trains_once_and_then_reads_the_file(tmp_path, monkeypatch):
    first = state(tmp_path)
    assert len(files(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(pretrained, "_train", None)  # a second training would fail
    assert same(first, state(tmp_path))


def test_an_emptied_cache_gives_the_same_weights(tmp_path):
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))


@pytest.mark.parametrize(
    "change",
    [
        {"options": replace(OPTIONS, seed=4)},
        {"options": replace(OPTIONS, network="wrn_40_2")},
        {"pretrain": replace(PRETRAIN, lr=1e-4)},
        {"pretrain": replace(PRETRAIN, epochs=2)},
        {"pretrain": replace(PRETRAIN, dropout=0.3)},
        {"pretrain": replace(PRETRAIN, ema=0.9)},
        {"pretrain": replace(PRETRAIN, warmup=0.025)},
        {"benchmark": toy.benchmark(seed=1)},
    ],
)
def test_what_decides_the_weights_decides_the_name(change):
    base = {"options": OPTIONS, "pretrain": PRETRAIN, "benchmark": toy.benchmark()}
    assert content_hash(**{**base, **change}) != content_hash(**base)


@pytest.mark.parametrize(
    "change", [{"lr": 0.5}, {"epochs": 3}, {"dropout": 0.5}, {"ema": 0.9}, {"batch_size": 7}]
)
def test_options_of_the_fine_tuning_do_not(change):
    base = content_hash(OPTIONS, PRETRAIN, toy.benchmark())
    assert content_hash(replace(OPTIONS, **change), PRETRAIN, toy.benchmark()) == base


def test_global_generators_are_left_alone(tmp_path):
    """Both when it trains and when it reads, the caller's next draws are those of an undisturbed run."""

    def draws(between):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        between()
        return [random.random(), np.random.rand(), torch.rand(1).item()]

    undisturbed = draws(lambda: None)
    assert draws(lambda: state(tmp_path)) == undisturbed
    assert draws(lambda: state(tmp_path)) == undisturbed


@pytest.mark.parametrize("damage", [b"", b"not a file of torch", None])
def test_a_damaged_cache_file_is_trained_again(tmp_path, damage, caplog):
    expected = state(tmp_path)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-2000] if damage is None else damage)
    assert same(state(tmp_path), expected)
    assert str(path) in caplog.text
    assert same(torch.load(path, weights_only=True)["network"], expected)


def test_zero_epochs_give_the_initial_network(tmp_path):
    untrained = state(tmp_path, pretrain=replace(PRETRAIN, epochs=0))
    assert not same(untrained, state(tmp_path))


def _concurrent(folder, results):
    trained = []
    original = pretrained._train

    def counting(*arguments):
        trained.append(1)
        return original(*arguments)

    pretrained._train = counting
    torch.set_num_threads(1)
    found = state(folder)
    results.put((len(trained), float(sum(v.double().sum() for v in found.values()))))


@pytest.mark.slow
def test_two_processes_train_it_once(tmp_path):
    processes = multiprocessing.get_context("spawn")  # a fork would inherit the threads of torch
    results = processes.Queue()
    workers = [processes.Process(target=_concurrent, args=(tmp_path, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert sorted(count for count, _ in found) == [0, 1]
    assert found[0][1] == found[1][1]


def test_a_given_checkpoint_is_taken(tmp_path):
    expected = state(tmp_path)
    path = tmp_path / "mine.pt"
    torch.save(expected, path)
    given = replace(PRETRAIN, checkpoint=str(path))
    assert same(state(tmp_path / "other", pretrain=given), expected)
    assert not files(tmp_path / "other")


def _bad_checkpoint(kind, path):
    if kind == "missing":
        return
    if kind == "corrupt":
        path.write_bytes(b"PK\x03\x04 broken")
    elif kind == "pickled":
        torch.save({"network": toy.CLASSES, "code": random.Random(0)}, path)
    elif kind == "other keys":
        torch.save({"layer.weight": torch.zeros(2)}, path)
    elif kind == "no dict":
        torch.save(torch.zeros(3), path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "is not a file"),
        ("corrupt", "cannot be read"),
        ("pickled", "cannot be read"),
        ("other keys", r"it lacks: layers\.0\.weight, .* and 5 more; it has: layer\.weight$"),
        ("no dict", "not a dict of tensors"),
    ],
)
def test_a_bad_checkpoint_is_one_line_that_names_the_file(tmp_path, kind, message):
    path = tmp_path / "mine.pt"
    _bad_checkpoint(kind, path)
    with pytest.raises(DataFileError, match=message) as caught:
        state(tmp_path, pretrain=replace(PRETRAIN, checkpoint=str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_shapes_or_values_is_refused(tmp_path):
    good = state(tmp_path)
    path = tmp_path / "mine.pt"
    given = replace(PRETRAIN, checkpoint=str(path))
    torch.save({**good, "body.head.bias": torch.zeros(9)}, path)
    with pytest.raises(DataFileError, match=r"head.bias has shape \(9,\), not \(4,\)"):
        state(tmp_path, pretrain=given)
    torch.save({**good, "body.head.bias": torch.full((4,), float("nan"))}, path)
    with pytest.raises(DataFileError, match="not finite"):
        state(tmp_path, pretrain=given)


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "robust-tuner"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "robust-tuner"


def test_a_hash_of_before_the_later_options_stays():
    """Golden: the name of the file that earlier versions wrote for this recipe."""
    assert content_hash(OPTIONS, PRETRAIN, toy.benchmark()) == "840ce75907e4a15aea7b7f0c92a7249f"


def test_the_weight_average_is_what_training_starts_from(tmp_path, monkeypatch):
    """With decay 0.9 it lags behind the weights, which are those of the training without an average."""
    averaged = state(tmp_path, pretrain=replace(PRETRAIN, ema=0.9))
    plain = state(tmp_path)
    trained = []
    train = pretrained.Standard.train_epoch

    def kept(self, epoch):
        means = train(self, epoch)
        trained.append(self)
        return means

    monkeypatch.setattr(pretrained.Standard, "train_epoch", kept)
    pretrained._train(OPTIONS, replace(PRETRAIN, ema=0.9), toy.benchmark(), torch.device("cpu"))
    assert same(trained[0].network.state_dict(), plain)
    assert same(trained[0].trainer.average.state_dict(), averaged)
    assert not same(plain, averaged)


def test_pretraining_has_the_dropout_of_its_own_recipe(tmp_path):
    options = replace(OPTIONS, network="wrn_40_2")
    with_dropout = pretrained._train(
        options, replace(PRETRAIN, dropout=0.3), toy.benchmark(), torch.device("cpu")
    )
    without = pretrained._train(options, PRETRAIN, toy.benchmark(), torch.device("cpu"))
    fine_tuning = pretrained._train(
        replace(options, dropout=0.3), PRETRAIN, toy.benchmark(), torch.device("cpu")
    )
    assert not same(with_dropout, without)
    assert same(fine_tuning, without)
