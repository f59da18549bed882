"""The sources of training outliers by name: fitted generators, noise and files; readable without torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described, described_type
from trainables.base.registry import Registry, resolve_reference


@dataclass(frozen=True, kw_only=True)
class OutlierSourceSpec:
    """A source of auxiliary outliers; exactly one of `generator`, `noise` and `file` says where they come from.

    Attributes:
        name: as `--set outliers.generator=NAME`, studies and checkpoints say it.
        about: one phrase.
        generator: "module:class" of a `trainables.outliers.generators.OutlierGenerator`, which is fitted to the
            training images and cached, imported on use; or the class.
        noise: "module:function" of (count, (c, h, w), rng) that returns float32 (count, c, h, w) in [0, 1], or the
            function.
        file: "module:class" of a `trainables.data.readers.outlier_files.OutlierFile`.
        path: what `outliers.path` must name, if `file` is given.
    """

    name: str
    about: str
    generator: str | Callable[[], Any] = ""
    noise: str | Callable[..., Any] = ""
    file: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Check the spec.

        Raises:
            InputError: fields that contradict one another.
        """
        if sum(map(bool, (self.generator, self.noise, self.file))) != 1:
            raise InputError(f"outlier source {self.name!r} needs exactly one of generator, noise and file")
        if bool(self.path) != bool(self.file):
            raise InputError(f"outlier source {self.name!r}: file and path must be given together")

    def load_generator(self) -> Any:
        """Return a new generator, not fitted yet."""
        return resolve_reference(self.generator)()

    def load_noise(self) -> Callable[..., Any]:
        """Return the function that draws the noise."""
        function: Callable[..., Any] = resolve_reference(self.noise)
        return function

    def load_file(self) -> Any:
        """Return the reader of its files."""
        return resolve_reference(self.file)()


def own_source(name: str, thing: Any) -> OutlierSourceSpec:
    """Return the spec of the user's own class of a generator, or of a function that draws noise.

    Raises:
        InputError: it is neither.
    """
    if isinstance(thing, OutlierSourceSpec):
        return replace(thing, name=name)
    if isinstance(thing, type) and hasattr(thing, "sample"):
        return OutlierSourceSpec(name=name, about=described(thing), generator=thing)
    if callable(thing) and not isinstance(thing, type):
        return OutlierSourceSpec(name=name, about=described(thing), noise=thing)
    raise InputError(
        f"it is {described_type(thing)}; it must be a function (count, shape, rng) or a class like "
        "trainables.outliers.generators.OutlierGenerator"
    )


OUTLIER_SOURCES = Registry(
    "outlier source",
    [
        OutlierSourceSpec(
            name="pca",
            about="Gaussian on the first 20 principal components of the training images",
            generator="trainables.outliers.generators:PCAGaussian",
        ),
        OutlierSourceSpec(
            name="vae",
            about="small variational auto-encoder (Kingma & Welling 2014)",
            generator="trainables.outliers.generators:VAE",
        ),
        OutlierSourceSpec(
            name="robgan",
            about="generator of Rob-GAN (Liu & Hsieh 2019), trained jointly with its discriminator",
            generator="trainables.outliers.robgan_generator:RobGANOutliers",
        ),
        OutlierSourceSpec(
            name="uniform",
            about="every pixel uniform in [0, 1]; a control",
            noise="trainables.outliers.sampling:uniform_noise",
        ),
        OutlierSourceSpec(
            name="npz",
            about="images generated elsewhere, uint8 n x c x h x w, one file for each sigma",
            file="trainables.data.readers.outlier_files:NpzFile",
            path="the folder of samples-<sigma>.npz or one npz file",
        ),
        OutlierSourceSpec(
            name="images300k",
            about="natural images, uint8 n x h x w x c, such as 300K Random Images (Hendrycks et al. 2019)",
            file="trainables.data.readers.outlier_files:NpyFile",
            path="the npy file",
        ),
    ],
    others=OwnSpecs("outlier source", "outliers", own_source),
)


def path_help() -> str:
    """Return what `outliers.path` must name for each source that reads files."""
    return "; ".join(f"{spec.name}: {spec.path}" for spec in OUTLIER_SOURCES if spec.path)
