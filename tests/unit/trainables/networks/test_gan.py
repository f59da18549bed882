"""Generator and discriminator: shapes at every size, conditional norm by hand, spectral norm, the exported head."""

import pickle

import pytest
import torch

from trainables.base.errors import InputError
from trainables.networks.gan import ConditionalBatchNorm, Discriminator, Generator, build_class_head

SHAPES = [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (1, 64, 64), (3, 64, 64)]


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", ["mean", "sum", "flatten"])
def test_both_networks_fit_each_other_at_every_size(shape, pool):
    torch.manual_seed(0)
    generator, discriminator = Generator(4, shape, nz=6, ngf=2), Discriminator(4, shape, ndf=2, pool=pool)
    images = generator(torch.randn(5, 6), torch.arange(5) % 4)
    assert images.shape == (5, *shape)
    assert images.min() >= 0
    assert images.max() <= 1
    critic, logits = discriminator.both(images)
    assert (critic.shape, logits.shape) == ((5,), (5, 4))
    torch.testing.assert_close(discriminator.eval()(images), discriminator.both(images)[1])


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 96, 96)])
def test_other_sizes_are_refused_with_the_possible_ones(shape):
    for make in (Generator, Discriminator):
        with pytest.raises(InputError, match="8 to 64 pixels"):
            make(4, shape)


def test_generator_at_32_pixels_has_the_published_widths():
    """Channels 16, 8, 4, 2, 1 times ngf; three blocks double the side, the last one does not."""
    generator = Generator(10, (3, 32, 32), nz=128, ngf=4)
    assert [block.conv1.in_channels // 4 for block in generator.blocks] == [16, 8, 4, 2]
    assert [block.factor for block in generator.blocks] == [2, 2, 2, 1]
    assert generator.project.out_features == 4 * 4 * 16 * 4


def test_discriminator_at_32_pixels_has_the_published_blocks():
    """Four blocks of width 2 ndf, the first two halve the side: features on 8x8 positions."""
    blocks = Discriminator(10, (3, 32, 32), ndf=4).classifier.body.blocks
    assert [block.down for block in blocks] == [True, True, False, False]
    assert {block.conv2.out_channels for block in blocks} == {8}
    assert blocks(torch.randn(2, 3, 32, 32)).shape == (2, 8, 8, 8)


def test_conditional_norm_by_hand():
    """Values 1 and 3: mean 2, variance 1, normalised -1 and 1; class 0 has scale 2, shift 10, class 1 scale 1."""
    norm = ConditionalBatchNorm(1, 2)
    with torch.no_grad():
        norm.scale.weight[0] = 2.0
        norm.shift.weight[0] = 10.0
    x = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    found = norm(x, torch.tensor([0, 1])).flatten()
    torch.testing.assert_close(found, torch.tensor([8.0, 1.0]), rtol=0, atol=1e-4)
    # momentum 0.1: running mean 0 -> 0.2, running (unbiased) variance 1 -> 0.9 + 0.1 * 2
    torch.testing.assert_close(norm.norm.running_mean, torch.tensor([0.2]))
    torch.testing.assert_close(norm.norm.running_var, torch.tensor([1.1]))


def test_residual_shortcut_before_upsampling_equals_after():
    """A 1x1 convolution commutes with nearest upsampling, so the cheap order gives the same block."""
    torch.manual_seed(0)
    block = Generator(2, (1, 8, 8), nz=3, ngf=2).blocks[0].eval()
    x, labels = torch.randn(3, 8, 4, 4), torch.tensor([0, 1, 0])
    torch.testing.assert_close(block._larger(block.shortcut(x)), block.shortcut(block._larger(x)))
    assert block(x, labels).shape == (3, 4, 8, 8)


def test_the_class_decides_the_image():
    torch.manual_seed(0)
    generator = Generator(2, (1, 8, 8), nz=3, ngf=2)
    with torch.no_grad():
        generator.blocks[0].norm1.shift.weight[1] += 1.0
    generator.eval()
    z = torch.randn(1, 3)
    same, other = generator(z, torch.tensor([0])), generator(z, torch.tensor([1]))
    assert not torch.equal(same, other)
    assert torch.equal(same, generator(z, torch.tensor([0])))


def test_spectral_norm_bounds_every_layer_but_the_class_head():
    """After enough power iterations every largest singular value is 1."""
    torch.manual_seed(0)
    network = Discriminator(4, (1, 8, 8), ndf=4, pool="flatten").train()
    for _ in range(300):
        network.both(torch.rand(2, 1, 8, 8))
    network.eval()
    body = network.classifier.body
    layers = [layer for block in body.blocks for layer in (block.conv1, block.conv2)]
    for layer in (*layers, network.critic):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-2)
    assert not hasattr(body.head, "parametrizations")
    assert hasattr(Discriminator(4, (1, 8, 8), ndf=4, norm_head=True).classifier.head, "parametrizations")
    plain = Discriminator(4, (1, 8, 8), ndf=4, spectral_norm=False)
    assert not any(hasattr(module, "parametrizations") for module in plain.modules())


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("spectral", [True, False])
def test_exported_class_head_gives_the_same_logits(norm, spectral):
    """It loads into what `build_class_head` makes, can be pickled, and exporting moves nothing."""
    torch.manual_seed(0)
    settings = (4, (3, 16, 16), 2, "flatten", norm)
    network = Discriminator(*settings, spectral_norm=spectral).train()
    network(torch.rand(8, 3, 16, 16))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    head = network.class_head()
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    images = torch.rand(4, 3, 16, 16)
    network.eval()
    restored = build_class_head(*settings)
    restored.load_state_dict(head.state_dict())
    pickle.loads(pickle.dumps(restored))
    torch.testing.assert_close(restored.eval()(images), network(images))
    torch.testing.assert_close(restored.features(images), network.features(images))
    torch.testing.assert_close(restored.head(restored.features(images)), restored(images))


def test_images_are_mapped_to_minus_one_and_one():
    network = Discriminator(2, (1, 8, 8), ndf=2)
    ends = network.classifier.normalize(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3))
    assert ends.flatten().tolist() == [-1.0, 0.0, 1.0]


def test_latents_scale_with_sigma_and_classes_are_uniform():
    generator = Generator(5, (1, 8, 8), nz=3, ngf=2)

    def seeded():
        return torch.Generator().manual_seed(0)

    assert torch.equal(2 * generator.latents(7, seeded()), generator.latents(7, seeded(), sigma=2.0))
    drawn = generator.classes(5000, seeded()).bincount(minlength=5) / 5000
    assert drawn.sub(0.2).abs().max() < 0.03
