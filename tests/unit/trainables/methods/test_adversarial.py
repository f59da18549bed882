"""PGD-AT, TRADES and MART: losses by hand, attacks, exact resume, costs."""

import math

import pytest
import torch
from torch import nn

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same
from trainables.methods.adversarial import MART, PGDAT, TRADES, divergence, mart_loss, trades_loss
from trainables.options import build
from trainables.options.adversarial import MARTOptions, PGDATOptions, TRADESOptions
from trainables.options.methods import METHODS

KINDS = {"pgd_at": (PGDAT, PGDATOptions), "trades": (TRADES, TRADESOptions), "mart": (MART, MARTOptions)}
COMMON = {"epochs": 3, "batch_size": 21, "seed": 5, "attack.steps": 2, "attack.epsilon": 0.1}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "grad_clip": 1.0}
QUARTERS = [[math.log(3), 0.0]]  # softmax (3/4, 1/4)


def make(name, **values):
    cls, options = KINDS[name]
    return cls(build(options, {**COMMON, **values}), toy.context(5, pretrained))


@pytest.mark.parametrize("name", KINDS)
def test_is_registered_by_name(name):
    assert METHODS[name].load_method() is KINDS[name][0]
    assert METHODS[name].options is KINDS[name][1]


# -- losses ------------------------------------------------------------------------------------------------


def test_divergence_golden():
    """p = (1/2, 1/2), q = (3/4, 1/4): (log(2/3) + log 2) / 2 = log(2 / sqrt 3); of p from itself 0."""
    clean, attacked = torch.zeros(1, 2), torch.tensor(QUARTERS)
    assert divergence(clean, attacked).item() == pytest.approx(math.log(2 / math.sqrt(3)))
    assert divergence(attacked, attacked).item() == 0
    far = torch.tensor([[1e4, -1e4]])
    assert torch.isfinite(divergence(far, -far)).all()


def test_trades_loss_golden():
    """log 2 + 2 log(2 / sqrt 3), whatever the label of a uniform prediction; smoothing does not change log 2."""
    clean, attacked, labels = torch.zeros(1, 2), torch.tensor(QUARTERS), torch.tensor([0])
    kl = math.log(2 / math.sqrt(3))
    for smoothing in (0.0, 0.1):
        loss, ce, found = trades_loss(clean, attacked, labels, 2.0, smoothing)
        assert [loss.item(), ce.item(), found.item()] == pytest.approx(
            [math.log(2) + 2 * kl, math.log(2), kl]
        )


def test_trades_smoothing_golden():
    """p = (3/4, 1/4), label 0, smoothing .1: .95 log(4/3) + .05 log 4."""
    logits = torch.tensor(QUARTERS)
    _, ce, _ = trades_loss(logits, logits, torch.tensor([0]), 1.0, 0.1)
    assert ce.item() == pytest.approx(0.95 * math.log(4 / 3) + 0.05 * math.log(4))


def test_mart_loss_golden():
    """q = (3/4, 1/4), label 0: log(4/3) - log(1.0001 - 1/4), divergence log(2 / sqrt 3) at doubt 1/2.

    For label 1 the boost is -log(1.0001 - 3/4): a misclassified image costs more than its cross-entropy.
    """
    clean, attacked, kl = torch.zeros(1, 2), torch.tensor(QUARTERS), math.log(2 / math.sqrt(3)) / 2
    for label, p, wrong in ((0, 0.75, 0.25), (1, 0.25, 0.75)):
        loss, bce, found = mart_loss(clean, attacked, torch.tensor([label]), 2.0)
        expected = -math.log(p) - math.log(1.0001 - wrong)
        assert [bce.item(), found.item()] == pytest.approx([expected, kl], rel=1e-5)
        assert loss.item() == pytest.approx(expected + 2 * kl, rel=1e-5)


def test_mart_stays_finite_when_it_is_surely_wrong():
    """q_wrong = 1: the boost is -log(.0001), not infinite."""
    logits = torch.tensor([[-100.0, 100.0]], requires_grad=True)
    loss, bce, _ = mart_loss(logits, logits, torch.tensor([0]), 6.0)
    loss.backward()
    assert bce.item() == pytest.approx(200 - math.log(1e-4), rel=1e-3)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["trades", "mart"])
