"""Trials trained together against the same trials alone: weights, means, streams, states."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.unit import toy
from tests.unit.toy import round_trip, same
from trainables.base.errors import InputError, TrainingFailed
from trainables.base.schema import fields_of
from trainables.data.loading import device_loader
from trainables.networks import Classifier
from trainables.networks import build as networks_build
from trainables.networks.wide_resnet import WideResNet
from trainables.options import build
from trainables.options.attacks import OUTLIER_ATTACKS
from trainables.options.methods import METHODS
from trainables.packed import Replica, epoch, train_together
from trainables.packed.network import stack
from trainables.packed.steps import PackedStep
from trainables.training.method import Trainer

EPOCHS, TRAIN, BATCH = 4, 64, 8  # 32 steps
COMMON = {"epochs": EPOCHS, "batch_size": BATCH}
ATTACKED = [
    {"lr": 1e-3, "attack.epsilon": 0.1, "attack.steps": 1},
    {"lr": 4e-3, "attack.epsilon": 0.05, "attack.steps": 3, "attack.step_scale": 1.5, "weight_decay": 1e-3},
    {"lr": 2e-3, "attack.epsilon": 0.0, "schedule": "cosine", "grad_clip": 0.5},
    {"lr": 8e-3, "attack.epsilon": 0.2, "attack.steps": 2, "epochs": 6, "momentum": 0.5},
]
OUTLIERS = [{"outliers.weight": 0.5}, {"outliers.weight": 2.0, "lr": 5e-3}, {"outliers.weight": 0.0}]


BENCHMARK = toy.benchmark(train=TRAIN)


@pytest.fixture
def double(monkeypatch):
    """Batches in float64; `make` gives weights of the same type as what the loaders hand out."""
    for module in ("trainables.data.loading.device_loader", "trainables.packed.loader"):
        monkeypatch.setattr(f"{module}.to_unit", lambda images: images.double())


def make(name, values, seed, norm=False):
    entry = METHODS[name]
    options = build(entry.options, {**COMMON, "seed": seed, **values})
    method = entry.load_method()(options, toy.context(seed, toy.pretrained, BENCHMARK))
    if norm:  # a batch norm behind the first convolution
        method.network.body.layers[1] = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU())
        method.trainer = Trainer(method.network, method.options, len(method.loader))
    dtype = device_loader.to_unit(torch.zeros(1)).dtype
    for network in (method.network, method.classifier()):
        network.to(dtype)
    return method


def alone(methods, epochs=EPOCHS):
    return [[method.train_epoch(e) for e in range(epochs)] for method in methods]


def together(name, methods, epochs=EPOCHS, start=0):
    means = [[] for _ in methods]
    for e in range(start, start + epochs):
        for found, outcome in zip(means, train_together([Replica(name, m, e) for m in methods]), strict=True):
            assert outcome.error is None
            assert outcome.remark == ""
            found.append(outcome.means)
    return means


def relative(left, right):
    """Return the largest relative difference of two states, each tensor by its own norm."""
    assert left.keys() == right.keys()
    pairs = [(left[k].double(), right[k].double()) for k in left]
    return max(float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in pairs)


def agree(packed, single, tolerance):
    for p, s in zip(packed, single, strict=True):
        assert relative(p.network.state_dict(), s.network.state_dict()) <= tolerance
        assert relative(p.classifier().state_dict(), s.classifier().state_dict()) <= tolerance
        assert p.passes == s.passes
        assert p.trainer.steps == s.trainer.steps
        assert p.streams.positions().keys() == s.streams.positions().keys()
        for name, position in s.streams.positions().items():
            assert torch.equal(p.streams.positions()[name], position), name


CASES = [
    ("standard", [{"lr": 1e-3}, {"lr": 1e-2, "ema": 0.0}, {"seed": 9}], {}),
    ("standard", [{"lr": 1e-2}, {"lr": 5e-2, "momentum": 0.0}, {"weight_decay": 1e-2}], {"optimizer": "sgd"}),
    ("standard", [{"ema": 0.9}, {"ema": 0.5, "lr": 1e-2}], {"augment": "crop_flip", "schedule": "step"}),
    ("pgd_at", ATTACKED, {}),
    ("pgd_at", ATTACKED, {"optimizer": "sgd", "augment": "flip"}),
    ("trades", [{**v, "beta": b} for v, b in zip(ATTACKED, (1.0, 6.0, 3.0, 0.0), strict=True)], {}),
    ("mart", [{**v, "beta": b} for v, b in zip(ATTACKED, (1.0, 6.0, 3.0, 0.0), strict=True)], {}),
    ("oe", OUTLIERS, {}),
    ("oe", OUTLIERS, {"outlier_norm": "raw01", "oe_reduction": "joint_mean", "outliers.ratio": 1.5}),
    (
        "energy",
        [
            {"energy.lam": 0.5, "energy.m_in_offset": 2.0},
            {"energy.margins": "fixed", "energy.m_in": -3.0, "energy.gap": 1.5, "outliers.weight": 3.0},
            {"energy.lam": 0.0, "lr": 5e-3, "energy.gap_factor": 0.5, "energy.m_in_offset": 4.0},
        ],
        {"outliers.ratio": 1.5},
    ),
    *(
        pytest.param("aoe", ATTACKED, {"attack.name": spec.name}, id=f"aoe-{spec.name}")
        for spec in OUTLIER_ATTACKS
        if spec.packed
    ),
    ("aoe", [{**v, "attack.schedule": "up"} for v in ATTACKED], {"attack.name": "eba_pgd"}),
    ("aoe", ATTACKED, {"inlier_attack.name": "energy", "attack.name": "eba", "outlier_norm": "raw01"}),
    (
        "aoe",
        [{"inlier_attack.steps": 1}, {"inlier_attack.steps": 4, "attack.steps": 2}, {"attack.steps": 3}],
        {"inlier_attack.name": "ce", "attack.name": "pgd"},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "values", "shared"), CASES)
def test_in_float64_a_packed_trial_is_the_trial_alone(name, values, shared, double):
    """32 steps with unequal learning rates, radii, attack steps, ages of the schedule: equal to 1e-12."""
    packed = [make(name, {**shared, **v}, seed) for seed, v in enumerate(values)]
    single = [make(name, {**shared, **v}, seed) for seed, v in enumerate(values)]
    found, expected = together(name, packed), alone(single)
    agree(packed, single, 1e-12)
    for own, other in zip(found, expected, strict=True):
        for e in range(EPOCHS):
            assert own[e] == pytest.approx(other[e], rel=1e-12, abs=1e-14)


def test_a_new_attack_is_packed_as_it_is_declared(double):
    """A spec alone: with a packed form it is the attack of the trials alone; without, no pack trains it."""
    values = [{**v, "attack.name": "throw_away"} for v in ATTACKED[:2]]
    spec = replace(OUTLIER_ATTACKS["eba_pgd"], name="throw_away", random_start=False, momentum=True)
    OUTLIER_ATTACKS.register(spec)
    try:
        packed = [make("aoe", v, seed) for seed, v in enumerate(values)]
        single = [make("aoe", v, seed) for seed, v in enumerate(values)]
        together("aoe", packed, 2)
        alone(single, 2)
        agree(packed, single, 1e-12)
        plain = [make("aoe", {**v, "attack.name": "none"}, seed) for seed, v in enumerate(values)]
        alone(plain, 2)
        assert relative(single[0].network.state_dict(), plain[0].network.state_dict()) > 1e-6
        OUTLIER_ATTACKS.unregister(spec.name)
        OUTLIER_ATTACKS.register(replace(spec, packed=None))
        replicas = [Replica("aoe", m, 2) for m in packed]
        assert epoch.groups_of(replicas) == [[0], [1]]
        with pytest.raises(InputError, match="attack 'throw_away' has no packed form"):
            epoch.stacked_epoch(replicas)
    finally:
        OUTLIER_ATTACKS.unregister(spec.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["standard", "pgd_at", "trades"])
def test_batch_norm_keeps_each_replicas_statistics(name, double):
    # sgd: Adam would divide the rounding errors of a bias in front of a batch norm, whose gradient is 0, by themselves
    values = [{"lr": 1e-2, "ema": 0.9, "optimizer": "sgd"}, {"lr": 4e-2, "ema": 0.9, "optimizer": "sgd"}]
    packed = [make(name, v, seed, norm=True) for seed, v in enumerate(values)]
    single = [make(name, v, seed, norm=True) for seed, v in enumerate(values)]
    together(name, packed)
    alone(single)
    agree(packed, single, 1e-12)


def make_wide(seed, values):
    """Return a trial on a WRN-10-1, which has no stacked form of its own: two replicas of WRN-40-2 take minutes."""
    method = make("pgd_at", {**values, "optimizer": "sgd", "ema": 0.9}, seed)
    body = WideResNet(toy.CLASSES, toy.SHAPE, depth=10, widen=1)
    method.network = Classifier(method.network.normalize, body).double()
    method.trainer = Trainer(method.network, method.options, len(method.loader))
    return method


def test_any_architecture_is_mapped_over_the_replicas(double):
    """Batch norm, shortcuts, unequal attacks: the trials alone to 1e-12."""
    values = [{"lr": 1e-2, "attack.steps": 2}, {"lr": 4e-2, "attack.steps": 1}, {"attack.epsilon": 0.0}]
    packed = [make_wide(k, v) for k, v in enumerate(values)]
    single = [make_wide(k, v) for k, v in enumerate(values)]
    together("pgd_at", packed, 2)
    alone(single, 2)
    agree(packed, single, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet_v3_small", "preact_resnet18", "wrn_40_2"])
def test_a_mapped_network_is_each_network(network):
    """Logits, gradients and running statistics in float64 in training mode; the first replica alone in eval mode."""
    torch.manual_seed(0)
    side = 32 if network.startswith("mobilenet") else 8
    networks = [
        networks_build(network, 3, (3, side, side), (0.4,) * 3, (0.2,) * 3).double() for _ in range(2)
    ]
    images, others = torch.rand(2, 2, 4, 3, side, side, dtype=torch.float64)
    stacked = stack(networks)
    logits = stacked.train(images)
    gradients = torch.autograd.grad(logits.square().sum(), list(stacked.parameters.values()))
    for k, own in enumerate(networks):
        expected = own.train()(images[k])
        torch.testing.assert_close(logits[k], expected, rtol=1e-9, atol=1e-9)
        found = [g[k] for g in gradients]
        per_weight = torch.autograd.grad(expected.square().sum(), list(own.parameters()))
        scale = max(float(g.abs().max()) for g in per_weight)
        torch.testing.assert_close(found, list(per_weight), rtol=1e-8, atol=1e-9 * scale)
        for name, buffer in stacked.buffers.items():
            torch.testing.assert_close(buffer[k], dict(own.named_buffers())[name], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        stacked.eval(others[:1])[0], networks[0].eval()(others[0]), rtol=1e-9, atol=1e-9
    )


def test_a_network_that_drops_units_has_no_stacked_form():
    one = networks_build("wrn_40_2", 3, (3, 8, 8), (0.4,) * 3, (0.2,) * 3, dropout=0.3)
    with pytest.raises(TypeError, match="Dropout"):
        stack([one, one])


# -- whom a trial is packed with ---------------------------------------------------------------------------


def packed_with(count, changes=None, epochs=2, order=None):
    """Train `count` adversarial trials of unequal attacks in float32; `changes` overrides some of their options."""
    values = [{**ATTACKED[k % 4], "seed": k, **(changes or {}).get(k, {})} for k in range(count)]
    methods = [make("pgd_at", v, k) for k, v in enumerate(values)]
    for e in range(epochs):
        train_together([Replica("pgd_at", methods[k], e) for k in order or range(count)])
    return methods


def test_a_diverging_trial_fails_alone_and_its_neighbours_do_not_change_by_a_bit():
    plain = packed_with(5)
    methods = [make("pgd_at", {**ATTACKED[k % 4], "seed": k}, k) for k in range(5)]
    with torch.no_grad():
        methods[2].network.head.bias.fill_(float("nan"))
    for e in range(2):
        outcomes = train_together([Replica("pgd_at", m, e) for m in methods])
        assert [type(o.error) for o in outcomes] == [type(None)] * 2 + [TrainingFailed] + [type(None)] * 2
        assert "training loss is nan" in str(outcomes[2].error)
        assert all(o.remark == "" for o in outcomes)
    for k in (0, 1, 3, 4):
        assert same(methods[k].network.state_dict(), plain[k].network.state_dict())


def test_stopping_some_trials_changes_no_bit_of_the_others():
    """Successive halving of 6 to 4 to 2: the survivors are those of the pack that was never compacted."""
    whole = packed_with(6, epochs=3)
    methods = [make("pgd_at", {**ATTACKED[k % 4], "seed": k}, k) for k in range(6)]
    for e, survivors in enumerate(([0, 1, 2, 3, 4, 5], [1, 3, 4, 5], [1, 5])):
        train_together([Replica("pgd_at", methods[k], e) for k in survivors])
    for k in (1, 5):
        assert same(methods[k].network.state_dict(), whole[k].network.state_dict())


def test_the_order_of_the_replicas_changes_no_bit():
    straight, turned = packed_with(4), packed_with(4, order=[2, 0, 3, 1])
    for one, other in zip(straight, turned, strict=True):
        assert same(one.network.state_dict(), other.network.state_dict())


def test_a_refilled_place_trains_as_in_a_pack_of_equal_ages(double):
    """A trial that joins at the others' third epoch is that trial alone from its first."""
    old = [make("pgd_at", v, k) for k, v in enumerate(ATTACKED[:2])]
    new, single = make("pgd_at", ATTACKED[3], 3), make("pgd_at", ATTACKED[3], 3)
    together("pgd_at", old, 2)
    for e in range(2):
        train_together([*(Replica("pgd_at", m, e + 2) for m in old), Replica("pgd_at", new, e)])
    alone([single], 2)
    agree([new], [single], 1e-12)


