"""Energy fine-tuning on a toy benchmark: hinges and margins by hand, frozen parts, costs, exact resume."""

import math

import pytest
import torch

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same, weights
from trainables.base.errors import InputError, TrainingFailed
from trainables.functional.losses import energy
from trainables.methods.energy import (
    Energy,
    auto_margins,
    checked_margins,
    energy_hinges,
    energy_loss,
    trained_part,
)
from trainables.methods.standard import Standard
from trainables.networks import build as build_network
from trainables.options import build
from trainables.options.classifiers import StandardOptions
from trainables.options.energy import EnergyOptions
from trainables.options.methods import METHODS

#: 3 steps of 21 an epoch; 50 outliers do not divide into 3 x 42 draws, so rounds straddle epochs.
COMMON = {"epochs": 3, "batch_size": 21, "seed": 5}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "grad_clip": 1.0}


def make(seed=5, network="small_cnn", **values):
    options = build(EnergyOptions, {**COMMON, "network": network, **values})
    return Energy(options, toy.context(seed, lambda: pretrained(network)))


def test_is_registered_by_name():
    entry = METHODS["energy"]
    assert entry.load_method() is Energy
    assert entry.options is EnergyOptions
    assert METHODS["energy"].score == "energy"


def test_hinges_golden():
    """Margins -3 and -1: inliers -4, -1 give (0 + 2^2) / 2 = 2; outliers -2, 0 give (1^2 + 0) / 2 = 1/2."""
    hinge_in, hinge_out = energy_hinges(torch.tensor([-4.0, -1.0]), torch.tensor([-2.0, 0.0]), -3.0, -1.0)
    assert (hinge_in.item(), hinge_out.item()) == (2.0, 0.5)


def test_hinges_vanish_exactly_at_the_margins():
    at = energy_hinges(torch.tensor([-3.0, -9.0]), torch.tensor([-1.0, 5.0]), -3.0, -1.0)
    assert (at[0].item(), at[1].item()) == (0.0, 0.0)


def test_hinges_push_the_two_sides_apart():
    """The derivatives are 2 (E - m_in) = 2 (-1 + 3) = 4 and -2 (m_out - E) = -2 (-1 + 2) = -2."""
    inlier = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    outlier = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
    sum(energy_hinges(inlier, outlier, -3.0, -1.0)).backward()
    assert inlier.grad.item() == 4.0  # descending lowers the inlier's energy
    assert outlier.grad.item() == -2.0  # and raises the outlier's


def test_loss_golden():
    """The docstring's example: CE = ln(4/3), energies -ln 4 and -ln 2, so that each hinge is (ln 4)^2 and (ln 2)^2."""
    ln = math.log
    logits_in = torch.tensor([[ln(3), 0.0]], dtype=torch.float64)
    logits_out = torch.zeros(1, 2, dtype=torch.float64)
    found = energy_loss(logits_in, torch.tensor([0]), logits_out, -2 * ln(4), 0.0, 0.5, 2.0)
    expected = (ln(4 / 3) + 0.5 * (ln(4) ** 2 + 2 * ln(2) ** 2), ln(4 / 3), ln(4) ** 2, ln(2) ** 2)
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-14)


def test_auto_margins_golden():
    """Medians -12 and -8, offset 2, factor 2: m_in = -14 and m_out = -14 + 2 * 4 = -6."""
    assert auto_margins(-12.0, -8.0, 2.0, 2.0) == (-14.0, -6.0)


def test_auto_margins_have_a_gap_even_where_outliers_lie_below():
    """Outliers 3 below inliers: the unit of the gap is 1, not -3."""
    assert auto_margins(-8.0, -11.0, 0.0, 2.5) == (-8.0, -5.5)


def test_upper_margin_is_capped_at_zero():
    assert checked_margins(-3.0, 25.0) == (-3.0, 0.0)
    assert checked_margins(-23.0, 18.0) == (-23.0, -5.0)


@pytest.mark.parametrize("m_in", [0.0, 1.5, math.nan])
def test_a_lower_margin_that_is_not_negative_is_refused(m_in):
    with pytest.raises(InputError, match="must be negative"):
        checked_margins(m_in, 1.0)


