"""Architectures: parameter counts, shapes, the normalisation layer, and what they refuse."""

import pytest
import torch

from trainables.base.errors import InputError
from trainables.networks import Normalize, build
from trainables.options import build as build_options
from trainables.options.classifiers import StandardOptions
from trainables.options.networks import NETWORKS, NetworkSpec

COLOUR = ((3, 32, 32), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
GREY = ((1, 8, 8), (0.3,), (0.4,))


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "data", "millions"),
    [
        ("small_cnn", GREY, 0.033546),
        ("wrn_40_2", COLOUR, 2.243546),
        ("wrn_28_10", COLOUR, 36.479194),
        ("wrn_28_10_silu", COLOUR, 36.479194),
        ("preact_resnet18", COLOUR, 11.172170),
        ("resnet50", COLOUR, 23.528522),
    ],
)
def test_parameter_counts(name, data, millions):
    """The counts of the papers: 2.24 M, 36.48 M, 11.17 M; the small one 160 + 4,640 + 18,496 + 10,250."""
    with torch.device("meta"):
        assert parameters(build(name, 10, *data)) == round(millions * 1e6)


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec.name)
def test_a_spec_tells_parameters_and_memory_of_training(spec):
    """On the meta device, which computes nothing: 16 bytes per parameter, and what autograd keeps."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.device("meta"):
        data = GREY if spec.name == "small_cnn" else COLOUR
        assert parameters(build(spec.name, 10, *data)) == spec.parameters
        network = build(spec.name, 10, *COLOUR).train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.empty(64, *COLOUR[0]))
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    activations = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    assert (16 * parameters(network) + activations) / 1e6 == pytest.approx(spec.cost, rel=0.01)


def test_a_network_that_is_registered_later_is_built_and_allowed_as_an_option():
    usual = NETWORKS["small_cnn"]
    NETWORKS.register(NetworkSpec("mine", usual.build, 6, 6, 1.0, 1, "a test"))
    try:
        assert build_options(StandardOptions, {"network": "mine"}).network == "mine"
        assert build("mine", 3, (1, 6, 6), (0.5,), (0.5,)).head.out_features == 3
    finally:
        NETWORKS.unregister("mine")
    with pytest.raises(InputError, match=r"network is 'mine'; known: .* and \d+ more"):
        build_options(StandardOptions, {"network": "mine"})


@pytest.mark.parametrize("name", [n for n in NETWORKS.names if not n.startswith("wrn_28")])
def test_logits_are_the_head_of_the_features(name):
    torch.manual_seed(0)
    shape = GREY if name == "small_cnn" else COLOUR
    network = build(name, 7, *shape, dropout=0.3).eval()
    images = torch.rand(2, *shape[0])
    with torch.no_grad():
        logits, features = network(images), network.features(images)
        assert logits.shape == (2, 7)
        assert features.shape == (2, network.head.in_features)
        torch.testing.assert_close(network.head(features), logits)
        torch.testing.assert_close(network.body(network.normalize(images)), logits)


@pytest.mark.parametrize("name", NETWORKS.names)
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 32, 32)])
def test_other_sizes_and_channels(name, shape):
    with torch.device("meta"):
        network = build(name, 10, shape, (0.5,) * shape[0], (0.2,) * shape[0])
        assert network(torch.empty(2, *shape)).shape == (2, 10)


def test_normalize_golden():
    """(0.5 - 0.3) / 0.4 = 0.5; channels have their own constants."""
    layer = Normalize((0.3, 0.0), (0.4, 2.0))
    out = layer(torch.full((1, 2, 1, 1), 0.5))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.5, 0.25]))
    assert layer.state_dict() == {}


def test_body_skips_the_normalisation():
    """A network with mean 0 and std 1 and the same body gives on raw images what `body` gives."""
    network = build("small_cnn", 4, *GREY).eval()
    plain = build("small_cnn", 4, (1, 8, 8), (0.0,), (1.0,)).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(network.body(images), plain(images))
    assert not torch.allclose(network.body(images), network(images))


def test_weights_depend_on_the_seed_only():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build("small_cnn", 4, *GREY).state_dict())
    first, same, other = (s["body.head.weight"] for s in states)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_dropout_acts_in_training_only():
    network = build("small_cnn", 4, *GREY, dropout=0.5)
    images = torch.rand(3, 1, 8, 8)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(
    ("name", "classes", "data", "message"),
    [
        ("smal_cnn", 4, GREY, "did you mean small_cnn"),
        ("resnet50", 4, GREY, "32 to 1024 pixels a side, not 8 x 8; these take them: small_cnn, wrn_40_2, "),
        (
            "small_cnn",
            4,
            ((1, 224, 224), (0.5,), (0.5,)),
            "not 224 x 224; these take them: resnet50, mobilenet_v3_small, mobilenet_v3_large$",
        ),
        ("small_cnn", 4, ((1, 2, 2), (0.5,), (0.5,)), "not 2 x 2; no network takes them"),
        ("small_cnn", 1, GREY, "2 classes"),
        ("small_cnn", 4, ((3, 8, 8), (0.5,), (0.5,)), "3 channels, but mean has 1"),
    ],
)
def test_refusals_name_the_cause(name, classes, data, message):
    with pytest.raises(InputError, match=message):
        build(name, classes, *data)