# -- to and from a pack ------------------------------------------------------------------------------------

MOVES = [
    ("pgd_at", {"ema": 0.9, "augment": "crop_flip"}),
    ("aoe", {"optimizer": "sgd", "attack.steps": 2, "outliers.ratio": 0.75}),
]


@pytest.mark.slow
@pytest.mark.parametrize("packed_first", [True, False])
@pytest.mark.parametrize(("name", "values"), MOVES)
def test_a_checkpoint_moves_between_a_pack_and_a_trial_alone(name, values, packed_first, double):
    """Two epochs here, two there, through a checkpoint file: the trial that stayed alone."""

    def both(own, e, in_pack):
        if in_pack:
            assert all(o.error is None for o in train_together([Replica(name, m, e) for m in own]))
        else:
            own[0].train_epoch(e)

    stayed = make(name, values, 0)
    alone([stayed])
    first = [make(name, values, 0), make(name, {**values, "lr": 7e-3}, 1)]
    for e in range(2):
        both(first, e, packed_first)
    saved = round_trip({"state": first[0].state_dict(), "streams": first[0].streams.state_dict()})
    second = [make(name, values, 0), make(name, {**values, "lr": 7e-3}, 1)]
    second[0].load_state_dict(saved["state"])
    second[0].streams.load_state_dict(saved["streams"])
    for e in range(2, 4):
        both(second, e, not packed_first)
    agree(second[:1], [stayed], 1e-12)


