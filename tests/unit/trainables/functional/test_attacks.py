"""Attacks: hand-worked steps on linear functions, and that a network comes out as it went in."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainables.functional.attacks import (
    ascend,
    attack_mode,
    epsilon_at,
    perturb_inliers,
    perturb_outliers,
)
from trainables.functional.losses import energy, uniformity
from trainables.networks import build
from trainables.options.attacks import OUTLIER_ATTACKS
from trainables.options.classifiers import InlierAttackOptions
from trainables.options.common import AttackOptions

EPSILON = 0.1
#: In float32, x + epsilon - x can exceed epsilon by a rounding error of x.
ULP = 1e-6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int, seed: int = 0) -> torch.Tensor:
    images = torch.rand(count, 1, 8, 8, generator=generator(seed))
    images[:, :, 0] = 0.0  # rows on the edges of the box
    images[:, :, 1] = 1.0
    return images


def with_batch_norm() -> nn.Module:
    """A small network that has batch norm and dropout, in a mixture of modes and with a frozen parameter."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 64, 3),
    )
    network.train()
    network[3].eval()
    network[0].bias.requires_grad_(False)
    return network


class Linear(nn.Module):
    """f = W x on flattened images."""

    def __init__(self, classes: int = 3, seed: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 64, generator=generator(seed)))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def options(name: str, **changes) -> AttackOptions:
    return replace(AttackOptions(name=name, epsilon=EPSILON, steps=3), **changes)


def attack(network, outliers, chosen, seed=0, **keywords):
    labels = torch.arange(6) % 3
    return perturb_outliers(
        network, batch(6, 9), labels, outliers, chosen, generator(seed), oe_weight=0.5, **keywords
    )


def test_one_step_golden():
    """Ascending the sum by one step of 0.1: 0.5 becomes 0.6, 0.95 meets the box at 1, 0 becomes 0.1."""
    images = torch.tensor([0.5, 0.95, 0.0]).view(1, 1, 1, 3)
    moved = ascend(lambda x: x.sum((1, 2, 3)), images, 0.1, 1, step_scale=1.0, random_start=False)
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.6, 1.0, 0.1]))


def test_step_length_golden():
    """Epsilon 0.4 in 4 steps of scale 1: each moves 0.1."""
    images = torch.full((1, 1, 1, 1), 0.5)
    seen: list[float] = []

    def objective(x):
        seen.append(x.item())
        return x.sum((1, 2, 3))

    moved = ascend(objective, images, 0.4, 4, step_scale=1.0, random_start=False)
    assert [*seen, moved.item()] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])


def test_linear_objective_is_raised_exactly_to_epsilon():
    """A linear objective w.x has its maximum over the ball at x + epsilon sign(w), away from the box."""
    weight = torch.randn(1, 1, 8, 8, generator=generator(1))
    images = 0.3 + 0.4 * torch.rand(5, 1, 8, 8, generator=generator(2))
    moved = ascend(lambda x: (weight * x).sum((1, 2, 3)), images, EPSILON, 10, generator=generator())
    torch.testing.assert_close(moved, images + EPSILON * weight.sign())


def test_without_clamping_the_box_confines_the_random_start_alone():
    """0.5 and 0.95 plus 0.2 are 0.7 and 1.15; of 1.0 the start is at most 1, and no step of length 0 moves it on."""
    images = torch.tensor([0.5, 0.95]).view(1, 1, 1, 2)
    rise = {"step_scale": 1.0, "clamp": False}
    moved = ascend(lambda x: x.sum((1, 2, 3)), images, 0.2, 1, random_start=False, **rise)
    assert moved.flatten().tolist() == pytest.approx([0.7, 1.15])
    start = ascend(lambda x: x.sum((1, 2, 3)), torch.ones(1, 1, 4, 4), 0.2, 1, step_scale=0.0, clamp=False)
    assert start.max() == 1.0
    assert start.min() >= 0.8


