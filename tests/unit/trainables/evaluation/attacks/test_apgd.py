"""APGD in full batches: the published code's iterates and verdicts, whoever shares the batch."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages, merge
from trainables.data.types.splits import Split
from trainables.evaluation.attacks import apgd, autoattack
from trainables.evaluation.attacks.apgd import apgd_verdicts, dlr, targeted_dlr, uniform, windows
from trainables.functional.attacks import attack_mode
from trainables.methods.adversarial import PGDAT
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.adversarial import PGDATOptions
from trainables.options.classifiers import StandardOptions

pytestmark = pytest.mark.slow  # two trained networks, hundreds of steps each
EPSILON = {"standard": 0.08, "robust": 0.2}


class Few(nn.Module):
    """A classifier cut down to its first classes, in float64: there, rounding decides no sign."""

    def __init__(self, network: nn.Module, classes: int = 10, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.network, self.classes, self.dtype = network.to(dtype), classes, dtype
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.network(x.to(self.dtype))[:, : self.classes].float()


@pytest.fixture(scope="module")
def trained():
    """A weak and a robust classifier of the digits, as state dicts, and a function that makes them anew."""
    benchmark = load("digits").for_search()
    made = {}
    for name, make, options in (("standard", Standard, StandardOptions), ("robust", PGDAT, PGDATOptions)):
        method = make(build(options, {"epochs": 5}), toy.context(0, data=benchmark))
        for epoch in range(5):
            method.train_epoch(epoch)
        made[name] = method

    def network(name: str, classes: int = 10, dtype: torch.dtype = torch.float64) -> Few:
        return Few(copy.deepcopy(made[name].network), classes, dtype).eval()

    return network


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    return load("digits").labelled(Split.VAL_ID)


def some(data: LabelledImages, chosen) -> LabelledImages:
    return LabelledImages(data.images[chosen], data.labels[chosen])


def reference(network, data, epsilon, attacks=("apgd-ce", "apgd-t"), targets=9):
    """Return the published code's verdicts."""
    library = autoattack._library(
        network, epsilon, 0, torch.device("cpu"), targets, autoattack.AttackBudget()
    )
    library.attacks_to_run = list(attacks)
    labels = torch.tensor(data.labels)
    with attack_mode(network):
        _, predicted = library.run_standard_evaluation(torch.tensor(data.images), labels)
    return (predicted == labels).numpy()


# -- by hand -------------------------------------------------------------------------------------------------


def test_windows_of_a_hundred_iterations():
    found = windows(100)
    assert [age for age, window in enumerate(found) if window] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [window for window in found if window] == [22, 19, 16, 13, 10, 7, 6, 6]
    assert windows(3) == [0, 1, 1, 1]


