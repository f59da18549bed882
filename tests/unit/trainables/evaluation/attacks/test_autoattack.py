"""AutoAttack: the reference's verdicts, few classes, no trace in the network, and runs that survive a kill."""

import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.splits import Split
from trainables.evaluation.attacks import autoattack
from trainables.evaluation.attacks.autoattack import AttackBudget, auto_attack, plan
from trainables.evaluation.attacks.robust_accuracy import robust_verdicts
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.classifiers import StandardOptions

pytestmark = pytest.mark.slow  # AutoAttack, ours and the library's

SMALL = AttackBudget(iterations=5, targets=9, queries=20)
EPSILON = 0.08


def train(benchmark):
    method = Standard(build(StandardOptions, {"epochs": 5}), toy.context(0, data=benchmark.for_search()))
    for epoch in range(5):
        method.train_epoch(epoch)
    method.network.zero_grad(set_to_none=True)
    return method.network


@pytest.fixture(scope="module")
def digits():
    """A classifier of all ten digits and 60 test images."""
    benchmark = load("digits")
    data = benchmark.labelled(Split.TEST_ID)
    return train(benchmark), LabelledImages(data.images[:60], data.labels[:60])


class Few(nn.Module):
    """A classifier cut down to its first classes."""

    def __init__(self, network, classes):
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x):
        return self.network(x)[:, : self.classes]


def first_classes(digits, classes):
    network, data = digits
    chosen = data.labels < classes
    return Few(network, classes), LabelledImages(data.images[chosen], data.labels[chosen])


def attack(network, data, epsilon=EPSILON, **changes):
    settings = {"seed": 3, "batch_size": 25, "budget": SMALL, **changes}
    return auto_attack(network, data, epsilon, **settings)


def test_verdicts_are_the_reference_s_image_by_image(digits):
    """The library's own loop over the same attacks at the same budget."""
    network, data = digits
    found = attack(network, data)
    assert 0.1 < found.accuracy < found.clean.mean() - 0.1
    plain = copy.deepcopy(
        network
    ).eval()  # called without our wrapper, FAB leaves gradients on the parameters
    reference = autoattack._library(plain, EPSILON, 3, torch.device("cpu"), 9, SMALL)
    reference.attacks_to_run = list(found.attacks)
    x, y = torch.tensor(data.images), torch.tensor(data.labels)
    _, predicted = reference.run_standard_evaluation(x, y, batch_size=25)
    np.testing.assert_array_equal(found.robust, (predicted == y).numpy())


def test_standard_is_what_the_library_calls_standard(digits):
    from pyautoattack import AutoAttack

    theirs = AutoAttack(digits[0], eps=EPSILON, seed=0, version="standard")
    ours = autoattack._library(digits[0], EPSILON, 0, torch.device("cpu"), 9, AttackBudget())
    assert tuple(theirs.attacks_to_run) == plan(10, AttackBudget())[1]
    for part in ("apgd", "apgd_targeted", "fab", "square"):
        left, right = dict(vars(getattr(theirs, part))), dict(vars(getattr(ours, part)))
        for settings in (left, right):
            settings.pop("model", None)
            settings.pop("predict", None)
            settings["device"] = str(settings["device"])
        assert left == right


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (1000, ("standard", ("apgd-ce", "apgd-t", "fab-t", "square"), 9)),
        (10, ("standard", ("apgd-ce", "apgd-t", "fab-t", "square"), 9)),
        (7, ("standard", ("apgd-ce", "apgd-t", "fab-t", "square"), 6)),
        (4, ("standard", ("apgd-ce", "apgd-t", "fab-t", "square"), 3)),
        (3, ("custom", ("apgd-ce", "apgd-dlr", "square"), 0)),
        (2, ("custom", ("apgd-ce", "square"), 0)),
    ],
)
def test_plan_of_few_and_many_classes(classes, expected):
    assert plan(classes, AttackBudget()) == expected


def test_plan_names_a_smaller_budget_and_refuses_one_class():
    assert plan(10, SMALL)[0] == "reduced"
    assert plan(10, AttackBudget(targets=3))[2] == 3
    with pytest.raises(InputError, match="2 classes"):
        plan(1, AttackBudget())


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_few_classes_work(digits, classes):
    network, data = first_classes(digits, classes)
    found = attack(network, data, 0.3)
    assert found.attacks == plan(classes, SMALL)[1]
    assert not (found.robust & ~found.clean).any()
    shares = list(found.after.values())
    assert list(found.after) == ["clean", *found.attacks][: len(shares)]
    assert shares == sorted(shares, reverse=True)
    assert found.accuracy == shares[-1]
    assert found.accuracy < found.clean.mean()