@pytest.mark.parametrize(("clamp", "change"), [(False, 0.5), (True, 0.375)])
def test_eba_without_clamping_moves_every_value_by_epsilon(clamp, change):
    """Of values uniform in [0, 1] a step of 0.5 within the box keeps 0.375 on the mean: 0.5 - 0.5 * 0.5 ** 2."""
    outliers = torch.rand(400, 1, 8, 8, generator=generator(1))
    moved = attack(Linear(), outliers, options("eba", epsilon=0.5), clamp=clamp)
    assert (moved - outliers).abs().mean().item() == pytest.approx(change, abs=0.003)
    noisy = attack(Linear(), outliers, options("signnoise", epsilon=0.5), clamp=clamp)
    assert (noisy - outliers).abs().mean().item() == pytest.approx(change, abs=0.003)


def test_momentum_golden():
    """MI-FGSM, mu = 1, two pixels, objective with gradient (2, 1) first and (-1, 4) after.

    Step 1: g = (2, 1) / 1.5 = (4/3, 2/3): both up. Step 2: (-1, 4) / 2.5 + g = (14/15, 34/15): both up.
    Without momentum the first pixel would turn back in step 2.
    """
    gradients = [torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 4.0])]
    images = torch.full((1, 1, 1, 2), 0.5)

    def run(momentum):
        remaining = iter(gradients)
        return ascend(
            lambda x: (x.flatten(1) * next(remaining)).sum(1),
            images,
            0.2,
            2,
            step_scale=1.0,
            momentum=momentum,
            random_start=False,
        ).flatten()

    torch.testing.assert_close(run(1.0), torch.tensor([0.7, 0.7]))
    torch.testing.assert_close(run(None), torch.tensor([0.5, 0.7]))


def test_momentum_survives_a_vanished_gradient():
    """The second gradient is 0: the direction of the first goes on, and nothing becomes NaN."""
    factors = iter([1.0, 0.0])
    images = torch.full((1, 1, 1, 2), 0.5)
    moved = ascend(
        lambda x: next(factors) * x.sum((1, 2, 3)),
        images,
        0.2,
        2,
        step_scale=1.0,
        momentum=0.5,
        random_start=False,
    )
    torch.testing.assert_close(moved, torch.full_like(images, 0.7))


def test_works_where_the_caller_turned_gradients_off():
    images = torch.full((1, 1, 1, 1), 0.5)
    with torch.no_grad():
        moved = ascend(lambda x: x.sum((1, 2, 3)), images, 0.1, 2, generator=generator())
    assert moved.item() == pytest.approx(0.6)
    assert not moved.requires_grad