def test_auto_margins_come_from_the_pretrained_energies():
    """Against energies computed here from the pretrained weights, in eval mode."""
    method = make(**{"energy.m_in_offset": 3.0, "energy.gap_factor": 1.5, "dropout": 0.5})
    info = toy.benchmark().info
    network = build_network("small_cnn", info.num_classes, info.shape, info.mean, info.std)
    network.load_state_dict(pretrained())
    with torch.no_grad():
        inside = energy(network.eval()(method.loader.images)).median().item()
        outside = energy(network(method.outliers.images)).median().item()
    m_in = inside - 3.0
    assert method.margins == pytest.approx((m_in, m_in + 1.5 * max(1.0, outside - inside)), abs=1e-5)


def test_fixed_margins():
    method = make(**{"energy.margins": "fixed", "energy.m_in": -23.0, "energy.gap": 18.0})
    assert method.margins == (-23.0, -5.0)
    means = method.train_epoch(0)
    assert (means["m_in"], means["m_out"]) == (-23.0, -5.0)


RESUMES = [
    {},
    {"energy.margins": "fixed", "outliers.ratio": 0.75, "optimizer": "sgd"},
    {"energy.trainable": "head"},
    {"greg.weight": 0.1, "greg.sampler": "cluster2way", "greg.pool_factor": 2, "greg.clusters": 8},
    {"greg.weight": 1.0, "greg.mode": "upstream", "energy.trainable": "last_stage"},
]


