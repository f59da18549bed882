"""CORES against hand-worked values, a reference in loops, and the symmetries of the score."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit import toy
from trainables.base.errors import InputError
from trainables.data.synthetic.digits import split_digits
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import DatasetInfo, Split
from trainables.evaluation.detectors.cores import (
    Cores,
    aggregate,
    log_response,
    sites,
    stages,
    threshold_noise,
)
from trainables.evaluation.metrics.ood_metrics import auroc
from trainables.methods.standard import Standard
from trainables.networks import Body
from trainables.networks import build as build_network
from trainables.options import build
from trainables.options.classifiers import StandardOptions
from trainables.options.energy import CoresOptions

SHAPE = (1, 8, 8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0):
    torch.manual_seed(seed)
    return build_network("small_cnn", 4, SHAPE, (0.3,), (0.25,))


def images(count=6, seed=1):
    return torch.rand((count, *SHAPE), generator=generator(seed))


def test_log_response_golden():
    """Maxima 3, 1 at t+ = 1: mean excess 1, one of two beyond it. Minimum -2 at t- = 0: excess 2, one of one.

    S = (1 * 2)^1 (1/2 * 1)^1 = 1, and with powers 10 and 2 it is 2^10 / 2^2.
    """
    highest, lowest = torch.tensor([[3.0, 1.0]]), torch.tensor([[-2.0]])
    limits = (torch.tensor(0.0), torch.tensor(1.0))
    options = CoresOptions(magnitude=1.0, frequency=1.0, floor=1e-12)
    assert log_response(highest, lowest, *limits, options).item() == pytest.approx(0.0, abs=1e-9)
    options = CoresOptions(magnitude=10.0, frequency=2.0, floor=1e-12)
    assert log_response(highest, lowest, *limits, options).item() == pytest.approx(8 * math.log(2), abs=1e-9)


def test_log_response_is_finite_where_nothing_responds():
    """Every factor is then the floor of 1/1000: 2 * 10 + 2 * 1 logarithms of it, e^-152, 0 in float32."""
    found = log_response(
        torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor(-1.0), torch.tensor(1.0), CoresOptions()
    )
    assert found.item() == pytest.approx(22 * math.log(1e-3))


def test_aggregates_golden():
    """log S = (0, log 3): the mean of the logs is log(3) / 2, the log of the mean of 1 and 3 is log 2."""
    logs = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    assert aggregate(logs, "mean_log").item() == pytest.approx(math.log(3) / 2)
    assert aggregate(logs, "log_mean").item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="log_mean"):
        aggregate(logs, "mean")


def top(values, k, largest=True):
    return sorted(range(len(values)), key=lambda i: -values[i] if largest else values[i])[:k]


def reference(network, image, thresholds, frac, options):
    """Return mean log S of one image of small_cnn by loops over channels, straight from the definition."""
    layers, head = network.body.layers, network.head
    x = network.normalize(image[None]).double()
    convs, responses = [layers[0], layers[2], layers[4]], []
    for layer in layers.double():
        x = layer(x)
        if layer in convs:
            responses.append(x[0].detach().clone())
    logits = head.double()(x)[0].tolist()
    plus, minus = logits.index(max(logits)), logits.index(min(logits))
    rows = head.weight.detach().view(4, 64, 16)
    k = round(frac * 64)
    positive = top([rows[plus, j].max().item() for j in range(64)], k)
    negative = top([rows[minus, j].max().item() for j in range(64)], k)
    total = 0.0
    for level in (2, 1, 0):
        low, high = thresholds[level]
        most = [responses[level][i].max().item() - high for i in positive]
        least = [low - responses[level][i].min().item() for i in negative]
        for excess in (most, least):
            magnitude = sum(max(0.0, e) for e in excess) / len(excess)
            frequency = sum(e > 0 for e in excess) / len(excess)
            total += options.magnitude * math.log(magnitude + options.floor)
            total += options.frequency * math.log(frequency + options.floor)
        if level:
            kernel = convs[level].weight.detach()
            channels = kernel.shape[1]
            up = [sum(kernel[i, j].max().item() for i in positive) for j in range(channels)]
            down = [sum(kernel[i, j].min().item() for i in negative) for j in range(channels)]
            positive = top(up, round(frac * channels))
            negative = top(down, round(frac * channels), largest=False)
    return total / 3


def test_score_matches_a_reference_in_loops():
    options = CoresOptions(frac=0.25, quantile=0.3, noise_n=32)
    cores = Cores(small(), SHAPE, generator(), options)
    thresholds = [(low.item(), high.item()) for low, high in cores.thresholds]
    batch = images()
    found = cores.score(batch)
    expected = [-reference(small(), image, thresholds, 0.25, options) for image in batch]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert len(set(found.tolist())) == len(batch)


def test_each_image_has_channels_of_its_own():
    """The score of an image does not depend on its batch, although predictions differ within it."""
    cores = Cores(small(), SHAPE, generator(), CoresOptions(frac=0.25, quantile=0.3))
    batch = images(24)
    joint = cores.score(batch)
    assert len(cores.network(batch).argmin(1).unique()) > 1
    torch.testing.assert_close(
        joint, torch.cat([cores.score(batch[i : i + 1]) for i in range(24)]), rtol=1e-5, atol=1e-4
    )


def test_numbering_the_channels_otherwise_changes_nothing():
    """Permute the outputs of every convolution together with the inputs of what follows."""
    original, permuted = small(), small()
    layers, head = permuted.body.layers, permuted.head
    with torch.no_grad():
        before = None
        for conv in (layers[0], layers[2], layers[4]):
            order = torch.randperm(conv.out_channels, generator=generator(conv.out_channels))
            weight = conv.weight if before is None else conv.weight[:, before]
            conv.weight.copy_(weight[order].clone())
            conv.bias.copy_(conv.bias[order].clone())
            before = order
        head.weight.copy_(head.weight.view(4, 64, 16)[:, before].flatten(1).clone())
    batch, options = images(), CoresOptions(frac=0.25, quantile=0.3)
    torch.testing.assert_close(permuted(batch), original(batch))
    scores = [Cores(network, SHAPE, generator(), options).score(batch) for network in (original, permuted)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_thresholds_cut_off_the_quantile_of_the_noise():
    """Of the maxima of the noise 20 % exceed t+, of its minima 20 % lie below t-, over all channels of a layer."""
    network = small()
    cores = Cores(network, SHAPE, generator(4), CoresOptions(quantile=0.2, noise_n=100))
    noise = threshold_noise(SHAPE, 100, generator(4))
    response = network.body.layers[:3](network.normalize(noise))
    low, high = cores.thresholds[1]
    assert (response.amax((2, 3)) > high).float().mean().item() == pytest.approx(0.2, abs=1e-3)
    assert (response.amin((2, 3)) < low).float().mean().item() == pytest.approx(0.2, abs=1e-3)


def test_threshold_noise_is_half_gaussian_half_uniform():
    """Clipping N(0.5, 0.5^2) to [0, 1] leaves 15.9 % of the pixels at either end; uniform pixels never lie there."""
    noise = threshold_noise((1, 40, 40), 50, generator())
    assert noise.shape == (100, 1, 40, 40)
    assert (noise[:50] == 1).float().mean().item() == pytest.approx(0.1587, abs=0.005)
    assert (noise[:50] == 0).float().mean().item() == pytest.approx(0.1587, abs=0.005)
    assert ((noise[50:] > 0) & (noise[50:] < 1)).all()
    assert noise[50:].mean().item() == pytest.approx(0.5, abs=0.005)


def test_noise_gets_a_low_score_on_trained_digits():
    """Uniform noise that the thresholds have not seen, against validation images; by rank and by mean log S."""
    train, validation, _ = split_digits()
    info = DatasetInfo("digits", 10, SHAPE, (0.3050,), (0.3759,), builtin=True)
    data = Benchmark(info, {Split.TRAIN: {"id": train}}, "search")
    method = Standard(build(StandardOptions, {"epochs": 8}), toy.context(0, data=data))
    for epoch in range(8):
        method.train_epoch(epoch)
    cores = Cores(method.network, SHAPE, generator(), CoresOptions())
    inside = cores.score(torch.from_numpy(validation.images)).numpy()
    outside = cores.score(images(300, seed=9)).numpy()
    assert auroc(inside, outside) >= 0.8
    assert inside.mean() < outside.mean()


def test_scoring_leaves_the_network_as_it_was():
    network = build_network("wrn_40_2", 4, SHAPE, (0.3,), (0.25,))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    Cores(network, SHAPE, generator(), CoresOptions(noise_n=2)).score(images(2))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_bytes_score_as_their_unit_images():
    cores = Cores(small(), SHAPE, generator(), CoresOptions(quantile=0.3))
    as_bytes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8))
    torch.testing.assert_close(cores.score(as_bytes), cores.score(as_bytes.float() / 255))


#: Channels of each site, and the (out, in) of the weights that lead on from it.
SITES = {
    "small_cnn": ([16, 32, 64], [[(32, 16)], [(64, 32)], [(10, 64)]]),
    "wrn_40_2": ([16, 32, 64, 128], [[(32, 16)], [(64, 32)], [(128, 64)], [(10, 128)]]),
    "preact_resnet18": ([64, 128, 256, 512], [[(128, 64)], [(256, 128)], [(512, 256)], [(10, 512)]]),
    "resnet50": (
        [64, 256, 512, 1024, 2048],
        [[(256, 64)], [(512, 256)], [(1024, 512)], [(2048, 1024)], [(10, 2048)]],
    ),
    "mobilenet_v3_large": (
        [16, 24, 40, 112, 960],
        [
            [(24, 64), (64, 16)],
            [(40, 72), (72, 24)],
            [(112, 480), (480, 80), (80, 240), (240, 40)],
            [(960, 160), (160, 672), (672, 112)],
            [(10, 1280), (1280, 960)],
        ],
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_sites_of_every_architecture(name):
    """Each path starts at the next site (or the logits) and ends at this one, channel counts fitting throughout."""
    with torch.device("meta"):
        network = build_network(name, 10, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    channels, paths = SITES[name]
    found = sites(network.body)
    assert [site.conv.out_channels for site in found] == channels
    assert [[tuple(weight.shape[:2]) for weight in site.path] for site in found] == paths


def test_the_path_through_a_bottleneck_stage_is_its_projection():
    """ResNet-50's own first convolution narrows to 64; the shortcut's maps 64 to the 256 of the site."""
    with torch.device("meta"):
        body = build_network("resnet50", 10, (3, 32, 32), (0.5,) * 3, (0.25,) * 3).body
    found = sites(body)
    assert found[1].conv is body.layers.layer1[2].conv3
    assert found[0].conv is body.layers.conv1


def test_the_stages_hold_every_layer_but_the_head():
    for name, parameters in (("wrn_40_2", 2_243_546), ("preact_resnet18", 11_172_170)):
        with torch.device("meta"):
            network = build_network(name, 10, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
        modules = [module for stage in stages(network.body) for module in stage]
        counted = sum(p.numel() for module in (*modules, network.head) for p in module.parameters())
        assert counted == sum(p.numel() for p in network.parameters())
        assert abs(counted - parameters) < 2000


@pytest.mark.parametrize("name", ["wrn_40_2", "mobilenet_v3_small"])
def test_scores_other_architectures(name):
    torch.manual_seed(0)
    network = build_network(name, 5, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    cores = Cores(network, (3, 32, 32), generator(), CoresOptions(noise_n=4))
    assert [len(p) for p in cores.positive] == [5] * len(cores.sites)
    for site, positive in zip(cores.sites, cores.positive, strict=True):
        assert positive.shape[1] == round(0.2 * site.conv.out_channels)
    scores = cores.score(torch.rand(3, 3, 32, 32))
    assert scores.shape == (3,)
    assert scores.dtype == torch.float64
    assert torch.isfinite(scores).all()


def test_unknown_architecture():
    class Other(Body):
        head = nn.Linear(1, 2)

    with pytest.raises(InputError, match="Other"):
        stages(Other())
