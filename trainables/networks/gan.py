"""Generator and two-headed discriminator of class-conditional GANs, for 8 to 64 pixels and any channels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from trainables.base.errors import InputError
from trainables.networks.body import Body, Classifier, Normalize
from trainables.options.robgan import SIDES

SMALLEST, LARGEST = SIDES


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are looked up by class.

    Args:
        momentum: of the running statistics in torch's sense, the share of the new batch. The Rob-GAN code has
            0.9, ported from a framework where that is the share of the old value.

    Source:
        Dumoulin et al. 2017; as used by Rob-GAN (eps 2e-5).
    """

    def __init__(self, channels: int, classes: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=2e-5, momentum=momentum, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.shift = nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise (n, c, h, w) and give row i the scale and shift of class labels[i]."""
        scale, shift = self.scale(labels)[:, :, None, None], self.shift(labels)[:, :, None, None]
        normalised: Tensor = self.norm(x)
        return torch.addcmul(shift, normalised, scale)


class GeneratorBlock(nn.Module):
    """A residual block of two conditional norms and 3x3 convolutions that may double the side (nearest)."""

    def __init__(self, width_in: int, width: int, classes: int, up: bool, momentum: float) -> None:
        super().__init__()
        self.factor = 2 if up else 1
        self.norm1 = ConditionalBatchNorm(width_in, classes, momentum)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = ConditionalBatchNorm(width, classes, momentum)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width_in, width, 1)

    def _larger(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor) if self.factor > 1 else x

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv1(self._larger(F.relu(self.norm1(x, labels))))
        y = self.conv2(F.relu(self.norm2(y, labels)))
        # a 1x1 convolution commutes with nearest upsampling and is four times cheaper before it
        added: Tensor = y + self._larger(self.shortcut(x))
        return added


class Generator(nn.Module):
    """Images from a latent and a class: linear, residual blocks up from 4x4, tanh.

    32 pixels: 4x4 with 16 ngf channels, three blocks that double the side and halve the channels, one that
    does not double it. Other sides have as many doublings as they need (8: one, 64: four, channels at
    most 16 ngf); a side between two powers of two is cut out of the middle of the next one.

    Args:
        num_classes: the class enters by the conditional batch norms only.
        shape: (channels, height, width) of one image.
        nz: length of the latent.
        ngf: channels of the last block.
        bn_momentum: see `ConditionalBatchNorm`.

    Raises:
        InputError: a side below 8 or above 64.

    Source:
        Rob-GAN's 32-pixel generator (Liu & Hsieh 2019). What differs: the range [0, 1] and the momentum.
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, int, int],
        nz: int = 128,
        ngf: int = 64,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        _check(shape)
        self.nz, self.num_classes, self.shape = nz, num_classes, shape
        doublings = math.ceil(math.log2(max(shape[1:]) / 4))
        widths = [ngf * min(16, 2**k) for k in range(doublings + 1, -1, -1)]
        self.width = widths[0]
        self.project = nn.Linear(nz, 16 * self.width)
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b, num_classes, up=k < doublings, momentum=bn_momentum)
            for k, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = ConditionalBatchNorm(widths[-1], num_classes, bn_momentum)
        self.to_image = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        _initialise(self)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return (n, c, h, w) in [0, 1] for latents (n, nz) and classes (n,)."""
        x = self.project(z).view(-1, self.width, 4, 4)
        for block in self.blocks:
            x = block(x, labels)
        x = torch.tanh(self.to_image(F.relu(self.norm(x, labels))))
        _, height, width = self.shape
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        return (x[:, :, top : top + height, left : left + width] + 1) / 2

    def latents(self, count: int, generator: torch.Generator, sigma: float = 1.0) -> Tensor:
        """Return (count, nz) draws from N(0, sigma^2) on the random generator's device."""
        return sigma * torch.randn(count, self.nz, generator=generator, device=generator.device)

    def classes(self, count: int, generator: torch.Generator) -> Tensor:
        """Return (count,) classes drawn uniformly."""
        return torch.randint(self.num_classes, (count,), generator=generator, device=generator.device)


class DiscriminatorBlock(nn.Module):
    """A residual block of two 3x3 convolutions, before each ReLU (and batch norm), that may halve the side.

    The first block of a network has neither before its first convolution: the image would lose its
    negative half.
    """

    def __init__(self, width_in: int, width: int, down: bool, first: bool, norm: bool) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.norm1 = nn.BatchNorm2d(width_in) if norm and not first else nn.Identity()
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        plain = width_in == width and not down
        self.shortcut = nn.Identity() if plain else nn.Conv2d(width_in, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.first else F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(y))))
        if self.down:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        added: Tensor = y + self.shortcut(x)
        return added