def test_random_start_depends_on_the_generator_only():
    images = batch(4)
    runs = [
        ascend(lambda x: 0 * x.sum((1, 2, 3)), images, EPSILON, 1, generator=generator(s)) for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", OUTLIER_ATTACKS.names)
def test_outlier_attacks_keep_the_ball_the_box_and_the_network(name, mode):
    network, outliers = with_batch_norm(), batch(5)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    identities = {k: id(v) for k, v in network.named_buffers()}
    modes = [m.training for m in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    original = outliers.clone()
    moved = attack(network, outliers, options(name), mode=mode)

    assert moved.shape == outliers.shape
    assert not moved.requires_grad
    assert moved.min() >= 0
    assert moved.max() <= 1
    if name != "gauss":  # there epsilon is a standard deviation
        assert (moved - outliers).abs().max() <= EPSILON + ULP
    assert torch.equal(moved, outliers) == (name == "none")
    assert torch.equal(outliers, original)
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == flags
    assert all(p.grad is None for p in network.parameters())
    assert {k: id(v) for k, v in network.named_buffers()} == identities
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", OUTLIER_ATTACKS.names)
def test_epsilon_zero_is_the_identity(name):
    outliers = batch(5)
    assert torch.equal(attack(with_batch_norm(), outliers, options(name, epsilon=0.0)), outliers)
    assert torch.equal(attack(with_batch_norm(), outliers, options(name), epsilon=0.0), outliers)


@pytest.mark.parametrize("name", OUTLIER_ATTACKS.names)
def test_inliers_are_only_read(name):
    inliers, labels = batch(6, 9), torch.arange(6) % 3
    copy = inliers.clone()
    perturb_outliers(with_batch_norm(), inliers, labels, batch(4), options(name), generator(), oe_weight=0.5)
    assert torch.equal(inliers, copy)
    assert not inliers.requires_grad


@pytest.mark.parametrize("name", [spec.name for spec in OUTLIER_ATTACKS if spec.objective])
def test_in_eval_mode_inliers_do_not_matter(name):
    network, outliers, labels = with_batch_norm(), batch(4), torch.arange(6) % 3
    runs = [
        perturb_outliers(network, batch(6, s), labels, outliers, options(name), generator(), oe_weight=w)
        for s, w in ((9, 0.5), (10, 2.0))
    ]
    assert torch.equal(*runs)


def test_eba_on_a_linear_model_steps_along_the_mean_weight():
    """f = W x has dE/dx = -W^T p: lowering E steps along +sign(W^T p), and E falls."""
    network = Linear()
    outliers = 0.3 + 0.4 * torch.rand(4, 1, 8, 8, generator=generator(5))
    probabilities = network(outliers).softmax(1).detach()
    direction = (probabilities @ network.weight.detach()).sign().view_as(outliers)
    moved = attack(network, outliers, options("eba", epsilon=0.01))
    torch.testing.assert_close(moved, outliers + 0.01 * direction)
    assert (energy(network(moved)) < energy(network(outliers))).all()


def test_fgsm_on_a_linear_model_steps_along_the_gradient_of_uniformity():
    """dU/dx = W^T (p - 1/C)."""
    network = Linear()
    outliers = 0.3 + 0.4 * torch.rand(4, 1, 8, 8, generator=generator(5))
    coefficients = network(outliers).softmax(1).detach() - 1 / 3
    direction = (coefficients @ network.weight.detach()).sign().view_as(outliers)
    moved = attack(network, outliers, options("fgsm", epsilon=0.01))
    torch.testing.assert_close(moved, outliers + 0.01 * direction)


@pytest.mark.parametrize(
    ("one_step", "iterated", "score"), [("fgsm", "pgd", uniformity), ("eba", "eba_pgd", energy)]
)
def test_iterating_beats_one_step(one_step, iterated, score):
    """On a smooth random network 20 steps find at least what one does, for the mean of the attacked score."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4)).requires_grad_(
        False
    )
    network[1].weight.mul_(4)
    network[3].weight.mul_(8)
    outliers = batch(32, 7)
    sign = -1 if score is energy else 1
    means = [
        sign * score(network(attack(network, outliers, options(name, epsilon=0.2, steps=20)))).mean()
        for name in ("none", one_step, iterated)
    ]
    assert means[0] < means[1] < means[2]


def test_gauss_is_fresh_per_image_unless_shared():
    outliers = torch.full((3, 1, 8, 8), 0.5)
    fresh = attack(Linear(), outliers, options("gauss", epsilon=0.05)) - outliers
    shared = attack(Linear(), outliers, options("gauss", epsilon=0.05), shared_noise=True) - outliers
    assert not torch.equal(fresh[0], fresh[1])
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(shared[0], shared[2])


def test_gauss_has_the_standard_deviation_epsilon():
    """10,000 draws of 0.05 n: within 4 standard errors of the deviation, 0.05 / sqrt(20000) each."""
    outliers = torch.full((100, 1, 10, 10), 0.5)
    noise = attack(Linear(), outliers, options("gauss", epsilon=0.05)) - outliers
    assert noise.std().item() == pytest.approx(0.05, abs=4 * 0.05 / math.sqrt(20000))


def test_signnoise_moves_every_pixel_by_epsilon():
    outliers = torch.full((20, 1, 8, 8), 0.5)
    noise = attack(Linear(), outliers, options("signnoise")) - outliers
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, EPSILON))
    assert 0.4 < (noise > 0).float().mean().item() < 0.6  # 1280 fair signs: 7 standard errors


def test_train_mode_couples_outliers_with_inliers():
    """With batch statistics the gradient at an outlier depends on the inliers of the batch."""
    network, labels = with_batch_norm(), torch.arange(6) % 3
    network[3] = nn.Identity()
    runs = [
        perturb_outliers(
            network, x, labels, batch(4), options("fgsm"), generator(), oe_weight=0.5, mode="train"
        )
        for x in (batch(6, 9), 0.1 * batch(6, 10))
    ]
    assert not torch.equal(*runs)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_attack_mode_restores_after_an_exception(mode):
    network = with_batch_norm()
    modes = [m.training for m in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    buffers = {k: v.clone() for k, v in network.named_buffers()}

    def fail():
        with attack_mode(network, mode):
            network(batch(4))
            assert not any(p.requires_grad for p in network.parameters())
            assert all(m.training == (mode == "train") for m in network.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == flags
    for key, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[key])


def test_attack_mode_train_keeps_an_earlier_graph_usable():
    """A forward before the attack can still be differentiated after it."""
    network = with_batch_norm()
    loss = network(batch(4)).sum()
    attack(network, batch(4), options("pgd"), mode="train")
    loss.backward()
    assert network[5].bias.grad.tolist() == [4.0, 4.0, 4.0]


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="eval, train"), attack_mode(Linear(), "frozen"):
        pass


@pytest.mark.parametrize("name", ["ce", "energy"])
def test_inlier_attacks_raise_their_objective(name):
    network, images, labels = Linear(), batch(6), torch.arange(6) % 3
    chosen = InlierAttackOptions(name=name, epsilon=0.02, steps=5)
    moved = perturb_inliers(network, images, labels, chosen, generator())

    def objective(x):
        logits = network(x).detach()
        return (
            energy(logits)
            if name == "energy"
            else nn.functional.cross_entropy(logits, labels, reduction="none")
        )

    assert (objective(moved) > objective(images)).all()
    assert (moved - images).abs().max() <= 0.02 + ULP
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert network.weight.requires_grad


def test_no_inlier_attack_is_the_identity():
    images = batch(3)
    assert torch.equal(
        perturb_inliers(Linear(), images, torch.zeros(3), InlierAttackOptions(), generator()), images
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("up", [0.1, 0.2, 0.3, 0.4]),
        ("down", [0.4, 0.3, 0.2, 0.1]),
        ("oscillate", [0.1, 0.3, 0.3, 0.1]),
    ],
)
def test_epsilon_schedules_golden(schedule, expected):
    """Epsilon 0.4 over 4 epochs; oscillate takes up at 0 and 2, down at 1 and 3."""
    chosen = AttackOptions(epsilon=0.4, schedule=schedule)
    assert [epsilon_at(chosen, epoch, 4) for epoch in range(4)] == pytest.approx(expected)


def test_gradient_steps():
    steps = {name: options(name).gradient_steps for name in OUTLIER_ATTACKS.names}
    assert steps == {
        "none": 0,
        "fgsm": 1,
        "pgd": 3,
        "mifgsm": 3,
        "eba": 1,
        "eba_pgd": 3,
        "gauss": 0,
        "signnoise": 0,
    }
    assert InlierAttackOptions(name="ce", steps=7).gradient_steps == 7
    assert options("pgd", epsilon=0.0).gradient_steps == 0


def test_attacks_a_real_network_through_its_body():
    """raw01: the body sees the outliers unnormalised, and they stay in the box."""
    network = build("small_cnn", 3, (1, 8, 8), (0.3,), (0.4,))
    moved = attack(network.body, batch(4), options("pgd"))
    assert moved.min() >= 0
    assert moved.max() <= 1