def test_losses_by_hand():
    logits = torch.tensor([[5.0, 3.0, 1.0, -1.0], [5.0, 3.0, 1.0, -1.0]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([1, 2])
    torch.testing.assert_close(dlr(logits, labels, targets), torch.tensor([-2 / 4, 2 / 4]))
    torch.testing.assert_close(targeted_dlr(logits, labels, targets), torch.tensor([-2 / 5, -2 / 5]))


def test_starts_are_the_published_stream():
    """SplitMix64 from seed 1234567 begins 6457827717110365317, 3203168211198807973, 9817491932198370423."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = uniform(1234567, torch.tensor([0]), 3)[0]
    assert found.tolist() == [(number >> 40) / 2**23 - 1 for number in published]
    assert torch.equal(uniform(1234567, torch.tensor([1, 0]), 1)[:, 0], found[[1, 0]])


def test_starts_are_uniform():
    found = uniform(7, torch.arange(100), 1000).double()
    assert found.min() >= -1
    assert found.max() < 1
    assert found.mean().abs() < 0.01
    assert abs(found.var() - 1 / 3) < 0.005
    assert len(found.unique()) > 99_000


class Linear(nn.Module):
    """Four classes on one direction: 0 up to 1/2, class 1 beyond; the others are far away."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        z = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-z, z, -20 + 0 * z, -30 + 0 * z], 1)


def test_a_linear_network_has_its_exact_robust_accuracy():
    """An image away from the box stands if |w (x - 1/2)| > epsilon ||w||_1."""
    x = np.random.default_rng(0).uniform(0.35, 0.65, (300, 1, 4, 4)).astype(np.float32)
    network = Linear()
    with torch.no_grad():
        z = network(torch.from_numpy(x))[:, 1]
        exact = (z.abs() > 0.02 * network.weight.abs().sum()).numpy()
    data = LabelledImages(x, (z > 0).long().numpy())
    assert 0.1 < exact.mean() < 0.9
    np.testing.assert_array_equal(apgd_verdicts(network, data, 0.02, iterations=20, seed=0), exact)


# -- against the published code ------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", list(apgd.LOSSES))
@pytest.mark.parametrize("name", ["standard", "robust"])
def test_every_iterate_is_the_published_code_s(trained, images, monkeypatch, name, attack):
    """From the same start, 100 iterations visit the same points."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    network = trained(name)
    epsilon = EPSILON[name]
    x, y = torch.tensor(images.images[:24]), torch.tensor(images.labels[:24])
    with torch.no_grad():
        right = network(x).argmax(1) == y
    x, y = x[right], y[right]
    visited: list[Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, given: visited.append(given[0].detach().clone()))

    library = (APGDAttack_targeted if attack == "apgd-t" else APGDAttack)(
        network, eps=epsilon, device=torch.device("cpu"), seed=0
    )
    library.loss = "dlr-targeted" if attack == "apgd-t" else attack.removeprefix("apgd-")
    target = (y + 3) % 10
    library.y_target = target
    library.init_hyperparam(x)
    with attack_mode(network):
        torch.manual_seed(0)
        library.attack_single_run(x, y)
        theirs = visited.copy()
        visited.clear()
        torch.manual_seed(0)
        noise = (2 * torch.rand(x.shape) - 1).flatten(1)
        monkeypatch.setattr(apgd, "uniform", lambda key, rows, count: noise[rows])
        problem = apgd._Problem(network, x, y, target[:, None], attack, epsilon, 100, math.inf, 0)
        ours = apgd._APGD(problem, torch.zeros(len(x), dtype=torch.int32))
        rows = ours.begin(torch.arange(len(x)))
        for _ in range(101):
            ours.step(rows)
    hook.remove()
    assert len(theirs) == len(visited) == 101
    for age, (left, right) in enumerate(zip(theirs, visited, strict=True)):
        torch.testing.assert_close(right, left, rtol=0, atol=1e-6, msg=f"iterate {age}")


@pytest.mark.parametrize("name", ["standard", "robust"])
def test_verdicts_agree_with_the_published_code(trained, images, name):
    """From other random starts, so that images on the edge differ, as they do from seed to seed there."""
    network = trained(name, dtype=torch.float32)
    few = some(images, slice(80))
    wanted = reference(network, few, EPSILON[name])
    found = apgd_verdicts(network, few, EPSILON[name], seed=0)
    assert 0.1 < wanted.mean() < 0.9
    assert (found != wanted).sum() <= 2


@pytest.mark.long
@pytest.mark.parametrize(("name", "most"), [("standard", 1), ("robust", 10)])
def test_a_thousand_verdicts(trained, name, most):
    """On the robust classifier two seeds of the published code differ in 6 or 7 of 1200 verdicts themselves, and in
    one in the number that stand.
    """
    network = trained(name, dtype=torch.float32)
    benchmark = load("digits")
    data = merge(benchmark.labelled(split) for split in (Split.VAL_ID, Split.TEST_ID, Split.TRAIN))
    data = some(data, slice(1000))
    found, wanted = (
        apgd_verdicts(network, data, EPSILON[name], seed=0),
        reference(network, data, EPSILON[name]),
    )
    assert (found != wanted).sum() <= most
    assert abs(int(found.sum()) - int(wanted.sum())) <= 3


@pytest.mark.parametrize("classes", [4, 7])
def test_fewer_than_ten_classes(trained, images, classes):
    network = trained("standard", classes, torch.float32)
    few = some(images, np.flatnonzero(images.labels < classes)[:40])
    wanted = reference(network, few, 0.12, targets=classes - 1)
    found = apgd_verdicts(network, few, 0.12, seed=0)
    assert 0.1 < wanted.mean() < 0.95
    assert (found != wanted).sum() <= 1


@pytest.mark.parametrize(("classes", "attacks"), [(3, ("apgd-ce", "apgd-dlr")), (2, ("apgd-ce",))])
def test_three_classes_and_two(trained, images, classes, attacks):
    network = trained("standard", classes, torch.float32)
    few = some(images, np.flatnonzero(images.labels < classes)[:40])
    wanted = reference(network, few, 0.2, attacks)
    found = apgd_verdicts(network, few, 0.2, seed=0)
    assert 0.1 < wanted.mean() < 0.95
    assert (found != wanted).sum() <= 1


# -- what may not change a verdict ---------------------------------------------------------------------------


def attack(network, data, epsilon=0.2, **changes):
    return apgd_verdicts(network, data, epsilon, **{"iterations": 12, "seed": 3, **changes})


@pytest.mark.parametrize("size", [1, 9, 1000])
def test_the_batch_size_does_not(trained, images, size):
    network, few = trained("robust"), some(images, slice(40))
    np.testing.assert_array_equal(attack(network, few), attack(network, few, batch_size=size))


def test_the_other_images_do_not(trained, images):
    """The first 30 of 60 images, and the same where the others are wrong from the beginning."""
    network, data = trained("robust"), some(images, slice(60))
    labels = data.labels.copy()
    labels[30:] = (labels[30:] + 1) % 10
    whole = attack(network, data)
    assert 0.1 < whole.mean() < 0.9
    np.testing.assert_array_equal(whole[:30], attack(network, LabelledImages(data.images, labels))[:30])


@pytest.mark.parametrize("name", ["standard", "robust"])
def test_leaving_early_does_not(trained, images, monkeypatch, name):
    """Rows at rest and images broken by another target stay to the last iteration: the same verdicts."""
    network, few = trained(name), some(images, slice(30))
    found = attack(network, few, EPSILON[name], iterations=40, reach=math.inf)
    dropped = sum(network.seen)

    class Patient(apgd._APGD):
        def wanted(self, jobs):
            return torch.ones_like(jobs, dtype=torch.bool)

        def finished(self, rows):
            return rows["age"] > self.problem.iterations

    monkeypatch.setattr(apgd, "_APGD", Patient)
    network.seen.clear()
    np.testing.assert_array_equal(attack(network, few, EPSILON[name], iterations=40, reach=math.inf), found)
    assert dropped < 0.9 * sum(network.seen)


@pytest.mark.parametrize("name", ["standard", "robust"])
def test_targets_out_of_reach_are_given_up(trained, images, name):
    """At most one of 60 images is spared by that; fewer than half as many images are looked at."""
    network, few = trained(name, dtype=torch.float32), some(images, slice(60))
    patient = attack(network, few, EPSILON[name], iterations=100, reach=math.inf)
    whole = sum(network.seen)
    network.seen.clear()
    found = attack(network, few, EPSILON[name], iterations=100)
    assert (found >= patient).all()
    assert (found != patient).sum() <= 1
    assert sum(network.seen) < whole / 2


def test_more_restarts_and_targets_break_no_fewer(trained, images):
    network, few = trained("robust"), some(images, slice(60))
    once = attack(network, few, targets=2)
    assert (attack(network, few, targets=2, restarts=2) <= once).all()
    assert (attack(network, few, targets=9) <= once).all()


def test_the_network_and_the_random_stream_are_left_as_they_were(trained, images):
    network = trained("standard", dtype=torch.float32)
    network.train()
    network.network.head.bias.requires_grad_(False)
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    attack(network, some(images, slice(20)), iterations=3)
    assert all(module.training for module in network.modules())
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["network.body.head.bias"]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_iterates_stay_in_the_ball_and_the_box(trained, images):
    network, few = trained("standard"), some(images, slice(10))
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    attack(network, few, 0.3, iterations=10)
    centres = torch.tensor(few.images)
    for x in seen:
        assert x.min() >= 0
        assert x.max() <= 1
        nearest = (x[:, None] - centres[None]).abs().flatten(2).amax(2).amin(1)
        assert nearest.max() <= 0.3 + 1e-6


def test_bytes_wrong_images_and_a_radius_of_zero(trained, images):
    network, few = trained("standard", dtype=torch.float32), some(images, slice(20))
    grey = LabelledImages((few.images * 255).round().astype(np.uint8), few.labels)
    unit = LabelledImages(grey.images.astype(np.float32) / 255, few.labels)
    np.testing.assert_array_equal(attack(network, grey, 0.1), attack(network, unit, 0.1))
    labels = few.labels.copy()
    labels[:5] = (labels[:5] + 1) % 10
    with torch.no_grad():
        right = network.eval()(torch.tensor(few.images)).argmax(1).numpy() == labels
    assert not right[:5].any()
    np.testing.assert_array_equal(attack(network, LabelledImages(few.images, labels), 0.0), right)


def test_what_cannot_be_attacked_is_refused(trained, images):
    network = trained("standard", 7)
    with pytest.raises(InputError, match="no images"):
        attack(network, some(images, slice(0)))
    for labels, found in (([0, 9], "0 to 9"), ([-1, 0], "-1 to 0")):
        with pytest.raises(InputError, match=f"labels 0 to 6, the classes of the network, not {found}"):
            attack(network, LabelledImages(images.images[:2], np.array(labels)))