class DiscriminatorBody(Body):
    """Residual blocks of 2 ndf channels, ReLU, pooling; the class head is `head`.

    32 pixels: four blocks of which the first two halve the side; 64: five, three; up to 16: two, one.

    Args:
        pool: mean or sum over the positions, or flatten, which keeps them apart.
        norm: "none" or "batch".
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, int, int],
        ndf: int = 64,
        pool: str = "mean",
        norm: str = "none",
    ) -> None:
        super().__init__()
        _check(shape)
        channels, height, width = shape
        downs = max(1, round(math.log2(max(height, width) / 8)))
        blocks = downs + (2 if max(height, width) > 16 else 1)
        n, d = norm == "batch", 2 * ndf
        self.blocks = nn.Sequential(
            *(DiscriminatorBlock(d if k else channels, d, k < downs, k == 0, n) for k in range(blocks))
        )
        self.pool = pool
        positions = (height >> downs) * (width >> downs)
        self.head = nn.Linear(d * (positions if pool == "flatten" else 1), num_classes)
        _initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, d) of images in [-1, 1]."""
        x = F.relu(self.blocks(x))
        if self.pool == "flatten":
            return x.flatten(1)
        return x.sum(dim=(2, 3)) if self.pool == "sum" else x.mean(dim=(2, 3))


class Discriminator(nn.Module):
    """A class head and a real/fake head on one body; images in [0, 1], mapped to [-1, 1] inside.

    Called like a classifier it gives class logits; `both` gives the two heads from one forward.

    Args:
        spectral_norm: divide every weight by its largest singular value, estimated by one power iteration
            per training forward; the class head only if `norm_head`.
        norm_head: a class head of norm 1 cannot become confident within a small ball.

    Source:
        Rob-GAN's discriminator (AC-GAN layout: Odena et al. 2017); Miyato et al. 2018 for spectral norm. What
        differs: biases, mean pooling, no batch norm, spectral norm; each of the last three is an option.
    """

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, int, int],
        ndf: int = 64,
        pool: str = "mean",
        norm: str = "none",
        spectral_norm: bool = True,
        norm_head: bool = False,
    ) -> None:
        super().__init__()
        self.settings = (num_classes, shape, ndf, pool, norm)
        self.classifier = build_class_head(*self.settings)
        self.critic = nn.Linear(self.classifier.head.in_features, 1)
        _initialise(self.critic)
        if spectral_norm:
            for module in self.modules():
                wanted = isinstance(module, nn.Conv2d) or module is self.critic
                if wanted or (norm_head and module is self.classifier.head):
                    add_spectral_norm(module)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, d) features of images in [0, 1]."""
        return self.classifier.features(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return class logits (n, classes) of images in [0, 1]."""
        logits: Tensor = self.classifier(x)
        return logits

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (real/fake logits (n,), class logits (n, classes)); a positive real/fake logit says real."""
        features = self.features(x)
        return self.critic(features).squeeze(1), self.classifier.head(features)

    def class_head(self) -> Classifier:
        """Return a copy of body and class head with plain weights: same logits, no spectral norm inside.

        It can be pickled and exported, and costs no estimate of singular values in every attack step.
        """
        with torch.random.fork_rng(
            devices=[]
        ):  # its first weights are replaced: they cost the trial no random number
            plain = build_class_head(*self.settings).to(self.critic.bias.device)
        training = self.training
        self.eval()  # reading a weight in training mode would move its power iteration
        try:
            with torch.no_grad():
                for name, module in plain.named_modules():
                    live = self.classifier.get_submodule(name)
                    for key in (*module._parameters, *module._buffers):
                        if getattr(module, key) is not None:
                            getattr(module, key).copy_(getattr(live, key))
        finally:
            self.train(training)
        return plain


def build_class_head(
    num_classes: int, shape: tuple[int, int, int], ndf: int, pool: str, norm: str
) -> Classifier:
    """Return an untrained classifier of the kind that `Discriminator.class_head` returns."""
    half: Sequence[float] = (0.5,) * shape[0]
    return Classifier(Normalize(half, half), DiscriminatorBody(num_classes, shape, ndf, pool, norm))


def _check(shape: tuple[int, int, int]) -> None:
    low, high = min(shape[1:]), max(shape[1:])
    if low < SMALLEST or high > LARGEST:
        raise InputError(
            f"Rob-GAN takes images of {SMALLEST} to {LARGEST} pixels a side, not {shape[1]} x {shape[2]}"
        )


def _initialise(network: nn.Module) -> None:
    """Xavier-uniform as in Rob-GAN: gain sqrt 2 on 3x3 convolutions in blocks, else 1; biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            wide = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
            nn.init.xavier_uniform_(module.weight, math.sqrt(2) if wide else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