@pytest.mark.parametrize("values", [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0}])
def test_a_packed_trials_state_has_the_shape_of_the_state_alone(values):
    """Same keys, types and shapes all the way down, so that no reader can tell them apart."""
    packed = [make("pgd_at", {**values, "attack.steps": 1, "ema": 0.9}, seed) for seed in range(2)]
    single = make("pgd_at", {**values, "attack.steps": 1, "ema": 0.9}, 0)
    together("pgd_at", packed, 1)
    alone([single], 1)
    assert shape(packed[0].state_dict()) == shape(single.state_dict())
    assert shape(packed[0].streams.state_dict()) == shape(single.streams.state_dict())


def shape(value):
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.untyped_storage().nbytes()
    return type(value) if isinstance(value, float) else value


# -- who is packed -----------------------------------------------------------------------------------------


def test_trials_that_cannot_be_stacked_are_trained_alone_beside_those_that_can():
    """Another batch size, dropout, another method: bit for bit the trials alone."""
    others = [
        ("pgd_at", {"batch_size": 16}),
        ("pgd_at", {"dropout": 0.2}),
        ("energy", {"outliers.ratio": 1.0, "energy.trainable": "head"}),
    ]
    replicas = [Replica("pgd_at", make("pgd_at", {"attack.steps": 1}, k), 0) for k in range(2)]
    # dropout draws from the process's generator, which every trial's streams seed: this trial is built last
    replicas += [
        Replica(n, make(n, {"attack.steps": 1, **v} if n == "pgd_at" else v, 3), 0) for n, v in others
    ]
    groups = [sorted(group) for group in epoch.groups_of(replicas)]
    assert groups == [[0, 1], [2], [3], [4]]
    outcomes = train_together(replicas)
    assert all(o.error is None and o.means["loss"] > 0 for o in outcomes)
    single = make("energy", {"outliers.ratio": 1.0, "energy.trainable": "head"}, 3)
    assert single.train_epoch(0) == outcomes[4].means


