"""PGD on the class and on the outlier score: exact on linear networks; the network is left as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.attacks.attacked_scores import attacked_scores
from trainables.evaluation.attacks.robust_accuracy import robust_accuracy, robust_verdicts
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.evaluation.metrics.score_specs import SCORES

PROTOCOL = EvaluationProtocol("test", steps=10)


class Linear(nn.Module):
    """Two classes with logits (w x + b, 0): the exact robust margin is known."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(16, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(-0.5 * weight.sum())

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1) @ self.weight + self.bias
        return torch.stack([first, torch.zeros_like(first)], 1)


def small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(32, 3)
        )
    with torch.no_grad():  # so that the classes differ, each about as frequent as the others
        network[5].weight *= 20
        network[5].bias -= network.eval()(torch.from_numpy(images())).mean(0)
    return network.train()


def images(n: int = 300, low: float = 0.35, high: float = 0.65) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (n, 1, 4, 4)).astype(np.float32)


def labelled(network: nn.Module, x: np.ndarray) -> LabelledImages:
    with torch.no_grad():
        y = network.eval()(torch.from_numpy(x)).argmax(1).numpy()
    return LabelledImages(x, y)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("epsilon", [0.01, 0.03])
@pytest.mark.parametrize("margin", [True, False])
def test_linear_network_has_its_exact_robust_accuracy(epsilon: float, margin: bool) -> None:
    """Away from the box, an image stands if |w x + b| > epsilon ||w||_1; PGD reaches that corner exactly."""
    network = Linear()
    data = labelled(network, images())
    with torch.no_grad():
        score = network(torch.from_numpy(data.images))[:, 0]
        reach = epsilon * network.weight.abs().sum()
    exact = (score.abs() > reach).numpy()
    verdicts = robust_verdicts(network, data, epsilon, replace(PROTOCOL, margin=margin), seeded(), "cpu")
    assert 0.1 < exact.mean() < 0.9
    np.testing.assert_array_equal(verdicts, exact)
    assert robust_accuracy(network, data, epsilon, PROTOCOL, seeded(), "cpu") == exact.mean()


def test_epsilon_zero_is_the_clean_accuracy_and_wrong_images_stay_wrong() -> None:
    network = small_network().eval()
    data = labelled(network, images())
    data.labels[::3] = (data.labels[::3] + 1) % 3
    right = np.arange(300) % 3 != 0
    np.testing.assert_array_equal(robust_verdicts(network, data, 0.0, PROTOCOL, seeded(), "cpu"), right)
    attacked = robust_verdicts(network, data, 0.05, PROTOCOL, seeded(), "cpu")
    assert not (attacked & ~right).any()


def test_constant_network_is_right_where_its_tie_break_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    nn.init.zeros_(network[1].weight)
    nn.init.zeros_(network[1].bias)
    data = LabelledImages(images(6), np.array([0, 1, 2, 0, 1, 2]))
    found = robust_verdicts(network, data, 0.1, PROTOCOL, seeded(), "cpu")
    assert found.tolist() == [True, False, False, True, False, False]


def test_a_verdict_does_not_depend_on_the_other_images() -> None:
    """Images 0-299 get the same verdict in company, and where everyone else is already broken."""
    network = small_network()
    data = labelled(network, images(600))
    protocol = replace(PROTOCOL, steps=3, restarts=2)
    whole = robust_verdicts(network, data, 0.015, protocol, seeded(), "cpu")
    assert 0.1 < whole.mean() < 0.9
    wrong = data.labels.copy()
    wrong[300:] = (wrong[300:] + 1) % 3
    among_broken = robust_verdicts(
        network, LabelledImages(data.images, wrong), 0.015, protocol, seeded(), "cpu"
    )
    np.testing.assert_array_equal(whole[:300], among_broken[:300])


