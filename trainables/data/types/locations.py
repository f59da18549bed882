"""Where the files of each data set lie below the data folder, and whether they are there. No torch.

The layouts are those that torchvision and the sets' own archives unpack to. Nothing is opened here: this is
what can be said in milliseconds, before anything starts.
"""

from dataclasses import dataclass
from pathlib import Path

from trainables.base.errors import DataFileError, InputError, unknown


@dataclass(frozen=True)
class Location:
    """The place of one data set.

    Attributes:
        folders: below the data folder, the first that holds a part wins; "." is the data folder itself.
        parts: {part: what it needs inside the folder}; "a|b" means either.
        put: what to put where, in one phrase.
        download: about how many MB come on first use; 0 where the source allows no download.
    """

    folders: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]
    put: str
    download: int = 0


def _idx(part: str) -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{part}-{kind}|{part}-{kind}.gz" for kind in kinds)


def _pictures(folders: tuple[str, ...], what: str, download: int = 0) -> Location:
    """Return the place of a set of pictures without labels, in any folders below."""
    return Location(folders, {"test": ()}, f"{what} into {folders[0]}/", download)


LOCATIONS: dict[str, Location] = {
    "cifar10": Location(
        ("cifar-10-batches-py", "."),
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "data_batch_1 to data_batch_5 and test_batch into cifar-10-batches-py/",
        170,
    ),
    "cifar100": Location(
        ("cifar-100-python",),
        {"train": ("train",), "test": ("test",)},
        "train and test into cifar-100-python/",
        169,
    ),
    "mnist": Location(
        ("MNIST/raw", "mnist"),
        {"train": _idx("train"), "test": _idx("t10k")},
        "train- and t10k- images-idx3-ubyte and labels-idx1-ubyte (or .gz) into MNIST/raw/",
        12,
    ),
    "fashion-mnist": Location(
        ("FashionMNIST/raw", "fashion-mnist"),
        {"train": _idx("train"), "test": _idx("t10k")},
        "train- and t10k- images-idx3-ubyte and labels-idx1-ubyte (or .gz) into FashionMNIST/raw/",
        31,
    ),
    "svhn": Location(
        (".", "svhn"),
        {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
        "train_32x32.mat and test_32x32.mat into ./ or svhn/",
        246,
    ),
    "food101": Location(
        ("food-101",),
        {"train": ("meta/train.json", "images"), "test": ("meta/test.json", "images")},
        "meta/train.json, meta/test.json and images/<class>/<id>.jpg into food-101/",
        5000,
    ),
    "tiny-imagenet": Location(
        ("tiny-imagenet-200", "."),
        {"train": ("train",), "test": ("val/val_annotations.txt",)},
        "train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt into tiny-imagenet-200/",
        248,
    ),
    "imagenet": Location(
        ("imagenet", "ILSVRC2012", "."),
        {"train": ("train",), "test": ("val",)},
        "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG (1000 class folders each) into imagenet/",
    ),
    "imagefolder": Location(
        (".",),
        {"train": ("train",), "test": ("test|val",)},
        "train/<class>/* and test/<class>/* (pictures) into ./",
    ),
    "dtd": Location(("dtd/dtd", "dtd"), {"test": ("images",)}, "images/<class>/*.jpg into dtd/dtd/", 597),
    "flowers102": Location(
        ("flowers-102",),
        {"test": ("jpg", "imagelabels.mat", "setid.mat")},
        "jpg/image_*.jpg, imagelabels.mat and setid.mat into flowers-102/",
        345,
    ),
    "oxford-pet": Location(
        ("oxford-iiit-pet",),
        {"test": ("images", "annotations/test.txt")},
        "images/*.jpg and annotations/test.txt into oxford-iiit-pet/",
        811,
    ),
    "eurosat": Location(("eurosat/2750",), {"test": ()}, "the ten class folders into eurosat/2750/", 94),
    "lsun-crop": _pictures(("LSUN/test", "LSUN"), "the pictures of ODIN's LSUN.tar.gz", 59),
    "lsun-resize": _pictures(("LSUN_resize",), "the pictures of ODIN's LSUN_resize.tar.gz", 27),
    "tiny-imagenet-crop": _pictures(
        ("Imagenet/test", "Imagenet"), "the pictures of ODIN's Imagenet.tar.gz", 64
    ),
    "tiny-imagenet-resize": _pictures(
        ("Imagenet_resize",), "the pictures of ODIN's Imagenet_resize.tar.gz", 28
    ),
    "fooling": _pictures(
        ("10-runs-x-1000-cppns", "fooling"), "the pictures of Nguyen's 10_runs_x_1000_cppns.tar.gz", 630
    ),
    "ssb-hard": _pictures(("ssb_hard", "ssb-hard"), "the pictures of OpenOOD's SSB-hard"),
    "ninco": _pictures(("ninco", "NINCO"), "the pictures of NINCO's OOD classes"),
    "inaturalist": _pictures(("inaturalist", "iNaturalist"), "the pictures of OpenOOD's iNaturalist"),
    "openimage-o": _pictures(("openimage_o", "openimage-o"), "the pictures of OpenOOD's OpenImage-O"),
}

#: The published corrupted test sets, {data set: folder}: one npy file, or one tree of pictures, for each corruption.
CORRUPTED_ARRAYS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
CORRUPTED_FOLDERS = {"imagenet": "ImageNet-C", "tiny-imagenet": "Tiny-ImageNet-C"}


def published_folder(name: str) -> str:
    """Return the folder of a data set's published corrupted test set, "" where none was published."""
    return CORRUPTED_ARRAYS.get(name) or CORRUPTED_FOLDERS.get(name, "")


def find(name: str, data_dir: str, part: str) -> Path | None:
    """Return the folder that holds everything a part needs, or None.

    Args:
        part: "train" or "test"; the OOD sets have "test" only.
    """
    location = LOCATIONS[name]
    for folder in location.folders:
        root = Path(data_dir).expanduser() / folder
        if root.is_dir() and not _lacking(root, location.parts[part]):
            return root
    return None


def missing(name: str, data_dir: str) -> str:
    """Return what an ID set lacks and what to put where, in one line; "" if all is there."""
    location = LOCATIONS[name]
    roots = [Path(data_dir).expanduser() / folder for folder in location.folders]
    root = next((r for r in roots if r.is_dir() and r != Path(data_dir).expanduser()), roots[0])
    lacking = [
        mark
        for part, marks in location.parts.items()
        if find(name, data_dir, part) is None
        for mark in (_lacking(root, marks) or marks or ("pictures",))
    ]
    if not lacking:
        return ""
    names = ", ".join(dict.fromkeys(mark.split("|")[0] for mark in lacking))
    return f"{name}: {names} not found in {root}; put {location.put} of {Path(data_dir).expanduser()}"


def check_dataset_files(name: str, data_dir: str) -> str:
    """Check, before anything starts, that the files of an ID set are there.

    Only presence is looked at; content is checked when it is read.

    Returns:
        "" if everything is there (or the set is built in), else a sentence saying that, and how much, will be
        downloaded.

    Raises:
        InputError: an unknown data set.
        DataFileError: files are missing and cannot be downloaded; one line that says what to put where.
    """
    if name in ("digits", "digits-open", "glyphs"):
        return ""
    if name not in LOCATIONS:
        raise InputError(unknown("dataset", name, LOCATIONS))
    line = missing(name, local(name, data_dir))
    if not line:
        return ""
    if not LOCATIONS[name].download:
        raise DataFileError(line)
    return f"{name} is not in {data_dir}; about {LOCATIONS[name].download} MB are downloaded there"


def local(name: str, data_dir: str) -> str:
    """Return the data folder, or raise DataFileError if it is none that files can be opened in."""
    if not data_dir:
        raise DataFileError(f"{name} needs a data folder; put {LOCATIONS[name].put} of it")
    if "://" in data_dir:
        raise DataFileError(
            f"{name}: data folder {data_dir} is not a local or mounted folder; copy or mount it"
        )
    return data_dir


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders in a folder, sorted: their order is the order of the labels."""
    try:
        with_files = [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    except OSError as error:
        raise DataFileError(f"{folder} cannot be listed: {error.strerror}") from error
    return sorted(with_files)


def _lacking(root: Path, marks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(m for m in marks if not any((root / choice).exists() for choice in m.split("|")))