@pytest.mark.parametrize("values", RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact_at_every_epoch(values, streams_first):
    for done in (1, 2):
        check_resume(lambda: make(**{**FULL, **values}), streams_first, done)


def test_evaluating_between_epochs_changes_nothing():
    straight, disturbed = make(), make()
    for method in (straight, disturbed):
        for epoch in range(2):
            method.train_epoch(epoch)
            if method is disturbed:
                method.classifier().eval()
                method.streams.fresh("validation", epoch)
    assert same(weights(straight.network), weights(disturbed.network))


def test_terms_add_up_to_the_loss():
    """loss = ce + lam (hinge_in + v hinge_out) + w gradient."""
    means = make(**{"energy.lam": 0.3, "outliers.weight": 0.5, "greg.weight": 0.25}).train_epoch(0)
    assert set(means) == {"loss", "ce", "hinge_in", "hinge_out", "gradient", "m_in", "m_out"}
    energies = means["hinge_in"] + 0.5 * means["hinge_out"]
    assert means["loss"] == pytest.approx(means["ce"] + 0.3 * energies + 0.25 * means["gradient"], rel=1e-5)


def test_without_weight_it_is_the_cross_entropy_continuation():
    """lam = 0 sees the inliers of Standard(from_pretrained) in the same order and takes the same steps."""
    values = {"lr": 1e-3, "schedule": "cosine"}
    control = make(**{**values, "energy.lam": 0.0})
    options = build(StandardOptions, {**COMMON, **values, "from_pretrained": True})
    standard = Standard(options, toy.context(5, pretrained))
    for epoch in range(3):
        assert control.train_epoch(epoch)["ce"] == pytest.approx(
            standard.train_epoch(epoch)["loss"], rel=1e-4
        )
    left, right = weights(control.network), weights(standard.network)
    for key in left:
        torch.testing.assert_close(left[key], right[key], rtol=0, atol=2e-5)


def test_fine_tuning_separates_the_energies():
    """From a classifier of the classes: afterwards the medians lie at least half a gap apart on fresh images."""
    start = Standard(build(StandardOptions, {**COMMON, "epochs": 6, "lr": 3e-3}), toy.context(5))
    for epoch in range(6):
        start.train_epoch(epoch)
    state = weights(start.network)
    values = {"epochs": 8, "lr": 3e-3, "energy.margins": "fixed", "energy.m_in": -8.0, "energy.gap": 5.0}
    method = Energy(build(EnergyOptions, {**COMMON, **values}), toy.context(5, lambda: state))
    for epoch in range(8):
        method.train_epoch(epoch)
    with torch.no_grad():
        network = method.classifier().eval()
        inside = energy(network(torch.from_numpy(toy.images_of(32, 1).images))).median().item()
        outside = energy(network(torch.from_numpy(toy.outliers_of(64, 3)))).median().item()
    assert outside - inside >= 2.5


NETWORKS = {"small_cnn": ("body.layers.4.", "body.head."), "wrn_40_2": ("body.layers.13.", "body.head.")}


@pytest.mark.parametrize("network", NETWORKS)
def test_head_only_keeps_the_features_and_their_statistics(network):
    """Not even the counters of batch norm move."""
    method = make(network=network, **{"energy.trainable": "head"})
    before = weights(method.network)
    method.train_epoch(0)
    for key, value in method.network.state_dict().items():
        assert torch.equal(value, before[key]) == (not key.startswith("body.head.")), key


@pytest.mark.parametrize("network", NETWORKS)
def test_last_stage_trains_what_lies_behind_it(network):
    """Of WRN-40-2 that is layers 13-18 (six blocks), 19 (batch norm) and the head; before them nothing moves."""
    method = make(network=network, **{"energy.trainable": "last_stage"})
    before = weights(method.network)
    method.train_epoch(0)
    after = method.network.state_dict()
    stage, head = NETWORKS[network]
    first = int(stage.split(".")[2])
    frozen = [k for k in before if k.startswith("body.layers.") and int(k.split(".")[2]) < first]
    assert all(torch.equal(after[k], before[k]) for k in frozen)
    assert not any(
        torch.equal(after[k], before[k]) for k in before if k.startswith(stage) or k.startswith(head)
    )


def test_the_head_of_mobilenet_is_both_linear_layers():
    with torch.device("meta"):
        network = build_network("mobilenet_v3_large", 101, (3, 224, 224), (0.5,) * 3, (0.25,) * 3)
    trained = [p for module in trained_part(network, "head") for p in module.parameters()]
    assert sum(p.numel() for p in trained) == 960 * 1280 + 1280 + 1280 * 101 + 101
    last = {id(p) for module in trained_part(network, "last_stage") for p in module.parameters()}
    blocks = [id(p) for block in list(network.body.layers.features)[13:] for p in block.parameters()]
    assert last == {id(p) for p in trained} | set(blocks)


PASSES = [
    ({}, 9.0),
    ({"outliers.ratio": 1.0}, 6.0),
    ({"energy.trainable": "head", "outliers.ratio": 1.0}, 2.0),
    ({"greg.weight": 0.1, "outliers.ratio": 1.0}, 18.0),
    ({"greg.sampler": "cluster", "greg.pool_factor": 4, "outliers.ratio": 1.0}, 10.0),
]


@pytest.mark.parametrize(("values", "expected"), PASSES)
def test_passes_golden(values, expected):
    """3 an image, 1 with a frozen backbone; GReg 6 more; 1 for each candidate. Ratio 2 makes 3 images an inlier."""
    method = make(**values)
    method.train_epoch(0)
    assert method.passes == expected


def test_sampler_and_penalty_leave_the_order_of_the_data_alone():
    """Arms of a comparison see the same inliers; GReg's penalty also the same outliers."""
    seen = []
    for values in ({}, {"greg.weight": 0.1}, {"greg.sampler": "cluster", "greg.pool_factor": 2}):
        method = make(**values)
        method.train_epoch(0)
        seen.append((method.streams.get("shuffle").get_state(), method.outliers.state_dict()["order"]))
    assert all(torch.equal(seen[0][0], state) for state, _ in seen)
    assert torch.equal(seen[0][1], seen[1][1])


def test_a_pool_that_is_too_small_is_refused():
    """3 x 42 candidates cut to a quarter are 32 for 42 outliers."""
    with pytest.raises(InputError, match=r"greg\.pool_factor=3"):
        make(**{"greg.sampler": "cluster", "greg.pool_factor": 3, "greg.rank_end": 0.25})


def test_a_diverged_training_is_reported():
    method = make(optimizer="sgd", lr=1e30, schedule="constant")
    with pytest.raises(TrainingFailed, match="diverged"):
        method.train_epoch(0)
