"""`DatasetSpec` and `OodSetSpec`: all that is declared about a data set, in one object. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainables.base.errors import InputError
from trainables.data.types.made_sets import NEAR_TRANSFORMS, TRANSFORMS
from trainables.data.types.splits import DatasetInfo

Epsilons = tuple[float, ...]


@dataclass(frozen=True)
class Download:
    """How files are fetched: by a data set class of torchvision, or as one archive. Checksums are always verified.

    Attributes:
        megabytes: about how much is downloaded.
        torchvision: name of a class in `torchvision.datasets`, called with `download=True`.
        splits: of a class that fetches one split at a time.
        url, md5: of an archive, instead of `torchvision`.
    """

    megabytes: int
    torchvision: str = ""
    splits: tuple[str, ...] = ()
    url: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if bool(self.torchvision) == bool(self.url and self.md5):
            raise InputError("a download needs a class of torchvision, or the url and md5 of an archive")


@dataclass(frozen=True)
class Files:
    """The files of a set of pictures: where they lie below the data folder, and what reads them.

    Attributes:
        folders: the first that holds a part wins; "." is the data folder itself.
        parts: {"train" or "test": the entries it needs inside the folder}; "a|b" means either.
        put: what to put where, in one phrase.
        source: where it comes from, with the MD5 that is checked, for the documentation.
        reader: "module:function" of (folder, part, classes) that returns `Pictures`; classes 0: any number.
        download: None where the source allows none.
        classes: "module:function" of the folder with the part "train" that returns the names of the classes in the
            order of the labels, "" where the spec has them.
        validation: the entries that together mean that there is a validation part of its own.
    """

    folders: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    put: str
    source: str
    reader: str
    download: Download | None = None
    classes: str = ""
    validation: tuple[str, ...] = ()


@dataclass(frozen=True)
class OodSetSpec:
    """A set of pictures that serves as OOD test data only."""

    name: str
    files: Files


@dataclass(frozen=True)
class OodRoles:
    """The OOD sets that a data set is tested on and may be tuned on, by name.

    Near OOD resembles the ID task, far OOD does not. No validation set is made by the procedure of a test set.

    Attributes:
        near, far, other: test sets: names of data sets, of `OOD_SETS`, of `NOISES`, or of a built-in set's own.
            "other" is reported by set and is in no mean.
        validation_near, validation_far: sets that search may read, made from the validation images or from nothing.
        own: the user's own sets are added: the folders below `ood/` of the data folder, or what `DatasetSpec.sets`
            gives.
    """

    near: tuple[str, ...]
    far: tuple[str, ...]
    other: tuple[str, ...] = ()
    validation_near: tuple[str, ...] = NEAR_TRANSFORMS
    validation_far: tuple[str, ...] = ("rademacher", *TRANSFORMS)
    own: bool = False

    @property
    def tested(self) -> tuple[str, ...]:
        return (*self.near, *self.far, *self.other)

    @property
    def validation(self) -> tuple[str, ...]:
        return (*self.validation_near, *self.validation_far)


@dataclass(frozen=True)
class HoldOut:
    """How validation images are held out of the training images.

    Attributes:
        count: how many; of files at most a tenth of all; 0: a tenth.
        first: the first ones in file order instead of a stratified draw.
    """

    count: int = 0
    first: bool = False


@dataclass(frozen=True)
class PublishedCorruptions:
    """The published corrupted test set of a data set, such as CIFAR-10-C.

    Attributes:
        folder: below the data folder.
        layout: "arrays": one npy file for each corruption; "folders": one tree of class folders.
        source: where it comes from, for the documentation.
        mce: whether it has a mean corruption error: AlexNet's errors on it, by which it is divided, are published.
    """

    folder: str
    layout: Literal["arrays", "folders"]
    source: str
    mce: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set to train on. Everything that depends on the data set is declared here.

    Attributes:
        name: as `--dataset`, studies and checkpoints say it.
        num_classes: 0 where they are counted in the data folder.
        shape: (channels, height, width) of one image.
        mean, std: per channel, of training images in [0, 1].
        robust_epsilons: Linf radii of attacks on the accuracy, in [0, 1] pixel units; () where the user's images
            decide, by their size (`trainables.data.types.radii`).
        ood_epsilons: the same, of attacks on the outlier score.
        loader: "module:function" of (name, data_dir, search_only) that returns a `Benchmark`.
        files: None where the set is built in and needs none.
        roles: None where the loader brings its own OOD sets.
        hold_out: of validation images.
        crop: share of the side that is kept of a picture which was scaled to cover the task's size.
        corrupted: the published corrupted test set, if there is one.
        classes: names in the order of the labels; () where their files name them, or numbers are their names.
        sets: "module:function" of (name, data_dir) that returns `OwnSets`: arrays, or what the user's code gives, in
            place of `files`; "" for all others. Classes, shape, mean and std are then those of what it returns.
        pad: black pixels that the reader puts on every side of a picture.
        train_images: about how many, those held out included; 0 where they are counted in the data folder, or unknown.
        mirrors: whether the mirror image of an image is one of its class, so that training may flip it.

    Raises:
        InputError: radii are missing or not in (0, 1], mean and std do not have one number per channel, or there are
            more or fewer names than classes.
    """

    name: str
    num_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    robust_epsilons: Epsilons
    ood_epsilons: Epsilons
    loader: str
    files: Files | None
    roles: OodRoles | None
    hold_out: HoldOut = field(default_factory=HoldOut)
    crop: float = 1.0
    corrupted: PublishedCorruptions | None = None
    classes: tuple[str, ...] = ()
    sets: str = ""
    pad: int = 0
    train_images: int = 0
    mirrors: bool = False

    def __post_init__(self) -> None:
        for key in ("robust_epsilons", "ood_epsilons"):
            radii = getattr(self, key)
            by_size = not radii and self.num_classes == 0
            if not by_size and not (radii and all(0 < epsilon <= 1 for epsilon in radii)):
                raise InputError(
                    f"dataset {self.name}: {key} is {radii}; it must give radii in (0, 1] pixel units, as (8 / 255,)"
                )
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise InputError(
                f"dataset {self.name}: images have {self.shape[0]} channels, "
                f"but mean has {len(self.mean)} and std {len(self.std)}"
            )
        if self.classes and len(self.classes) != self.num_classes:
            raise InputError(f"dataset {self.name}: {len(self.classes)} names of {self.num_classes} classes")

    @property
    def users_own(self) -> bool:
        """Whether its images are the user's, OOD sets too, and not a published set."""
        return self.roles is not None and self.roles.own

    @property
    def info(self) -> DatasetInfo:
        """Return what networks and reports need to know of it."""
        return DatasetInfo(
            self.name,
            self.num_classes,
            self.shape,
            self.mean,
            self.std,
            self.files is None,
            self._how_to_get(),
            self.crop,
            self.classes,
            self.pad,
        )

    def _how_to_get(self) -> str:
        if self.files is None:
            return ""
        download = self.files.download
        note = f" (or {download.megabytes} MB are downloaded)" if download else ""
        return f"put {self.files.put} of that folder{note}"
