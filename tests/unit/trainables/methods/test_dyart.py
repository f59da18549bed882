"""DyART on a toy benchmark: the step, batch norm, extra data, exact resume, and nothing to push away."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.unit import toy
from tests.unit.toy import check_resume, pretrained, same
from tests.unit.trainables.methods.test_dyart_data import write_npz
from trainables.base.errors import InputError
from trainables.data.types.splits import DatasetInfo
from trainables.functional.attacks import attack_mode
from trainables.functional.boundary import closest_boundary, margin_weights, soft_margin
from trainables.methods import dyart as module
from trainables.methods.dyart import DyART
from trainables.networks import build as build_network
from trainables.options import build
from trainables.options.dyart import DyARTOptions
from trainables.options.methods import METHODS

COMMON = {"epochs": 3, "batch_size": 21, "seed": 5, "boundary.steps": 4}
FULL = {**COMMON, "augment": "crop_flip", "ema": 0.9, "dropout": 0.2, "weight_decay": 1e-3}


def make(data=None, **values):
    return DyART(build(DyARTOptions, {**COMMON, **values}), toy.context(5, pretrained, data))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_batch_norm(monkeypatch):
    """Make every network built from here on have two batch norms."""

    def initial(options, context):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return normed()

    monkeypatch.setattr(module, "initial_network", initial)


def normed():
    info = toy.benchmark().info
    network = build_network("small_cnn", info.num_classes, info.shape, info.mean, info.std)
    network.body.layers[1] = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU())
    network.body.layers[3] = nn.Sequential(nn.BatchNorm2d(32), nn.ReLU())
    return network


def trained(**values):
    """Return a method whose network is right on most training images."""
    method = make(epochs=8, burn_in_epochs=4, **values)
    for epoch in range(4):
        method.train_epoch(epoch)
    return method


def test_is_registered_by_name():
    assert METHODS["dyart"].load_method() is DyART
    assert METHODS["dyart"].options is DyARTOptions


# -- the step ----------------------------------------------------------------------------------------------


def test_gradient_is_cross_entropy_plus_lambda_times_the_derivative_of_the_cost():
    """Against a loop over images: exp(-alpha R) / ||g||_1 times the gradient of -phi(x^), over the batch size."""
    method = trained(robust_weight=30.0, alpha=2.0, r0=0.3, **{"boundary.quality_filter": False})
    network = method.network
    images, labels = next(iter(method.loader))
    loss, terms = method.loss(images, labels, generator(3))
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters)

    right = soft_margin(network(images), labels, 5.0) > 1e-9
    assert right.any()
    x, y = images[right], labels[right]
    with attack_mode(network):
        boundary = closest_boundary(
            lambda z: soft_margin(network(z), y, 5.0), x, steps=4, epsilon_init=0.03, generator=generator(3)
        )
    cost = torch.zeros(())
    for point, label, gradient, distance in zip(
        boundary.points, y, boundary.gradients, boundary.distances, strict=True
    ):
        if distance < 0.3:
            phi = soft_margin(network(point[None]), label[None], 5.0)[0]
            cost = cost - math.exp(-2 * distance.item()) / gradient.abs().sum() * phi
    expected = torch.autograd.grad(
        F.cross_entropy(network(images), labels) + 30 * cost / len(images), parameters
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert loss.item() == pytest.approx(terms["ce"].item() + 30 * terms["robust"].item(), rel=1e-5)
    assert terms["right"].item() == pytest.approx(right.float().mean().item())


def test_only_right_images_have_a_boundary():
    method = trained()
    images, labels = next(iter(method.loader))
    wrong = (labels + 1) % toy.CLASSES
    targets = torch.where(torch.arange(len(labels)) % 2 == 0, labels, wrong)
    rows, right, boundary = method.search(images, targets, generator())
    phi = soft_margin(method.network(images), targets, 5.0)
    assert torch.equal(right, phi > 1e-9)
    assert right[rows].all()
    assert len(boundary.points) == len(rows)
    assert (soft_margin(method.network(boundary.points), targets[rows], 5.0) <= 1e-5).all()


def test_a_batch_without_boundary_points_trains_on_the_cross_entropy_alone():
    """Every label wrong: the robust term is a zero on the device, gradients are those of the cross-entropy."""
    method = trained()
    images, labels = next(iter(method.loader))
    wrong = method.network(images).argmin(1)
    loss, terms = method.loss(images, wrong, generator())
    assert [terms[k].item() for k in ("robust", "right", "boundary", "margin")] == [0.0] * 4
    parameters = list(method.network.parameters())
    found = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(F.cross_entropy(method.network(images), wrong), parameters)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert labels.shape == wrong.shape


@pytest.mark.parametrize("norm", ["bn_upstream", "bn_eval_boundary"])
@pytest.mark.parametrize("search", ["sequential", "fab", "fab_onepass"])
def test_an_untrained_network_with_no_right_image_survives_an_epoch(norm, search):
    """Labels that the network never predicts: no boundary set in any batch of the epoch."""
    method = make(norm=norm, lr=0.0, weight_decay=0.0, **{"boundary.search": search})
    method.loader.labels = method.network(method.loader.images).argmin(1)
    means = method.train_epoch(0)
    assert means["boundary"] == 0
    assert math.isfinite(means["loss"])


def test_the_robust_term_makes_the_margins_grow():
    """Same seed and data, with and without: the mean distance to the boundary ends clearly larger."""
    margins = {}
    for weight in (0.0, 50.0):
        method = make(epochs=6, lr=3e-3, burn_in_epochs=2, robust_weight=weight, r0=0.5)
        means = [method.train_epoch(epoch) for epoch in range(6)]
        assert set(means[0]) == {"loss"}
        assert set(means[5]) == {"loss", "ce", "robust", "right", "boundary", "margin"}
        margins[weight] = means[5]["margin"]
    assert margins[50.0] > margins[0.0] + 0.02


# -- batch norm --------------------------------------------------------------------------------------------


def test_bn_upstream_shows_batch_norm_the_boundary_points_and_the_images(monkeypatch):
    """Two passes in training mode: two updates of the running statistics; with bn_eval_boundary one."""
    with_batch_norm(monkeypatch)
    counts = {}
    for norm in ("bn_upstream", "bn_eval_boundary"):
        method = make(norm=norm, start="scratch", burn_in_epochs=2, **{"boundary.quality_filter": False})
        for epoch in range(2):
            method.train_epoch(epoch)
        images, labels = next(iter(method.loader))
        layer = method.network.body.layers[1][0]
        before = int(layer.num_batches_tracked)
        loss, terms = method.loss(images, labels, generator())
        loss.backward()
        assert terms["boundary"].item() > 0
        counts[norm] = int(layer.num_batches_tracked) - before
        assert method.network.training
        assert layer.training
    assert counts == {"bn_upstream": 2, "bn_eval_boundary": 1}


def test_bn_eval_boundary_has_the_margin_gradient_of_the_network_that_was_searched(monkeypatch):
    """In eval mode the surrogate's phi is that of the search: the margins at the points are those reported."""
    with_batch_norm(monkeypatch)
    method = make(start="scratch", burn_in_epochs=1, **{"boundary.quality_filter": False})
    method.train_epoch(0)
    images, labels = next(iter(method.loader))
    seen = {}
    search = method.search

    def spy(*args):
        seen["found"] = search(*args)
        return seen["found"]

    method.search = spy
    _, terms = method.loss(images, labels, generator())
    _, _, boundary = seen["found"]
    expected = -(margin_weights(boundary, 5.0, 0.4) * boundary.margins).sum() / len(images)
    assert terms["robust"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_average_has_its_own_batch_norm_buffers(monkeypatch):
    with_batch_norm(monkeypatch)
    method = make(start="scratch", ema=0.9)
    method.train_epoch(0)
    live, average = dict(method.network.named_buffers()), dict(method.classifier().named_buffers())
    for name, buffer in average.items():
        assert buffer.data_ptr() != live[name].data_ptr()
        assert torch.equal(buffer, live[name])


def test_group_norm_replaces_batch_norm(monkeypatch):
    """Also in the classifier that a checkpoint is loaded into; the groups divide the channels."""
    with_batch_norm(monkeypatch)
    method = make(norm="gn", start="scratch")
    layers = [m for m in method.network.modules() if isinstance(m, nn.GroupNorm)]
    assert [(m.num_groups, m.num_channels) for m in layers] == [(16, 16), (32, 32)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in method.network.modules())
    method.train_epoch(0)
    options = build(DyARTOptions, {"network": "preact_resnet18", "norm": "gn"})
    info = DatasetInfo("toy", 4, (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    rebuilt = DyART.build_classifier(options, info)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in rebuilt.modules())
    with pytest.raises(InputError, match="start=scratch"):
        make(norm="gn")


def test_bn_momentum_is_set(monkeypatch):
    with_batch_norm(monkeypatch)
    method = make(start="scratch", bn_momentum=0.01)
    assert [m.momentum for m in method.network.modules() if isinstance(m, nn.BatchNorm2d)] == [0.01, 0.01]


@pytest.mark.parametrize("decay", [False, True])
def test_normalisation_layers_are_spared_from_weight_decay(monkeypatch, decay):
    """One step of SGD with no gradient: decayed weights shrink by lr * decay, spared ones stay."""
    with_batch_norm(monkeypatch)
    values = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "lr": 0.5, "weight_decay": 0.1}
    method = make(start="scratch", norm_decay=decay, **values)
    head, scale = method.network.head.weight, method.network.body.layers[1][0].weight
    before = head.detach().clone(), scale.detach().clone()
    method.trainer.step(sum((p * 0).sum() for p in method.network.parameters()))
    torch.testing.assert_close(head.detach(), before[0] * 0.95)
    torch.testing.assert_close(scale.detach(), before[1] * (0.95 if decay else 1.0))
    assert sum(len(g["params"]) for g in method.trainer.optimizer.param_groups) == len(
        list(method.network.parameters())
    )


# -- the life of a trial -----------------------------------------------------------------------------------

RESUMES = [
    {},
    {"boundary.search": "fab", "boundary.shared_alpha": True, "norm": "bn_upstream"},
    {"optimizer": "sgd", "lr": 0.05, "burn_in_epochs": 1, "start": "scratch"},
    {"speed_images": 8, "extra": True},
]


@pytest.mark.parametrize("values", RESUMES)
@pytest.mark.parametrize("streams_first", [True, False])
def test_resume_is_bit_exact(values, streams_first, tmp_path):
    values = {**FULL, **values}
    if values.pop("extra", False):
        write_npz(tmp_path / "extra.npz")
        values["synthetic_path"] = str(tmp_path / "extra.npz")
    check_resume(lambda: make(**values), streams_first)


def test_starts_from_the_pretrained_weights():
    assert same(make().network.state_dict(), pretrained())
    assert not same(make(start="scratch").network.state_dict(), pretrained())


def test_passes_golden():
    """Burn-in costs 3 an image. Then 3 + 1, and for right images the search, for boundary points another 3."""
    method = make(epochs=4, burn_in_epochs=2)
    for epoch in range(2):
        method.train_epoch(epoch)
    assert method.passes == 6.0
    means = method.train_epoch(2)
    assert means["right"] > 0
    assert method.passes == pytest.approx(6 + 4 + 2 * 4 * means["right"] + 3 * means["boundary"])


def test_speed_diagnostic_reads_and_does_not_write():
    plain, asked = make(), make(speed_images=16, speed_radius=1.0)
    for epoch in range(2):
        base, found = plain.train_epoch(epoch), asked.train_epoch(epoch)
        assert base == {k: v for k, v in found.items() if not k.startswith("speed/")}
        assert 0 <= found["speed/negative"] <= 1
        assert 0 <= found["speed/margin"] < 1
    assert same(plain.network.state_dict(), asked.network.state_dict())


def test_the_update_for_one_image_lets_its_margin_grow():
    """Where the robust term outweighs the cross-entropy, the speed along its own update is positive."""
    method = trained(robust_weight=1e4, r0=1.0, speed_images=1, speed_radius=1.0, **{"boundary.steps": 10})
    found = method._speed()
    assert 0 < found["speed/margin"] < 1
    assert found["speed/negative"] == 0.0
