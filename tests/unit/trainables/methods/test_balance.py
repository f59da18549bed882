"""balance=weights and balance=sampling: every method has them, exactly resumed; a method that has not is refused."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import Split
from trainables.functional.losses import outlier_exposure
from trainables.methods.adversarial import mart_loss, trades_loss
from trainables.methods.energy import energy_loss
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.ray.trial_runner import TrialRunner

BALANCED = [spec.name for spec in METHODS if "balance" in build(spec.options, {}).__dict__]
FEW: dict[str, dict[str, Any]] = {
    "ant": {"retrain_iters": 1},
    "dyart": {"boundary.steps": 2},
    "pgd_at": {"attack.steps": 1},
    "trades": {"attack.steps": 1},
    "mart": {"attack.steps": 1},
}


def unbalanced() -> Benchmark:
    """Return the toy benchmark with 48 images of class 0, 8 of class 1, 4 of each other one."""
    data = toy.benchmark(256)
    train = data.parts[Split.TRAIN]["id"]
    rows = np.concatenate([np.flatnonzero(train.labels == c)[:n] for c, n in enumerate((48, 8, 4, 4))])
    parts = {**data.parts, Split.TRAIN: {"id": LabelledImages(train.images[rows], train.labels[rows])}}
    return Benchmark(data.info, parts, stage="search")


def trained(method: str, balance: str, epochs: int = 2) -> Any:
    settings = {"epochs": 2, "batch_size": 8, "balance": balance, **FEW.get(method, {})}
    options = build(METHODS[method].options, settings)
    data = unbalanced()
    network = Standard(build(METHODS["standard"].options, {}), toy.context(data=data)).network
    made = METHODS[method].load_method()(options, toy.context(pretrained=network.state_dict, data=data))
    for epoch in range(epochs):
        made.train_epoch(epoch)
    return made


def weights_of(method: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in method.classifier().parameters()])


def test_the_methods_that_train_on_classes_have_the_option() -> None:
    assert set(BALANCED) == set(METHODS.names) - {"robgan"}


@pytest.mark.parametrize("method", BALANCED)
def test_a_method_weighs_its_classes_and_draws_them_equally(method: str) -> None:
    plain, weighed, sampled = (trained(method, kind, epochs=1) for kind in ("none", "weights", "sampling"))
    assert (plain.weighed, weighed.weighed, sampled.weighed) == (False, True, False)
    # 64 / (4 x 48), 64 / (4 x 8), 64 / (4 x 4)
    assert weighed.class_weights.tolist() == pytest.approx([1 / 3, 2, 4, 4])
    assert plain.class_weights is sampled.class_weights is None
    if method == "pretrained":  # keeps its weights
        return
    assert not torch.equal(weights_of(plain), weights_of(weighed))
    assert not torch.equal(weights_of(plain), weights_of(sampled))


@pytest.mark.parametrize("balance", ["weights", "sampling"])
@pytest.mark.parametrize("method", ["standard", "pgd_at", "oe"])
def test_a_resumed_trial_goes_on_bit_for_bit(method: str, balance: str) -> None:
    whole = trained(method, balance)
    first = trained(method, balance, epochs=1)
    state, streams = copy.deepcopy(first.state_dict()), first.streams.state_dict()
    again = trained(method, balance, epochs=0)
    again.load_state_dict(state)
    again.streams.load_state_dict(streams)
    again.train_epoch(1)
    assert torch.equal(weights_of(again), weights_of(whole))


def test_every_loss_takes_the_weights() -> None:
    """Cross-entropies a (three times, class 0) and b (class 1) with weights 2/3 and 2 have the mean (a + b) / 2."""
    labels, weights = torch.tensor([0, 0, 0, 1]), torch.tensor([2 / 3, 2.0])
    logits = torch.tensor([[float(np.log(3)), 0.0]] * 4)
    expected = pytest.approx((np.log(4 / 3) + np.log(4)) / 2)
    assert float(outlier_exposure(logits, labels, logits, 0.0, class_weights=weights)[1]) == expected
    assert float(energy_loss(logits, labels, logits, -1.0, 0.0, 0.1, 1.0, weights)[1]) == expected
    assert float(trades_loss(logits, logits, labels, 1.0, class_weights=weights)[1]) == expected
    # the largest other probability is 1/4 for class 0 and 3/4 for class 1
    boost = (-np.log(1.0001 - 0.25) - np.log(1.0001 - 0.75)) / 2
    bce = float(mart_loss(logits, logits, labels, 1.0, weights)[1])
    assert bce == pytest.approx((np.log(4 / 3) + np.log(4)) / 2 + boost)


def test_a_method_that_does_not_weigh_is_refused() -> None:
    class Deaf(Standard):
        def loss(self, images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(self.network(images), labels)

    runner = TrialRunner()
    runner._name, runner._service = "deaf", {}
    runner._method = Deaf(
        build(METHODS["standard"].options, {"epochs": 1, "balance": "weights"}),
        toy.context(data=unbalanced()),
    )
    runner._epoch = 0
    with pytest.raises(
        InputError, match=r"^balance is weights, but method deaf does not weigh its cross-entropy"
    ):
        runner._step()