def test_the_network_and_the_random_stream_are_left_as_they_were(digits):
    network, data = digits
    few = nn.Sequential(network, nn.Dropout(0.5))
    few.train()
    network.head.bias.requires_grad_(False)
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in few.state_dict().items()}
    logger = logging.getLogger("auto-attack")
    try:
        assert attack(few, data).warnings == []  # in eval mode it is not random
        assert all(module.training for module in few.modules())
        assert [n for n, p in few.named_parameters() if not p.requires_grad] == ["0.body.head.bias"]
    finally:
        network.head.bias.requires_grad_(True)
        network.eval()
    assert all(p.grad is None for p in few.parameters())
    assert all(torch.equal(v, before[k]) for k, v in few.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert logger.propagate
    assert not logger.handlers


def test_the_seed_decides(digits):
    """The same verdicts from the same seed, whatever the global stream is at."""
    torch.manual_seed(1)
    first = attack(*digits)
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.robust, attack(*digits).robust)
    assert (first.seed, first.batch_size, first.epsilon, first.version) == (3, 25, EPSILON, "reduced")


class Noisy(Few):
    def forward(self, x):
        return super().forward(x) + 0.1 * torch.rand(len(x), self.classes)


class Softmax(Few):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Flat(Few):
    """Rounded logits have no gradient."""

    def forward(self, x):
        logits = super().forward(x)
        return logits + (logits.detach().round() - logits) * 1.0


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [(Noisy, "randomized"), (Softmax, "probability"), (Flat, "points with zero gradient")],
)
def test_the_library_s_warnings_are_surfaced(digits, wrapper, message, capsys):
    network, data = digits
    found = attack(wrapper(network, 10), LabelledImages(data.images[:10], data.labels[:10]))
    assert sum(message in warning for warning in found.warnings) == 1
    assert all("\n" not in warning for warning in found.warnings)
    assert capsys.readouterr().err == ""


def test_square_that_beats_the_white_box_attacks_is_a_warning(digits):
    """Flat logits stop every gradient; random squares do not need one."""
    network, data = digits
    found = attack(Flat(network, 10), data, 0.2, budget=AttackBudget(iterations=2, queries=100))
    assert found.after["square"] < found.after["fab-t"] - 0.05
    assert any("Square Attack has decreased" in warning for warning in found.warnings)


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


def test_a_killed_run_goes_on_where_it_was(digits, tmp_path, monkeypatch):
    """Kill it before every batch in turn; each batch is attacked once in all, and the verdicts are the same."""
    state = tmp_path / "runs" / "state.npz"
    whole = attack(*digits)
    perturb, batches = autoattack._perturb, []

    def once(library, name, x, y):
        if done[0]:
            raise Killed
        done[0] = True
        batches.append((name, len(x)))
        return perturb(library, name, x, y)

    monkeypatch.setattr(autoattack, "_perturb", once)
    for _ in range(50):
        done = [False]
        try:
            found = attack(*digits, state=state)
            break
        except Killed:
            continue
    np.testing.assert_array_equal(found.robust, whole.robust)
    np.testing.assert_array_equal(found.clean, whole.clean)
    assert found.after == whole.after
    assert found.warnings == whole.warnings
    standing = [whole.after[name] for name in ("clean", *whole.attacks[:-1])]
    for name, share in zip(whole.attacks, standing, strict=True):
        assert sum(n for stage, n in batches if stage == name) == round(60 * share)
    assert not list(state.parent.glob(".*.tmp"))
    monkeypatch.setattr(autoattack, "_perturb", None)  # a finished run attacks nothing
    np.testing.assert_array_equal(attack(*digits, state=state).robust, whole.robust)


def test_warnings_survive_a_kill(digits, tmp_path, monkeypatch):
    network, data = digits
    state = tmp_path / "state.npz"
    few = LabelledImages(data.images[:10], data.labels[:10])
    perturb = autoattack._perturb

    def until_square(library, name, x, y):
        if name == "square":
            raise Killed
        return perturb(library, name, x, y)

    monkeypatch.setattr(autoattack, "_perturb", until_square)
    with pytest.raises(Killed):
        attack(Softmax(network, 10), few, state=state)
    monkeypatch.setattr(autoattack, "_perturb", perturb)
    assert any(
        "probability" in warning for warning in attack(Softmax(network, 10), few, state=state).warnings
    )


