"""Standard, OE and AOE on a toy benchmark: exact resume, pairing of arms, costs and the upstream flags."""

import pytest
import torch

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same, weights
from trainables.base.errors import TrainingFailed
from trainables.methods.aoe import AOE
from trainables.methods.outlier_exposure import OE
from trainables.methods.standard import Standard, initial_network
from trainables.options import build
from trainables.options.classifiers import AOEOptions, OEOptions, StandardOptions
from trainables.options.methods import METHODS

KINDS = {"standard": (Standard, StandardOptions), "oe": (OE, OEOptions), "aoe": (AOE, AOEOptions)}
#: Makes 3 steps of 21 an epoch; 50 outliers do not divide into 3 x 16 draws, so rounds straddle epochs.
COMMON = {"epochs": 3, "batch_size": 21, "seed": 5}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "grad_clip": 1.0}
OUTLIER = {"outliers.ratio": 0.75}


def make(name, seed=5, **values):
    cls, options = KINDS[name]
    return cls(build(options, {**COMMON, **values}), toy.context(seed, pretrained))


@pytest.mark.parametrize("name", KINDS)
def test_is_registered_by_name(name):
    entry = METHODS[name]
    assert entry.load_method() is KINDS[name][0]
    assert entry.options is KINDS[name][1]


def test_scores_by_which_methods_are_judged():
    assert tuple(METHODS[name].score for name in ("standard", "oe", "aoe")) == ("energy", "msp", "msp")


RESUMES = [
    ("standard", {}),
    ("standard", {"optimizer": "sgd", "lr": 0.05, "schedule": "step", "step_size": 1}),
    ("standard", {"from_pretrained": True}),
    ("oe", OUTLIER),
    ("oe", {**OUTLIER, "outlier_norm": "raw01", "oe_reduction": "joint_mean"}),
    ("aoe", {**OUTLIER, "attack.steps": 2, "attack.schedule": "up"}),
    (
        "aoe",
        {
            **OUTLIER,
            "attack.name": "mifgsm",
            "attack.steps": 2,
            "inlier_attack.name": "ce",
            "inlier_attack.steps": 1,
        },
    ),
    ("aoe", {"attack.name": "pgd", "attack.steps": 2, "attack_bn": "train", "outlier_norm": "raw01"}),
    ("aoe", {"attack.name": "gauss", "shared_noise": True}),
    ("aoe", {"attack.name": "eba", "outlier_clamp": False, "outliers.augment": False, "warmup": 0.1}),
]


