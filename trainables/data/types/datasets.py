"""The data sets to train on, one `DatasetSpec` each. No torch.

Sources of the OOD roles: CIFAR has the eight sets of adversarial outlier exposure. The study of Food-101 names five of
its eight sets (DTD, Flowers102, Oxford pets, SVHN, FashionMNIST); EuroSAT, MNIST and CIFAR-10 are our completion.
ImageNet has the near and far sets of OpenOOD v1.5, of which no class is in ImageNet-1k. The others are ours.

Where uniform noise is a test set, validation has rademacher noise (every pixel 0 or 1) instead.

Mean and std are of the training images; those of Food-101 and of `imagefolder` are ImageNet's, those of MNIST and
FashionMNIST count the zeros of the padding to 32 x 32. Radii of digits saturate neither way; the others are those of
their literature.
"""

from trainables.base.registry import Registry
from trainables.data.types.class_names import CIFAR_10, CIFAR_100, FASHION, LETTERS
from trainables.data.types.dataset_spec import (
    DatasetSpec,
    Download,
    Files,
    HoldOut,
    OodRoles,
    PublishedCorruptions,
)
from trainables.data.types.made_sets import TRANSFORMS
from trainables.data.types.own_datasets import FROM_FILES, IMAGENET_MEAN, IMAGENET_STD, OwnDatasets

_READERS = "trainables.data.readers.image_readers"
_DIGITS = "trainables.data.synthetic.digits:load"
_FOLDERS = f"{_READERS}:train_folders"

_GREY = tuple(name for name in TRANSFORMS if name != "rgb_shifted")
# letters and house numbers come in any colour on any other: inverted or shifted ones are ID
_ANY_COLOUR = tuple(name for name in TRANSFORMS if name not in ("rgb_shifted", "inverted"))
_CIFAR_NEAR = ("tiny-imagenet-crop", "tiny-imagenet-resize")
_CIFAR_FAR = ("dtd", "lsun-crop", "lsun-resize", "fooling", "gaussian", "uniform")
_IMAGENET_NEAR = ("ssb-hard", "ninco")


def _idx(part: str) -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{part}-{kind}|{part}-{kind}.gz" for kind in kinds)


def _mnist_files(folders: tuple[str, ...], md5: str, download: Download) -> Files:
    return Files(
        folders,
        {"train": _idx("train"), "test": _idx("t10k")},
        f"train- and t10k- images-idx3-ubyte and labels-idx1-ubyte (or .gz) into {folders[0]}/",
        f"torchvision, {md5} (training images)",
        f"{_READERS}:mnist",
        download,
    )