@pytest.mark.parametrize("change", ["epsilon", "seed", "batch", "budget", "data", "weights", "normalisation"])
def test_a_state_of_another_run_is_refused(digits, tmp_path, change):
    network, data = digits
    state = tmp_path / "state.npz"
    few = LabelledImages(data.images[:5], data.labels[:5])
    tiny = AttackBudget(iterations=1, targets=1, queries=1)
    attack(network, few, budget=tiny, state=state)
    settings = {"seed": 3, "batch_size": 25, "budget": tiny, "state": state}
    epsilon = 0.1 if change == "epsilon" else EPSILON
    settings |= {"seed": {"seed": 4}, "batch": {"batch_size": 5}, "budget": {"budget": SMALL}}.get(change, {})
    if change == "data":
        few = LabelledImages(data.images[1:6], data.labels[1:6])
    tensor = {"weights": network.head.bias.data, "normalisation": network.normalize.mean}.get(change)
    if tensor is not None:
        tensor += 0.125
    try:
        with pytest.raises(InputError, match="another network, data or setting"):
            auto_attack(network, few, epsilon, **settings)
    finally:
        if tensor is not None:
            tensor -= 0.125


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_broken_state_starts_over_and_says_so(digits, tmp_path, damage):
    network, data = digits
    few = LabelledImages(data.images[:5], data.labels[:5])
    tiny = AttackBudget(iterations=1, targets=1, queries=1)
    state = tmp_path / "state.npz"
    first = attack(network, few, budget=tiny, state=state)
    whole = state.read_bytes()
    state.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a state"}[damage])
    again = attack(network, few, budget=tiny, state=state)
    np.testing.assert_array_equal(again.robust, first.robust)
    assert [w for w in again.warnings if "started over" in w]
    assert attack(network, few, budget=tiny, state=state).warnings == again.warnings


def test_nothing_left_to_attack(digits, tmp_path):
    """All images wrong already: no attack runs, and a second call finds that on disk."""
    network, data = digits
    with torch.no_grad():
        wrong = (network.eval()(torch.tensor(data.images)).argmax(1).numpy() + 1) % 10
    for _ in range(2):
        found = attack(network, LabelledImages(data.images, wrong), state=tmp_path / "s.npz")
        assert found.accuracy == 0
        assert found.after == {"clean": 0.0}


def test_what_cannot_be_attacked_is_refused(digits):
    network, data = digits
    with pytest.raises(InputError, match="no images"):
        attack(network, LabelledImages(data.images[:0], data.labels[:0]))
    with pytest.raises(InputError, match="-1"):
        attack(network, LabelledImages(data.images[:2], np.array([0, -1])))
    with pytest.raises(InputError, match="label 9 does not exist: the network has 7 classes"):
        attack(Few(network, 7), LabelledImages(data.images[:2], np.array([0, 9])))


def test_bytes_are_attacked_as_their_unit_images(digits):
    network, data = digits
    as_bytes = (data.images[:20] * 255).round().astype(np.uint8)
    labels = data.labels[:20]
    found = attack(network, LabelledImages(as_bytes, labels))
    unit = attack(network, LabelledImages(as_bytes.astype(np.float32) / 255, labels))
    np.testing.assert_array_equal(found.robust, unit.robust)


def test_full_autoattack_is_at_least_as_strong_as_pgd(digits):
    """The whole budget on 30 images: PGD-50 with the margin loss leaves no fewer standing."""
    network, data = digits
    few = LabelledImages(data.images[:30], data.labels[:30])
    found = auto_attack(network, few, EPSILON, seed=0)
    generator = torch.Generator().manual_seed(0)
    pgd = robust_verdicts(
        network, few, EPSILON, EvaluationProtocol("p", steps=50, restarts=2), generator, "cpu"
    )
    assert found.version == "standard"
    assert found.warnings == []
    assert 0.1 < found.accuracy <= pgd.mean()


def test_a_tenth_of_autoattack_is_at_least_as_strong_as_as_many_steps_of_pgd(digits):
    network, data = digits
    found = attack(network, data, budget=AttackBudget(iterations=20, queries=100))
    generator = torch.Generator().manual_seed(0)
    pgd = robust_verdicts(network, data, EPSILON, EvaluationProtocol("p", steps=20), generator, "cpu")
    assert 0.1 < found.accuracy <= pgd.mean()
