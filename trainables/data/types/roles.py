"""Which OOD sets each data set is tested on, and which made-up ones its search may read. No torch.

Near OOD resembles the ID task, far OOD does not; "other" is reported by set and is in no mean, because the
choice of classes overlaps or because the published means do not hold it. No validation set is made by the
procedure of a test set: where uniform noise is tested, validation has rademacher noise (every pixel 0 or 1).

Source:
    CIFAR: the eight sets of adversarial outlier exposure. Food-101: its study names five of eight sets (DTD,
    Flowers102, Oxford pets, SVHN, FashionMNIST); EuroSAT, MNIST and CIFAR-10 are our completion. ImageNet: the
    near and far sets of OpenOOD v1.5, of which no class is in ImageNet-1k. The other rows are ours.
"""

from dataclasses import dataclass

#: Noise that is made, not read; `NOISE_N` images of each.
NOISES = ("uniform", "gaussian")
NOISE_N = 500

#: Validation OOD of outlier exposure (Hendrycks et al. 2019) and energy fine-tuning (Liu et al. 2020).
TRANSFORMS = (
    "arithmetic_mean",
    "geometric_mean",
    "jigsaw",
    "speckled",
    "pixelated",
    "rgb_shifted",
    "inverted",
)
_GREY = tuple(name for name in TRANSFORMS if name != "rgb_shifted")
# letters and house numbers come in any colour on any other: inverted or shifted ones are ID
_ANY_COLOUR = tuple(name for name in TRANSFORMS if name not in ("rgb_shifted", "inverted"))


@dataclass(frozen=True)
class Roles:
    """The OOD sets of one data set, by name.

    Attributes:
        near, far, other: test sets: names of `locations.LOCATIONS`, of `NOISES`, or of the set's own module.
        validation: what search may read, made from the validation images or from nothing.
    """

    near: tuple[str, ...]
    far: tuple[str, ...]
    other: tuple[str, ...] = ()
    validation: tuple[str, ...] = ("rademacher", *TRANSFORMS)

    @property
    def tested(self) -> tuple[str, ...]:
        return (*self.near, *self.far, *self.other)


_CIFAR_NEAR = ("tiny-imagenet-crop", "tiny-imagenet-resize")
_CIFAR_FAR = ("dtd", "lsun-crop", "lsun-resize", "fooling", "gaussian", "uniform")
_IMAGENET_NEAR = ("ssb-hard", "ninco")

ROLES: dict[str, Roles] = {
    "cifar10": Roles(_CIFAR_NEAR, _CIFAR_FAR, ("cifar100", "svhn")),
    "cifar100": Roles(_CIFAR_NEAR, _CIFAR_FAR, ("cifar10", "svhn")),
    "mnist": Roles(
        ("fashion-mnist",), ("cifar10", "dtd", "gaussian", "uniform"), ("svhn",), ("rademacher", *_GREY)
    ),
    "fashion-mnist": Roles(
        ("mnist",), ("cifar10", "dtd", "gaussian", "uniform"), ("svhn",), ("rademacher", *_GREY)
    ),
    "svhn": Roles(
        (), ("cifar10", "cifar100", "dtd", "gaussian", "uniform"), ("mnist",), ("rademacher", *_ANY_COLOUR)
    ),
    "food101": Roles(
        ("dtd", "flowers102", "oxford-pet"),
        ("svhn", "fashion-mnist", "eurosat", "mnist", "cifar10"),
        validation=("uniform", *TRANSFORMS),
    ),
    "tiny-imagenet": Roles(_IMAGENET_NEAR, ("inaturalist", "dtd", "svhn", "gaussian", "uniform")),
    "imagenet": Roles(
        _IMAGENET_NEAR, ("inaturalist", "dtd", "openimage-o"), validation=("uniform", *TRANSFORMS)
    ),
    "glyphs": Roles(
        ("letters", "numerals"), ("textures", "gaussian", "uniform"), validation=("rademacher", *_ANY_COLOUR)
    ),
    # besides these, every folder below ood/near/ and ood/far/ of the data folder
    "imagefolder": Roles((), ("gaussian", "uniform")),
}