DATASETS = Registry(
    "dataset",
    [
        DatasetSpec(
            name="digits",
            num_classes=10,
            shape=(1, 8, 8),
            mean=(0.3050,),
            std=(0.3759,),
            robust_epsilons=(0.15, 0.2),
            ood_epsilons=(0.1,),
            loader=_DIGITS,
            files=None,
            roles=None,
            hold_out=HoldOut(297),
            train_images=1297,
        ),
        DatasetSpec(
            name="digits-open",
            num_classes=6,
            shape=(1, 8, 8),
            mean=(0.3035,),
            std=(0.3765,),
            robust_epsilons=(0.15, 0.2),
            ood_epsilons=(0.1,),
            loader=_DIGITS,
            files=None,
            roles=None,
            hold_out=HoldOut(297),
            train_images=781,
        ),
        DatasetSpec(
            name="glyphs",
            num_classes=10,
            shape=(3, 32, 32),
            mean=(0.50, 0.50, 0.50),
            std=(0.29, 0.29, 0.29),
            robust_epsilons=(8 / 255,),
            ood_epsilons=(8 / 255,),
            loader="trainables.data.synthetic.glyphs:load",
            files=None,
            roles=OodRoles(
                near=("letters", "numerals"),
                far=("textures", "gaussian", "uniform"),
                validation_far=("rademacher", *_ANY_COLOUR),
            ),
            hold_out=HoldOut(1024, first=True),
            classes=LETTERS,
            train_images=50_000,
        ),
        DatasetSpec(
            name="cifar10",
            num_classes=10,
            shape=(3, 32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            robust_epsilons=(8 / 255,),
            ood_epsilons=(8 / 255,),
            loader=FROM_FILES,
            files=Files(
                ("cifar-10-batches-py", "."),
                {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
                "data_batch_1 to data_batch_5 and test_batch into cifar-10-batches-py/",
                "torchvision, c58f3010",
                f"{_READERS}:cifar10",
                Download(170, "CIFAR10"),
            ),
            roles=OodRoles(_CIFAR_NEAR, _CIFAR_FAR, ("cifar100", "svhn")),
            hold_out=HoldOut(1024, first=True),
            corrupted=PublishedCorruptions("CIFAR-10-C", "arrays", "Zenodo 2535967"),
            classes=CIFAR_10,
            train_images=50_000,
            mirrors=True,
        ),
        DatasetSpec(
            name="cifar100",
            num_classes=100,
            shape=(3, 32, 32),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            robust_epsilons=(8 / 255,),
            ood_epsilons=(8 / 255,),
            loader=FROM_FILES,
            files=Files(
                ("cifar-100-python",),
                {"train": ("train",), "test": ("test",)},
                "train and test into cifar-100-python/",
                "torchvision, eb9058c3",
                f"{_READERS}:cifar100",
                Download(169, "CIFAR100"),
            ),
            roles=OodRoles(_CIFAR_NEAR, _CIFAR_FAR, ("cifar10", "svhn")),
            hold_out=HoldOut(1024, first=True),
            corrupted=PublishedCorruptions("CIFAR-100-C", "arrays", "Zenodo 3555552"),
            classes=CIFAR_100,
            train_images=50_000,
            mirrors=True,
        ),
        DatasetSpec(
            name="mnist",
            num_classes=10,
            shape=(1, 32, 32),
            mean=(0.1001,),
            std=(0.2752,),
            robust_epsilons=(0.15, 0.3),
            ood_epsilons=(0.1,),
            loader=FROM_FILES,
            files=_mnist_files(("MNIST/raw", "mnist"), "f68b3c2d", Download(12, "MNIST")),
            roles=OodRoles(
                ("fashion-mnist",),
                ("cifar10", "dtd", "gaussian", "uniform"),
                ("svhn",),
                validation_far=("rademacher", *_GREY),
            ),
            hold_out=HoldOut(5000),
            pad=2,
            train_images=60_000,
        ),
        DatasetSpec(
            name="fashion-mnist",
            num_classes=10,
            shape=(1, 32, 32),
            mean=(0.2190,),
            std=(0.3318,),
            robust_epsilons=(0.1,),
            ood_epsilons=(0.1,),
            loader=FROM_FILES,
            files=_mnist_files(
                ("FashionMNIST/raw", "fashion-mnist"), "8d4fb7e6", Download(31, "FashionMNIST")
            ),
            roles=OodRoles(
                ("mnist",),
                ("cifar10", "dtd", "gaussian", "uniform"),
                ("svhn",),
                validation_far=("rademacher", *_GREY),
            ),
            hold_out=HoldOut(5000),
            classes=FASHION,
            pad=2,
            train_images=60_000,
            mirrors=True,
        ),
        DatasetSpec(
            name="svhn",
            num_classes=10,
            shape=(3, 32, 32),
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            robust_epsilons=(8 / 255,),
            ood_epsilons=(8 / 255,),
            loader=FROM_FILES,
            files=Files(
                (".", "svhn"),
                {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
                "train_32x32.mat and test_32x32.mat into ./ or svhn/",
                "torchvision, e26dedcc, eb5a983b",
                f"{_READERS}:svhn",
                Download(246, "SVHN", splits=("train", "test")),
            ),
            roles=OodRoles(
                (),
                ("cifar10", "cifar100", "dtd", "gaussian", "uniform"),
                ("mnist",),
                validation_far=("rademacher", *_ANY_COLOUR),
            ),
            hold_out=HoldOut(5000),
            train_images=73_257,
        ),
        DatasetSpec(
            name="food101",
            num_classes=101,
            shape=(3, 224, 224),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            robust_epsilons=(4 / 255,),
            ood_epsilons=(4 / 255,),
            loader=FROM_FILES,
            files=Files(
                ("food-101",),
                {"train": ("meta/train.json", "images"), "test": ("meta/test.json", "images")},
                "meta/train.json, meta/test.json and images/<class>/<id>.jpg into food-101/",
                "torchvision, 85eeb15f",
                f"{_READERS}:food101",
                Download(5000, "Food101"),
                classes=f"{_READERS}:food101_classes",
            ),
            roles=OodRoles(
                ("dtd", "flowers102", "oxford-pet"),
                ("svhn", "fashion-mnist", "eurosat", "mnist", "cifar10"),
                validation_far=("uniform", *TRANSFORMS),
            ),
            hold_out=HoldOut(5050),
            train_images=75_750,
            mirrors=True,
        ),
        DatasetSpec(
            name="tiny-imagenet",
            num_classes=200,
            shape=(3, 64, 64),
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2302, 0.2265, 0.2262),
            robust_epsilons=(8 / 255,),
            ood_epsilons=(8 / 255,),
            loader=FROM_FILES,
            files=Files(
                ("tiny-imagenet-200", "."),
                {"train": ("train",), "test": ("val/val_annotations.txt",)},
                "train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt into tiny-imagenet-200/",
                "cs231n.stanford.edu, 90528d7c",
                f"{_READERS}:tiny_imagenet",
                Download(
                    248,
                    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                    md5="90528d7ca1a48142e341f4ef8d21d0de",
                ),
                classes=_FOLDERS,
            ),
            roles=OodRoles(_IMAGENET_NEAR, ("inaturalist", "dtd", "svhn", "gaussian", "uniform")),
            corrupted=PublishedCorruptions("Tiny-ImageNet-C", "folders", "Zenodo 2536630"),
            train_images=100_000,
            mirrors=True,
        ),
        DatasetSpec(
            name="imagenet",
            num_classes=1000,
            shape=(3, 224, 224),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            robust_epsilons=(4 / 255,),
            ood_epsilons=(4 / 255,),
            loader=FROM_FILES,
            files=Files(
                ("imagenet", "ILSVRC2012", "."),
                {"train": ("train",), "test": ("val",)},
                "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG (1000 class folders each) into imagenet/",
                "image-net.org, by hand",
                f"{_READERS}:imagenet",
                classes=_FOLDERS,
            ),
            roles=OodRoles(
                _IMAGENET_NEAR, ("inaturalist", "dtd", "openimage-o"), validation_far=("uniform", *TRANSFORMS)
            ),
            hold_out=HoldOut(10_000),
            crop=0.875,  # 224 of 256, as in every published evaluation
            corrupted=PublishedCorruptions("ImageNet-C", "folders", "Zenodo 2235448", mce=True),
            train_images=1_281_167,
            mirrors=True,
        ),
        DatasetSpec(
            name="imagefolder",
            num_classes=0,
            shape=(3, 64, 64),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            robust_epsilons=(),
            ood_epsilons=(),
            loader=FROM_FILES,
            files=Files(
                (".",),
                {"train": ("train",), "test": ("test|val",)},
                "train/<class>/* and test/<class>/* (pictures), or also val/<class>/*, into ./",
                "your own",
                f"{_READERS}:imagefolder",
                validation=("val", "test"),
            ),
            roles=OodRoles((), ("gaussian", "uniform"), own=True),
            mirrors=True,
        ),
    ],
    others=OwnDatasets(),
)
