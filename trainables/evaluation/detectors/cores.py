"""CORES: an outlier score from the responses of those channels that speak for and against the predicted class.

A layer's response to an inlier is strong and frequent in the channels that lead to its class. Nothing is trained,
and no OOD image is read: the thresholds come from synthetic noise.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import SqueezeExcitation

from trainables.base.errors import InputError
from trainables.data.loading.device_loader import to_unit
from trainables.data.types.benchmark import LabelledImages
from trainables.evaluation.detectors.base import Detector
from trainables.functional.attacks import attack_mode
from trainables.networks import Body, Classifier
from trainables.networks.preact_resnet import PreActResNet18
from trainables.networks.small_cnn import SmallCNN
from trainables.networks.torchvision_nets import MobileNetV3, ResNet50
from trainables.networks.wide_resnet import WideBlock, WideResNet
from trainables.options.energy import CoresOptions

BATCH = 256


@dataclass(frozen=True)
class Site:
    """One looked-at layer.

    Attributes:
        conv: its output (n, channels, h, w), before batch norm and activation, is the response.
        path: weights (out, in, positions) that lead from these channels towards the next site, nearest to that
            site first; of the last site: to the logits.
    """

    conv: nn.Conv2d
    path: tuple[Tensor, ...]


class Cores:
    """The CORES score of one network; higher = more OOD.

    For the predicted class c+ and the least likely one c-, channels I+ and I- of each site are found by walking
    back through the weights. Of their responses R, with M = max R and m = min R over positions:

        S = [mean relu(M - t+) mean relu(t- - m)]^magnitude [mean 1(M > t+) mean 1(m < t-)]^frequency

    with means of M over I+ and of m over I-; a large S speaks for an inlier. The tenth power underflows, so all
    is computed as logarithms, with `floor` added before each.

    Attributes:
        thresholds: (t-, t+) of each site.
        positive, negative: of each site, (classes, k) channels of I+ by c+ and of I- by c-.

    Source:
        CORES: Convolutional Response-based Score for OOD Detection (CVPR 2024), after two re-implementations that
        differ in details. The walk back through MobileNetV3 and through a flattened map is ours.
    """

    def __init__(
        self,
        network: Classifier,
        shape: tuple[int, int, int],
        generator: torch.Generator,
        options: CoresOptions | None = None,
    ) -> None:
        """Find the channels, and set the thresholds on noise.

        Args:
            network: run in eval mode and left as it was.
            shape: (c, h, w) of the images.
            generator: of the noise, on the network's device.

        Raises:
            InputError: an architecture whose layers are not known here.
        """
        self.network = network
        self.options = options or CoresOptions()
        self.sites = sites(network.body)
        self.positive, self.negative = self._channels()
        noise = threshold_noise(shape, self.options.noise_n, generator)
        _, highest, lowest = self._responses(noise)
        q = self.options.quantile
        self.thresholds = [
            (m.flatten().quantile(q), high.flatten().quantile(1 - q))
            for high, m in zip(highest, lowest, strict=True)
        ]

    def _channels(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return I+ and I- of every site for every class: they depend on the weights alone."""
        positive: list[Tensor] = []
        negative: list[Tensor] = []
        current: tuple[Tensor, Tensor] | None = None
        for site in reversed(self.sites):
            for weight in site.path:
                weight = weight.detach().double()
                if current is None:  # the class's own row: the largest entries for both
                    top = self._top(weight.amax(2))
                    current = (top, top)
                else:
                    current = (
                        self._top(_summed(current[0], weight.amax(2))),
                        self._top(-_summed(current[1], weight.amin(2))),
                    )
            assert current is not None  # every path has at least one weight
            positive.insert(0, current[0])
            negative.insert(0, current[1])
        return positive, negative

    def _top(self, scores: Tensor) -> Tensor:
        channels = scores.shape[1]
        k = min(channels, max(1, round(self.options.frac * channels)))
        return scores.topk(k, dim=1).indices

    @torch.no_grad()
    def _responses(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return logits (n, classes), and of each site the maximum and minimum (n, channels) over positions."""
        device = self.network.head.weight.device
        logits: list[Tensor] = []
        highest: list[list[Tensor]] = [[] for _ in self.sites]
        lowest: list[list[Tensor]] = [[] for _ in self.sites]
        with attack_mode(self.network), torch.autocast(device.type, enabled=False), self._hooked() as caught:
            for part in images.split(BATCH):
                logits.append(self.network(to_unit(part.to(device))))
                for index, (most, least) in enumerate(caught):
                    highest[index].append(most)
                    lowest[index].append(least)
        return (
            torch.cat(logits),
            [torch.cat(parts) for parts in highest],
            [torch.cat(parts) for parts in lowest],
        )

    @contextmanager
    def _hooked(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Catch (maximum, minimum) of each site's responses; only these two are kept, not the maps."""
        empty = torch.empty(0)
        caught = [(empty, empty) for _ in self.sites]

        def catch(index: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                caught[index] = (output.amax((2, 3)), output.amin((2, 3)))

            return hook

        handles = [site.conv.register_forward_hook(catch(i)) for i, site in enumerate(self.sites)]
        try:
            yield caught
        finally:
            for handle in handles:
                handle.remove()

    def log_scores(self, images: Tensor) -> Tensor:
        """Return log S of every site, (n, sites) float64; large for inliers.

        Args:
            images: (n, c, h, w) in [0, 1], or uint8.
        """
        logits, highest, lowest = self._responses(images)
        likely, unlikely = logits.argmax(1), logits.argmin(1)
        found = [
            log_response(
                high.gather(1, positive[likely]), low.gather(1, negative[unlikely]), *limits, self.options
            )
            for high, low, positive, negative, limits in zip(
                highest, lowest, self.positive, self.negative, self.thresholds, strict=True
            )
        ]
        return torch.stack(found, 1)

    def score(self, images: Tensor) -> Tensor:
        """Return the outlier score (n,) float64: minus the aggregate of log S; higher = more OOD.

        Args:
            images: (n, c, h, w) in [0, 1], or uint8.
        """
        return -aggregate(self.log_scores(images), self.options.agg)


def log_response(
    highest: Tensor, lowest: Tensor, low_threshold: Tensor, high_threshold: Tensor, options: CoresOptions
) -> Tensor:
    """Return log S of one site.

    Args:
        highest: (n, k) maxima of the channels I+ of each image.
        lowest: (n, j) minima of the channels I-.
        low_threshold, high_threshold: t- and t+, scalars.

    Returns:
        (n,) float64, finite also where no channel responds.

    Example:
        Maxima (3, 1) at t+ = 1, minimum -2 at t- = 0, powers 1 and 1, no floor: magnitudes 1 and 2, frequencies
        1/2 and 1, S = 1.
    """
    above, below = highest.double() - high_threshold, low_threshold - lowest.double()
    magnitudes = [x.clamp_min(0).mean(1) for x in (above, below)]
    frequencies = [(x > 0).double().mean(1) for x in (above, below)]
    magnitude = sum((x + options.floor).log() for x in magnitudes)
    frequency = sum((x + options.floor).log() for x in frequencies)
    return cast(Tensor, options.magnitude * magnitude + options.frequency * frequency)


def aggregate(log_scores: Tensor, agg: str) -> Tensor:
    """Return one logarithm per image of (n, sites): the mean of the logs, or the log of the mean of S.

    Raises:
        ValueError: an unknown aggregate.

    Example:
        log S = (0, log 3): mean_log gives log(3) / 2, log_mean gives log 2.
    """
    if agg == "mean_log":
        return log_scores.mean(1)
    if agg == "log_mean":
        return log_scores.logsumexp(1) - math.log(log_scores.shape[1])
    raise ValueError(f"unknown aggregate {agg!r}; known: mean_log, log_mean")


def threshold_noise(shape: tuple[int, int, int], count: int, generator: torch.Generator) -> Tensor:
    """Return `count` clipped Gaussian N(0.5, 0.5^2) and as many uniform images, (2 count, c, h, w) in [0, 1]."""
    size, device = (count, *shape), generator.device
    gaussian = torch.randn(size, generator=generator, device=device).mul_(0.5).add_(0.5).clamp_(0, 1)
    return torch.cat([gaussian, torch.rand(size, generator=generator, device=device)])


def stages(body: Body) -> list[list[nn.Module]]:
    """Return the modules of each stage of a network in the order of the forward pass, the head left out.

    A stage ends where the resolution or the width changes; the stem is a stage of its own, except where
    MobileNetV3's first block keeps its resolution.

    Raises:
        InputError: an architecture that is not known here.
    """
    if isinstance(body, MobileNetV3):
        return _split(body.layers.features, lambda m: isinstance(m, InvertedResidual) and _strided(m))
    if isinstance(body, ResNet50):
        layers = body.layers
        return [
            [layers.conv1, layers.bn1, layers.relu, layers.maxpool],
            *([layer] for layer in (layers.layer1, layers.layer2, layers.layer3, layers.layer4)),
        ]
    if isinstance(body, SmallCNN):
        return _split(body.layers, lambda m: isinstance(m, nn.Conv2d))
    if isinstance(body, (WideResNet, PreActResNet18)):
        modules = list(body.layers)
        first = next(m for m in modules if isinstance(m, WideBlock))
        return _split(modules, lambda m: isinstance(m, WideBlock) and (m is first or m.shortcut is not None))
    raise InputError(
        f"the stages of {type(body).__name__} are not known; see trainables.evaluation.detectors.cores.stages"
    )


def _split(modules: Any, starts: Any) -> list[list[nn.Module]]:
    found: list[list[nn.Module]] = []
    for module in modules:
        if not found or starts(module):
            found.append([])
        found[-1].append(module)
    return [stage for stage in found if stage]


def _strided(block: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.stride[0] > 1 for m in block.modules())


def sites(body: Body) -> list[Site]:
    """Return the looked-at layers of a network: the last convolution of each stage.

    small_cnn: all three convolutions. WideResNet: the stem and the three groups. PreActResNet-18: the four groups.
    ResNet-50: the stem and the four stages. MobileNetV3: the last projection before each stride, and the final 1x1
    convolution.

    Raises:
        InputError: an architecture that is not known here.
    """
    found = stages(body)
    if isinstance(body, (PreActResNet18, MobileNetV3)) and not _has_block(found[0]):
        found = found[1:]
    convolutions = [_last_convolution(stage) for stage in found]
    paths = [_boundary(stage) for stage in found[1:]]
    channels = convolutions[-1].out_channels
    if isinstance(body, MobileNetV3):
        hidden = cast(nn.Linear, body.layers.classifier[0])
        to_logits = [body.head.weight[:, :, None], hidden.weight[:, :, None]]
    else:
        # a flattened map is a convolution as large as the map
        to_logits = [body.head.weight.reshape(body.head.out_features, channels, -1)]
    return [Site(c, tuple(p)) for c, p in zip(convolutions, [*paths, to_logits], strict=True)]


def _has_block(stage: Sequence[nn.Module]) -> bool:
    return any(isinstance(m, (WideBlock, InvertedResidual)) for m in stage)


def _last_convolution(stage: Sequence[nn.Module]) -> nn.Conv2d:
    """Return the last convolution on the main path of a stage."""
    last = [m for m in stage if _main_path(m)][-1]
    return _main_path(last)[-1]


def _main_path(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions that an image passes in a row; neither shortcuts nor squeeze-and-excitation."""
    if isinstance(module, nn.Conv2d):
        return [module]
    if isinstance(module, (SqueezeExcitation, nn.Linear)):
        return []
    if isinstance(module, WideBlock):
        return _main_path(module.residual)
    names = [name for name, _ in module.named_children() if name != "downsample"]
    return [conv for name in names for conv in _main_path(getattr(module, name))]


def _boundary(stage: Sequence[nn.Module]) -> list[Tensor]:
    """Return the weights from the channels of one site to those of the site that ends this stage, last first.

    Blocks that add their input keep its channels. A depthwise convolution maps each channel to itself.
    """
    first = stage[0]
    if isinstance(first, WideBlock):
        convs = _main_path(first)[:1]
    elif isinstance(first, nn.Conv2d):
        convs = [first]
    elif isinstance(first, nn.Sequential) and isinstance(first[0], Bottleneck):
        # its own first convolution narrows the width; the shortcut's leads to the width of the site
        convs = [cast(Any, first[0].downsample)[0]]
    else:
        blocks = [m for m in stage if not (isinstance(m, InvertedResidual) and m.use_res_connect)]
        convs = [conv for block in blocks for conv in _main_path(block) if conv.groups == 1]
    return [conv.weight.flatten(2) for conv in reversed(convs)]


def _summed(channels: Tensor, weight: Tensor) -> Tensor:
    """Return, for each class, the sum over its channels (classes, k) of the rows of weight (out, in)."""
    mask = torch.zeros(len(channels), len(weight), dtype=weight.dtype, device=weight.device)
    return mask.scatter_(1, channels, 1.0) @ weight


@dataclass
class CoresDetector(Detector):
    """CORES as a detector; its thresholds come from noise of a fixed seed, no image is looked at."""

    options: CoresOptions = field(default_factory=CoresOptions)
    seed: int = 0

    def fit(self, network: Classifier, train: LabelledImages, device: torch.device | str) -> Self:
        _, channels, height, width = train.images.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        self._cores = Cores(network, (channels, height, width), generator, self.options)
        return self

    def score(self, images: Tensor) -> Tensor:
        return self._cores.score(images).cpu()