@pytest.mark.parametrize(("name", "values"), RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact_at_every_epoch(name, values, streams_first):
    for done in (1, 2):
        check_resume(lambda: make(name, **{**FULL, **values}), streams_first, done)


@pytest.mark.parametrize("name", KINDS)
def test_evaluating_between_epochs_changes_nothing(name):
    straight, disturbed = make(name), make(name)
    for method in (straight, disturbed):
        for epoch in range(2):
            method.train_epoch(epoch)
            if method is disturbed:
                method.classifier().eval()
                method.streams.fresh("validation", epoch)
    assert same(weights(straight.network), weights(disturbed.network))


def test_learns_the_toy_classes():
    method = make("standard", epochs=8)
    losses = [method.train_epoch(epoch)["loss"] for epoch in range(8)]
    data = toy.images_of(32, 1)
    predicted = method.classifier().eval()(torch.from_numpy(data.images)).argmax(1)
    assert losses[-1] < losses[0]
    assert (predicted == torch.from_numpy(data.labels)).float().mean().item() >= 0.95


def test_outlier_exposure_makes_outliers_undecided():
    """Against a CE-only continuation the softmax on fresh noise comes nearer to uniform."""
    confidences = []
    for name, values in (("standard", {"from_pretrained": True}), ("oe", {"schedule": "one_cycle"})):
        method = make(name, epochs=8, lr=3e-3, **values)
        for epoch in range(8):
            method.train_epoch(epoch)
        logits = method.classifier().eval()(torch.from_numpy(toy.outliers_of(64, 3)))
        confidences.append(logits.softmax(1).amax(1).mean().item())
    assert confidences[1] < confidences[0] - 0.1


def test_terms_add_up_to_the_loss():
    """loss = ce + weight * uniformity with separate means."""
    means = make("oe", **{"outliers.weight": 0.25}).train_epoch(0)
    assert set(means) == {"loss", "ce", "uniformity"}
    assert means["loss"] == pytest.approx(means["ce"] + 0.25 * means["uniformity"], rel=1e-5)


def test_aoe_without_attack_is_oe_bit_for_bit():
    oe, aoe = make("oe"), make("aoe", **{"attack.name": "none"})
    zero = make("aoe", **{"attack.name": "pgd", "attack.epsilon": 0.0})
    for epoch in range(2):
        assert oe.train_epoch(epoch) == aoe.train_epoch(epoch) == zero.train_epoch(epoch)
    assert same(weights(oe.network), weights(aoe.network))
    assert same(weights(oe.network), weights(zero.network))


def test_arms_see_the_same_data_in_the_same_order():
    """Whatever one arm draws for its attack, the next inliers and outliers are those of the other."""
    seen = {}
    for name in ("eba_pgd", "gauss"):
        method = make("aoe", **{"attack.name": name, "attack.steps": 1})
        batches = []
        original = method.perturb

        def spy(images, labels, outliers, epoch, original=original, batches=batches):
            batches.append((images, labels, outliers))
            return original(images, labels, outliers, epoch)

        method.perturb = spy
        method.train_epoch(0)
        seen[name] = batches
    for left, right in zip(*seen.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_starts_from_the_pretrained_weights():
    assert same(weights(make("oe").network), pretrained())
    assert same(weights(make("standard", from_pretrained=True).network), pretrained())
    assert not same(weights(make("standard").network), pretrained())


def test_initial_weights_depend_on_the_seed_only():
    """Not on global draws before, and building leaves the global generator alone."""
    options = build(StandardOptions, COMMON)
    context = toy.context(5)
    before = torch.get_rng_state()
    first = initial_network(options, context).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert same(first, initial_network(options, context).state_dict())
    assert not same(first, initial_network(options, toy.context(6)).state_dict())


PASSES = [
    ("standard", {}, 3.0),
    ("oe", {}, 6.0),
    ("oe", {"outliers.ratio": 2.0}, 9.0),
    ("aoe", {"attack.name": "eba"}, 8.0),
    ("aoe", {"attack.name": "gauss"}, 6.0),
    ("aoe", {"attack.name": "pgd", "attack.steps": 2}, 10.0),
    ("aoe", {"attack.name": "pgd", "attack.steps": 2, "attack_bn": "train"}, 14.0),
    ("aoe", {"attack.name": "eba", "inlier_attack.name": "energy", "inlier_attack.steps": 2}, 12.0),
]


@pytest.mark.parametrize(("name", "values", "expected"), PASSES)
def test_passes_golden(name, values, expected):
    """Training an image costs 3; attacking it 2 a step; an OE batch has as many outliers as inliers."""
    method = make(name, **values)
    method.train_epoch(0)
    assert method.passes == expected


def test_raw01_normalises_inliers_only():
    method = make("oe", outlier_norm="raw01")
    images, outliers = torch.rand(3, 1, 8, 8), torch.rand(2, 1, 8, 8)
    logits = method.joint_logits(images, outliers)
    torch.testing.assert_close(logits[:3], method.network(images))
    torch.testing.assert_close(logits[3:], method.network.body(outliers))


def test_trains_on_perturbed_outliers_within_the_radius():
    method = make("aoe", **{"attack.epsilon": 0.05, "attack.steps": 2, "inlier_attack.name": "ce"})
    images, labels, outliers = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]), torch.rand(2, 1, 8, 8)
    moved_in, moved_out = method.perturb(images, labels, outliers, 0)
    assert 0.04 < (moved_out - outliers).abs().max().item() <= 0.05 + 1e-6
    assert 0.02 < (moved_in - images).abs().max().item() <= 0.03 + 1e-6


def test_a_diverged_training_is_reported():
    method = make("standard", optimizer="sgd", lr=1e30, schedule="constant")
    with pytest.raises(TrainingFailed, match="diverged"):
        method.train_epoch(0)


def test_outliers_are_augmented_unless_they_are_to_stay():
    """Of images that do not look the same when flipped, those that stay are among the 50 as they are."""
    known = {image.tobytes() for image in toy.outliers_of(50, 0)}
    drawn = {}
    for kept in (True, False):
        method = make("aoe", augment="crop_flip", **{"outliers.augment": kept})
        method.outliers.images = torch.from_numpy(toy.outliers_of(50, 0))
        drawn[kept] = [image.numpy().tobytes() in known for image in method.outliers.next(40)]
    assert all(drawn[False])
    assert sum(drawn[True]) < 5


def test_attacked_outliers_leave_the_box_only_if_they_may():
    images, labels = torch.rand(8, *toy.SHAPE), torch.arange(8) % 4
    ends = {}
    for clamp in (True, False):
        method = make(
            "aoe", outlier_norm="raw01", outlier_clamp=clamp, **{"attack.name": "eba", "attack.epsilon": 0.5}
        )
        moved = method.perturb(images, labels, torch.rand(8, *toy.SHAPE), 0)[1]
        ends[clamp] = (moved.min().item(), moved.max().item())
    assert ends[True][0] >= 0
    assert ends[True][1] <= 1
    assert ends[False][0] < -0.3
    assert ends[False][1] > 1.3