def test_a_pack_that_raises_is_trained_one_by_one_from_the_start_of_the_epoch(monkeypatch):
    """As after running out of memory half-way: the numbers are those of the trials alone."""
    methods = [make("aoe", {"attack.steps": 1, "augment": "flip"}, seed) for seed in range(3)]
    single = [make("aoe", {"attack.steps": 1, "augment": "flip"}, seed) for seed in range(3)]
    step, calls = epoch.StackedTrainer.step, []

    def broken(self, losses, terms):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        step(self, losses, terms)

    monkeypatch.setattr(epoch.StackedTrainer, "step", broken)
    outcomes = train_together([Replica("aoe", m, 0) for m in methods])
    for outcome, method, other in zip(outcomes, methods, single, strict=True):
        assert outcome.means == other.train_epoch(0)
        assert same(method.network.state_dict(), other.network.state_dict())
        assert outcome.remark.startswith("trained alone: its pack of 3 raised OutOfMemoryError: CUDA out of")


def test_an_error_of_one_trial_alone_is_that_trials(monkeypatch):
    """A pool of outliers that breaks in the pack and alone: one outcome with the error, the others trained."""
    methods = [make("oe", {}, seed) for seed in range(3)]
    monkeypatch.setattr(methods[1].outliers, "next", lambda count: 1 / 0)
    errors = [o.error for o in train_together([Replica("oe", m, 0) for m in methods])]
    assert [type(e) for e in errors] == [type(None), ZeroDivisionError, type(None)]


@pytest.mark.parametrize("spec", [spec for spec in METHODS if spec.packed], ids=lambda spec: spec.name)
def test_every_varying_option_exists_and_every_step_is_a_packed_step(spec):
    known = fields_of(spec.options)
    for key in spec.packed.varies:
        assert key in known or (key.endswith(".") and any(k.startswith(key) for k in known)), key
    assert issubclass(spec.packed.load_step(), PackedStep)
