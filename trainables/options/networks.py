"""The classifier architectures by name: how each is built, which images it takes, what training it costs.

A name with a colon is a network from elsewhere: `torchvision:NAME`, `timm:NAME`, or the user's own code.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from trainables.base.errors import CodeError, InputError
from trainables.base.own_specs import installed, installed_names
from trainables.base.registry import Registry
from trainables.base.user_code import UserCode

LIBRARIES = ("torchvision", "timm")  #: of networks with published weights


@dataclass(frozen=True)
class NetworkSpec:
    """A classifier architecture.

    Attributes:
        name: as `--set network=NAME`, studies and checkpoints say it.
        build: "module:callable" of (num_classes, shape, dropout, **arguments) that returns a
            `trainables.networks.body.Body`; imported on use, because it needs torch.
        smallest, largest: the side of its images in pixels.
        cost: memory of a training step with Adam in MB, on 64 images of 3 x 32 x 32 and 10 classes: 16 bytes for
            each parameter (weight, gradient, two moments) and the activations kept for the backward pass. Training
            time has the same order. Infinite where it is unknown: GPU shares are then measured with that network.
        parameters: their number at 10 classes, on 3 x 32 x 32 (`small_cnn`, which grows with the image: on 1 x 8 x 8);
            0 where it is not known before the network is built.
        about: one phrase, with the source.
        arguments: further keyword arguments of `build`.
    """

    name: str
    build: str
    smallest: int
    largest: int
    cost: float
    parameters: int
    about: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outside(self) -> bool:
        """Return whether it is a library's or the user's own."""
        return "reference" in self.arguments

    @property
    def published(self) -> bool:
        """Return whether a library can load published weights into it."""
        return self.name.partition(":")[0] in LIBRARIES

    def takes(self, height: int, width: int) -> bool:
        """Return whether it takes images of this size."""
        return self.smallest <= min(height, width) and max(height, width) <= self.largest


class OutsideNetworks:
    """The networks that are no classes of this project; the `others` of `NETWORKS`."""

    def __call__(self, name: str) -> NetworkSpec | None:
        """Return the spec of `torchvision:NAME`, `timm:NAME`, `module:factory`, `./file.py:factory` or an entry point.

        `@layer.name` behind any of these names the last linear layer, if it is not the one that runs last. A factory's
        name in the spec is as every process finds it.

        Raises:
            InputError: the library, the file, the module or the factory is not there.
        """
        reference, at, layer = name.partition("@")
        kind, colon, model = reference.partition(":")
        if at and not layer:
            raise InputError(f"network {name}: the name of a layer is missing behind @")
        if kind in LIBRARIES and model:
            if find_spec(kind) is None:
                raise InputError(f"network {name} needs {kind}; install it with: pip install {kind}")
            known, about = reference, f"{kind}'s {model}"
        else:
            code = self.code(name)
            if code is None:
                return None
            known, about = (str(code) if colon else reference), "the user's own"
            reference = str(code)
        arguments = {"reference": reference, "layer": layer}
        return NetworkSpec(f"{known}{at}{layer}", _OUTSIDE, 1, 10**9, math.inf, 0, about, arguments=arguments)

    def code(self, name: str) -> UserCode | None:
        """Return the code behind a name, None for the networks of libraries and unknown names.

        Raises:
            CodeError: it is not there.
        """
        reference = name.partition("@")[0]
        if reference.partition(":")[0] in LIBRARIES:
            return None
        if ":" not in reference:
            reference = installed("networks", reference, "network")
        try:
            return UserCode(reference) if reference else None
        except CodeError as error:
            raise CodeError(f"network {name}: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        return installed_names("networks")


def refuse_unapproved(name: str) -> None:
    """Refuse a network that is code and that only a file names, a checkpoint say: whoever wrote it could name any.

    Raises:
        CodeError: the code is not there, or the user has not approved it (`trainables.base.user_code.approve`).
    """
    code = NETWORKS.code(name)
    if code is not None and ":" in name and code.unapproved:
        raise CodeError(
            f"its network is the code {name}, which you have not launched with; look at it, and name it yourself: "
            "--network"
        )


_OUTSIDE = "trainables.networks.outside:OutsideNetwork"
_WIDE = "trainables.networks.wide_resnet:WideResNet"
_MOBILE = "trainables.networks.torchvision_nets:MobileNetV3"

NETWORKS = Registry(
    "network",
    [
        NetworkSpec(
            "small_cnn",
            "trainables.networks.small_cnn:SmallCNN",
            *(4, 64, 14.3, 33_546),
            "three convolutions and a linear layer, for the built-in digits",
        ),
        NetworkSpec(
            *("wrn_40_2", _WIDE, 8, 128, 397.5, 2_243_546),
            "wide ResNet of 40 layers, twice as wide (Zagoruyko & Komodakis 2016)",
            {"depth": 40, "widen": 2},
        ),
        NetworkSpec(
            *("wrn_28_10", _WIDE, 8, 128, 1767.6, 36_479_194),
            "wide ResNet of 28 layers, ten times as wide (Zagoruyko & Komodakis 2016)",
            {"depth": 28, "widen": 10},
        ),
        NetworkSpec(
            *("wrn_28_10_silu", _WIDE, 8, 128, 2348.5, 36_479_194),
            "the same with SiLU instead of ReLU (Gowal et al. 2020)",
            {"depth": 28, "widen": 10, "activation": "silu"},
        ),
        NetworkSpec(
            *("wrn_28_10_dm", _WIDE, 8, 128, 2416.7, 36_479_194),
            "that with the padding of DeepMind's code, for weights of RobustBench and DyART",
            {"depth": 28, "widen": 10, "activation": "silu", "same": True},
        ),
        NetworkSpec(
            "preact_resnet18",
            "trainables.networks.preact_resnet:PreActResNet18",
            *(8, 128, 464.9, 11_172_170),
            "pre-activation ResNet-18 (He et al. 2016)",
        ),
        NetworkSpec(
            "resnet50",
            "trainables.networks.torchvision_nets:ResNet50",
            *(32, 1024, 489.6, 23_528_522),
            "torchvision's ResNet-50",
        ),
        NetworkSpec(
            *("mobilenet_v3_small", _MOBILE, 32, 1024, 48.2, 1_528_106), "torchvision's MobileNetV3, small"
        ),
        NetworkSpec(
            *("mobilenet_v3_large", _MOBILE, 32, 1024, 129.4, 4_214_842),
            "torchvision's MobileNetV3, large",
            {"large": True},
        ),
    ],
    others=OutsideNetworks(),
)


def check_suits(spec: NetworkSpec, num_classes: int, shape: tuple[int, int, int], pretrained: bool) -> None:
    """Check what can be known of a network without building it.

    Args:
        shape: (channels, height, width) of one image.
        pretrained: it is to start from published weights.

    Raises:
        InputError: it does not take such images, or has no such weights.
    """
    channels, height, width = shape
    if not spec.takes(height, width):
        others = ", ".join(other.name for other in NETWORKS if other.takes(height, width))
        raise InputError(
            f"network {spec.name} takes images of {spec.smallest} to {spec.largest} pixels a side, "
            f"not {height} x {width}; {f'these take them: {others}' if others else 'no network takes them'}"
        )
    if num_classes < 2 or channels < 1:
        raise InputError(
            f"network {spec.name} needs 2 classes and 1 channel at least, not {num_classes}, {channels}"
        )
    if pretrained and not spec.published:
        raise InputError(
            f"pretrained is true, but network {spec.name} has no published weights; those of torchvision:NAME and "
            "timm:NAME have, and pretrain.checkpoint reads a file"
        )