def test_loss_gradients_in_float64(name):
    function = trades_loss if name == "trades" else mart_loss
    made = torch.Generator().manual_seed(0)
    clean, attacked = (
        torch.randn(4, 5, generator=made, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(lambda a, b: function(a, b, labels, 3.0)[0], (clean, attacked))


# -- attacks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("widen", [1.0, 1.5])
def test_attack_raises_its_objective_within_the_widened_ball(name, widen):
    method = make(name, **{"attack.widen": widen, "attack.steps": 5})
    images, labels = next(iter(method.loader))
    attacked = method.perturb(images, labels, torch.Generator().manual_seed(0))
    objective = method.objective(method.network, images, labels)
    with torch.no_grad():
        assert (objective(attacked) > objective(images)).float().mean() > 0.9
    assert 0.09 * widen < (attacked - images).abs().max().item() <= 0.1 * widen + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert not attacked.requires_grad


def test_trades_attack_follows_the_divergence():
    """Its objective differs from KL(p || q) by the entropy of p only: equal gradients in the images."""
    method = make("trades")
    images, labels = next(iter(method.loader))
    x = (images + 0.01).requires_grad_(True)
    (found,) = torch.autograd.grad(method.objective(method.network, images, labels)(x).sum(), x)
    with torch.no_grad():
        clean = method.network(images)
    (expected,) = torch.autograd.grad(divergence(clean, method.network(x)).sum(), x)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_attack_leaves_batch_norm_and_modes_alone(mode):
    method = make("trades", attack_bn=mode)
    method.network.body.layers[1] = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU())
    method.network.train()
    images, labels = next(iter(method.loader))
    before = {k: v.clone() for k, v in method.network.state_dict().items()}
    method.perturb(images, labels, torch.Generator().manual_seed(0))
    assert same(before, method.network.state_dict())
    assert all(module.training for module in method.network.modules())
    assert all(p.requires_grad for p in method.network.parameters())


def test_without_an_attack_pgd_at_is_cross_entropy():
    """epsilon 0: the mean loss is that of standard training, bit for bit."""
    standard = METHODS["standard"]
    options = {k: v for k, v in COMMON.items() if not k.startswith("attack")} | {"lr": 6e-3}
    plain = standard.load_method()(build(standard.options, options), toy.context(5))
    method = make("pgd_at", **{"attack.epsilon": 0.0})
    assert plain.train_epoch(0) == method.train_epoch(0)
    assert same(plain.network.state_dict(), method.network.state_dict())


# -- the life of a trial -----------------------------------------------------------------------------------

RESUMES = [
    ("pgd_at", {}),
    ("pgd_at", {"from_pretrained": True, "speed_images": 8}),
    ("trades", {"attack_bn": "train", "label_smoothing": 0.1}),
    ("mart", {"optimizer": "sgd", "lr": 0.05}),
]


@pytest.mark.parametrize(("name", "values"), RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact(name, values, streams_first):
    check_resume(lambda: make(name, **{**FULL, **values}), streams_first)


def test_starts_from_the_pretrained_weights_if_asked():
    assert same(make("trades", from_pretrained=True).network.state_dict(), pretrained())
    assert not same(make("trades").network.state_dict(), pretrained())


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("pgd_at", {}, 7.0),
        ("pgd_at", {"attack.epsilon": 0.0}, 3.0),
        ("trades", {}, 11.0),
        ("mart", {}, 10.0),
        ("mart", {"attack.steps": 10}, 26.0),
    ],
)
def test_passes_golden(name, values, expected):
    """Training an image costs 3, an attack step 2; TRADES and MART train on two images, TRADES needs a target."""
    method = make(name, **values)
    method.train_epoch(0)
    assert method.passes == expected


def test_terms_add_up_to_the_loss():
    trades = make("trades", beta=2.0).train_epoch(0)
    mart = make("mart", beta=2.0).train_epoch(0)
    assert trades["loss"] == pytest.approx(trades["ce"] + 2 * trades["divergence"], rel=1e-5)
    assert mart["loss"] == pytest.approx(mart["bce"] + 2 * mart["divergence"], rel=1e-5)


def test_speed_diagnostic_reads_and_does_not_write():
    """Asking for the speed changes no weight, dropout or not; the margin is that of the right images."""
    values = {"attack_bn": "train", "dropout": 0.2}
    plain = make("pgd_at", **values)
    base = [plain.train_epoch(epoch) for epoch in range(2)]
    asked = make("pgd_at", speed_images=16, speed_radius=1.0, **values)
    for epoch in range(2):
        found = asked.train_epoch(epoch)
        assert base[epoch] == {k: v for k, v in found.items() if not k.startswith("speed/")}
        assert 0 <= found["speed/negative"] <= 1
        assert 0 < found["speed/margin"] < 1
    assert same(plain.network.state_dict(), asked.network.state_dict())


def test_adversarial_training_withstands_the_attack_that_fools_the_standard_one():
    """Two-feature sanity check on the toy classes: accuracy on the attacked training images is higher."""
    accuracy = {}
    for epsilon in (0.0, 0.25):
        method = make("pgd_at", epochs=6, **{"attack.epsilon": epsilon, "attack.steps": 5})
        for epoch in range(6):
            method.train_epoch(epoch)
        attacker = make("pgd_at", **{"attack.epsilon": 0.25, "attack.steps": 10})
        attacker.network = method.network
        data = toy.images_of(32, 1)
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
        attacked = attacker.perturb(images, labels, torch.Generator().manual_seed(0))
        accuracy[epsilon] = (method.network(attacked).argmax(1) == labels).float().mean().item()
    assert accuracy[0.25] > accuracy[0.0]
