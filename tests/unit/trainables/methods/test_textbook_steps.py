"""Our float32 steps beside the plain loops that `benchmarks/steps.py` measures them against: the same updates."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.unit import toy
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.classifiers import StandardOptions
from trainables.options.methods import METHODS

BATCH, EPSILON, STEPS = 32, 0.1, 3
ATTACK = {"attack.epsilon": EPSILON, "attack.steps": STEPS}
DYART = {
    "boundary.search": "fab",
    "boundary.steps": STEPS,
    "boundary.quality_filter": False,
    "grad_clip": 0.0,
}


def textbook():
    path = Path(__file__).resolve().parents[4] / "benchmarks" / "textbook.py"
    spec = importlib.util.spec_from_file_location("textbook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Textbook


@pytest.fixture(scope="module")
def trained():
    method = Standard(build(StandardOptions, {"epochs": 2, "batch_size": 8}), toy.context(5))
    for epoch in range(2):
        method.train_epoch(epoch)
    return method.network


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("name", "step", "values"),
    [
        ("standard", "standard", {}),
        ("oe", "oe", {}),
        ("aoe", "aoe_fgsm", {**ATTACK, "attack.name": "fgsm", "attack_bn": "train"}),
        ("aoe", "aoe_pgd", {**ATTACK, "attack.name": "pgd", "attack_bn": "train"}),
        ("pgd_at", "pgd_at", ATTACK),
        ("trades", "trades", ATTACK),
        ("mart", "mart", ATTACK),
        ("dyart", "dyart", DYART),
    ],
)
def test_a_step_is_the_textbooks(name, step, values, backward, trained, monkeypatch):
    # the loops draw their random starts elsewhere: here both start at the same corner of the ball
    def corner(self, low, high, **_):
        signs = torch.arange(self.numel()).mul(2654435761).bitwise_and(64).gt(0).view(self.shape)
        return self.copy_(torch.where(signs, low, high))

    monkeypatch.setattr(torch.Tensor, "uniform_", corner)
    entry = METHODS[name]
    given = {
        "batch_size": BATCH,
        "epochs": 1,
        "optimizer": "sgd",
        "lr": 1.0,
        "schedule": "constant",
        "seed": 5,
    }
    if name not in ("oe", "aoe", "dyart"):
        given["from_pretrained"] = True
    data = toy.benchmark(train=BATCH)
    context = toy.context(5, lambda: toy.weights(trained), data)
    drawn = torch.tensor(toy.outliers_of(BATCH, 3))
    context.outliers = lambda *_: drawn.numpy()
    method = entry.load_method()(build(entry.options, given | values), context)
    loop = textbook()(copy.deepcopy(trained), EPSILON, STEPS, backward, lr=1.0)
    start = torch.cat([p.detach().flatten().clone() for p in trained.parameters()])
    images, labels = next(iter(method.loader))
    method.outliers = type("Outliers", (), {"next": lambda *_: drawn})()
    method.loader = Batches(images, labels)
    found = method.train_epoch(0)["loss"]
    expected = getattr(loop, step)(images, labels, drawn)
    ours, theirs = (
        torch.cat([p.detach().flatten() for p in network.parameters()]) - start
        for network in (method.network, loop.network)
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert F.cosine_similarity(ours, theirs, dim=0) >= 0.9999
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1, abs=2e-3)


class Batches:
    """One batch, whatever the order."""

    batch_size, generator = BATCH, None

    def __init__(self, images, labels):
        self.batch = images, labels

    def __iter__(self):
        yield self.batch
