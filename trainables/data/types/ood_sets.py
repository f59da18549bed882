"""The OOD test sets that no data set of `DATASETS` is: textures, scenes, ODIN's and OpenOOD's sets. No torch."""

from trainables.base.errors import InputError, unknown
from trainables.base.registry import Registry
from trainables.data.types.dataset_spec import Download, Files, OodSetSpec
from trainables.data.types.datasets import DATASETS

_READERS = "trainables.data.readers.image_readers"
_ODIN = "https://www.dropbox.com/s/raw"


def _pictures(
    name: str, folders: tuple[str, ...], what: str, source: str, download: Download | None = None
) -> OodSetSpec:
    """Return a set of all pictures below a folder."""
    put = f"{what} into {folders[0]}/"
    return OodSetSpec(name, Files(folders, {"test": ()}, put, source, f"{_READERS}:all_pictures", download))


def _archive(megabytes: int, url: str, md5: str) -> Download:
    return Download(megabytes, url=url, md5=md5)


OOD_SETS = Registry(
    "OOD set",
    [
        OodSetSpec(
            "dtd",
            Files(
                ("dtd/dtd", "dtd"),
                {"test": ("images",)},
                "images/<class>/*.jpg into dtd/dtd/",
                "torchvision, fff73e50",
                f"{_READERS}:dtd",
                Download(597, "DTD"),
            ),
        ),
        OodSetSpec(
            "flowers102",
            Files(
                ("flowers-102",),
                {"test": ("jpg", "imagelabels.mat", "setid.mat")},
                "jpg/image_*.jpg, imagelabels.mat and setid.mat into flowers-102/",
                "torchvision, 52808999",
                f"{_READERS}:flowers102",
                Download(345, "Flowers102"),
            ),
        ),
        OodSetSpec(
            "oxford-pet",
            Files(
                ("oxford-iiit-pet",),
                {"test": ("images", "annotations/test.txt")},
                "images/*.jpg and annotations/test.txt into oxford-iiit-pet/",
                "torchvision, 5c4f3ee8, 95a8c909",
                f"{_READERS}:oxford_pet",
                Download(811, "OxfordIIITPet"),
            ),
        ),
        OodSetSpec(
            "eurosat",
            Files(
                ("eurosat/2750",),
                {"test": ()},
                "the ten class folders into eurosat/2750/",
                "torchvision, c8fa0143",
                f"{_READERS}:eurosat",
                Download(94, "EuroSAT"),
            ),
        ),
        _pictures(
            "lsun-crop",
            ("LSUN/test", "LSUN"),
            "the pictures of ODIN's LSUN.tar.gz",
            "ODIN's archive, 458a0a0a",
            _archive(59, f"{_ODIN}/fhtsw1m3qxlwj6h/LSUN.tar.gz", "458a0a0ab8e5f1cb4516d7400568e460"),
        ),
        _pictures(
            "lsun-resize",
            ("LSUN_resize",),
            "the pictures of ODIN's LSUN_resize.tar.gz",
            "ODIN's archive, 278b7b31",
            _archive(27, f"{_ODIN}/moqh2wh8696c3yl/LSUN_resize.tar.gz", "278b7b31c8cb7e804a1465a8ce03a2dc"),
        ),
        _pictures(
            "tiny-imagenet-crop",
            ("Imagenet/test", "Imagenet"),
            "the pictures of ODIN's Imagenet.tar.gz",
            "ODIN's archive, 7c0827e4",
            _archive(64, f"{_ODIN}/avgm2u562itwpkl/Imagenet.tar.gz", "7c0827e4246c3718a5ee076e999e52e5"),
        ),
        _pictures(
            "tiny-imagenet-resize",
            ("Imagenet_resize",),
            "the pictures of ODIN's Imagenet_resize.tar.gz",
            "ODIN's archive, 0f9ff11d",
            _archive(
                28, f"{_ODIN}/kp3my3412u5k9rl/Imagenet_resize.tar.gz", "0f9ff11d45babf2eff5fe12281d1ac31"
            ),
        ),
        OodSetSpec(
            "fooling",
            Files(
                ("10-runs-x-1000-cppns", "fooling"),
                {"test": ()},
                "the pictures of Nguyen's 10_runs_x_1000_cppns.tar.gz into 10-runs-x-1000-cppns/",
                "s.anhnguyen.me, 0910d639",
                f"{_READERS}:fooling",
                _archive(
                    630,
                    "https://s.anhnguyen.me/10_runs_x_1000_cppns.tar.gz",
                    "0910d63973b1512770f37bebdbb53e37",
                ),
            ),
        ),
        _pictures(
            "ssb-hard",
            ("ssb_hard", "ssb-hard"),
            "the pictures of OpenOOD's SSB-hard",
            "OpenOOD v1.5, by hand",
        ),
        _pictures(
            "ninco", ("ninco", "NINCO"), "the pictures of NINCO's OOD classes", "OpenOOD v1.5, by hand"
        ),
        _pictures(
            "inaturalist",
            ("inaturalist", "iNaturalist"),
            "the pictures of OpenOOD's iNaturalist",
            "OpenOOD v1.5, by hand",
        ),
        _pictures(
            "openimage-o",
            ("openimage_o", "openimage-o"),
            "the pictures of OpenOOD's OpenImage-O",
            "OpenOOD v1.5, by hand",
        ),
    ],
)


def names_with_files() -> tuple[str, ...]:
    """Return the names of all sets that are read from files: data sets, then OOD sets."""
    return (*(spec.name for spec in DATASETS if spec.files), *OOD_SETS.names)


def downloadable() -> tuple[str, ...]:
    """Return the names of the sets that can be downloaded."""
    return tuple(name for name in names_with_files() if files_of(name).download)


def files_of(name: str) -> Files:
    """Return the files of a data set or an OOD set.

    Raises:
        InputError: an unknown name (the nearest is suggested), or a built-in set.
    """
    known = {spec.name: spec.files for spec in (*OOD_SETS, *DATASETS)}
    if name not in known:
        raise InputError(unknown("dataset", name, known))
    files = known[name]
    if files is None:
        raise InputError(f"{name} is built in: it has no files")
    return files