def test_more_attacks_break_more() -> None:
    network = small_network()
    data = labelled(network, images())
    one = robust_verdicts(network, data, 0.015, replace(PROTOCOL, margin=False), seeded(), "cpu")
    both = robust_verdicts(network, data, 0.015, replace(PROTOCOL, margin=True), seeded(), "cpu")
    assert (both <= one).all()  # the first attack is the same, the second one is on the survivors


@pytest.mark.parametrize("name", SCORES.names)
@pytest.mark.parametrize("direction", ["minimise", "maximise"])
def test_attacked_scores_are_never_better_than_clean_or_fewer_restarts(name: str, direction: str) -> None:
    network, x = small_network(), images()
    with torch.no_grad():
        clean = SCORES[name].load()(network.eval()(torch.from_numpy(x)).double()).numpy()
    sign = -1 if direction == "minimise" else 1

    def attack(epsilon: float, restarts: int = 1) -> np.ndarray:
        return attacked_scores(
            network, x, name, epsilon, steps=5, restarts=restarts, generator=seeded(), direction=direction
        )

    np.testing.assert_allclose(attack(0.0), clean, rtol=0, atol=1e-6)
    once, twice = attack(0.05), attack(0.05, restarts=2)
    assert once.dtype == np.float64
    assert (sign * (once - clean) >= -1e-9).all()
    assert (sign * (twice - once) >= -1e-9).all()
    assert (sign * (once - clean)).mean() > 0.01


def test_linear_network_reaches_the_exact_score() -> None:
    """The log-odds of two classes are -|w x + b|: OOD looks as ID as its corner of the ball allows."""
    network, x = Linear(), images()
    with torch.no_grad():
        score = network(torch.from_numpy(x)).double()[:, 0].abs().numpy()
        reach = 0.02 * float(network.weight.abs().sum())
    found = attacked_scores(network, x, "msp", 0.02, steps=10, generator=seeded())
    sure = (
        score > reach
    )  # the random start of the others may lie across the boundary, where the way up is another
    assert sure.sum() > 20
    np.testing.assert_allclose(found[sure], -(score + reach)[sure], rtol=1e-4)
    hidden = attacked_scores(network, x, "msp", 0.02, steps=40, generator=seeded(), direction="maximise")
    np.testing.assert_allclose(hidden[sure], -(score - reach)[sure], rtol=1e-3, atol=1e-3)


def test_attacks_stay_in_the_ball_and_the_box() -> None:
    seen: list[Tensor] = []

    class Spy(Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    x = images(20, 0.0, 1.0)
    attacked_scores(Spy(), x, "energy", 0.1, steps=4, restarts=2, generator=seeded())
    assert len(seen) == 1 + 2 * 5  # the clean images, then every iterate and the last one
    for iterate in seen:
        assert iterate.min() >= 0
        assert iterate.max() <= 1
        assert (iterate - torch.from_numpy(x)).abs().max() <= 0.1 + 1e-6


def test_uint8_images_are_scaled() -> None:
    network = small_network()
    grey = (images() * 255).round().astype(np.uint8)
    scaled = grey.astype(np.float32) / 255
    a, b = (attacked_scores(network, x, "msp", 0.03, steps=3, generator=seeded()) for x in (grey, scaled))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    network = small_network()
    network.train()
    network[0].requires_grad_(False)
    network[1].eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    state = torch.get_rng_state()
    data = LabelledImages(images(30), np.zeros(30, np.int64))
    with torch.no_grad():  # callers often are
        robust_accuracy(network, data, 0.05, PROTOCOL, seeded(), "cpu")
        attacked_scores(network, data.images, "msp", 0.05, steps=2, generator=seeded())
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == flags
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown outlier score 'enrgy'; did you mean energy"):
        attacked_scores(Linear(), images(2), "enrgy", 0.1, generator=seeded())
    with pytest.raises(InputError, match="unknown direction"):
        attacked_scores(Linear(), images(2), "msp", 0.1, generator=seeded(), direction="down")
