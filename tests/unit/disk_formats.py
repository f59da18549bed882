"""Tiny files in each data set's own on-disk format, as the published archives unpack; milliseconds each.

Every writer takes the data folder, writes a set below it and returns what it wrote where that survives
exactly (no JPEG): {part: (images, labels)}.
"""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Array = np.ndarray
Written = dict[str, tuple[Array, Array]]


def pixels(n: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Array:
    """Return noise pictures uint8 (n, h, w, c), without the last axis for one channel."""
    shape = (n, height, width) if channels == 1 else (n, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def picture(path: Path, width: int = 24, height: int = 16, seed: int = 0, mode: str = "RGB") -> None:
    """Write a smooth picture; its format is that of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(pixels(1, 3, 4, seed=seed)[0])
    small.resize((width, height), Image.Resampling.BILINEAR).convert(mode).save(path)


def tree(
    folder: Path,
    classes: list[str],
    per_class: int,
    seed: int = 0,
    suffix: str = ".jpg",
    width: int = 24,
    height: int = 16,
) -> None:
    """Write class folders of pictures."""
    for c, name in enumerate(classes):
        for i in range(per_class):
            picture(folder / name / f"{name}_{i}{suffix}", width, height, seed=seed + 1000 * c + i)


def cifar_batch(path: Path, images: Array, labels: list[int], key: str, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
    names = [f"picture_{i}.png".encode() for i in range(len(images))]
    batch = {"batch_label": b"a batch", "data": data, key: labels, "filenames": names}
    path.write_bytes(pickle.dumps(batch, protocol=protocol))


def cifar10(root: Path, per_batch: int = 20, test: int = 20) -> Written:
    images, labels = [], []
    for i in range(1, 6):
        batch = pixels(per_batch, 32, 32, seed=i)
        ys = [(i + k) % 10 for k in range(per_batch)]
        cifar_batch(root / "cifar-10-batches-py" / f"data_batch_{i}", batch, ys, "labels")
        images.append(batch)
        labels += ys
    tests = pixels(test, 32, 32, seed=6)
    test_labels = [k % 10 for k in range(test)]
    cifar_batch(root / "cifar-10-batches-py" / "test_batch", tests, test_labels, "labels")
    return {"train": (np.concatenate(images), np.array(labels)), "test": (tests, np.array(test_labels))}


def cifar100(root: Path, train: int = 200, test: int = 100) -> Written:
    written = {}
    for part, n in (("train", train), ("test", test)):
        images = pixels(n, 32, 32, seed=n)
        labels = [k % 100 for k in range(n)]
        cifar_batch(root / "cifar-100-python" / part, images, labels, "fine_labels")
        written[part] = (images, np.array(labels))
    return written


def idx(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def mnist(root: Path, folder: str = "MNIST", train: int = 100, test: int = 20, suffix: str = "") -> Written:
    written = {}
    for part, prefix, n in (("train", "train", train), ("test", "t10k", test)):
        images, labels = pixels(n, 28, 28, 1, seed=n), np.arange(n) % 10
        idx(root / folder / "raw" / f"{prefix}-images-idx3-ubyte{suffix}", images)
        idx(root / folder / "raw" / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
        written[part] = (images, labels)
    return written


def fashion_mnist(root: Path) -> Written:
    return mnist(root, "FashionMNIST", suffix=".gz")


def svhn(root: Path, train: int = 100, test: int = 20) -> Written:
    from scipy.io import savemat

    written = {}
    for part, n in (("train", train), ("test", test)):
        images, labels = pixels(n, 32, 32, seed=n), np.arange(n) % 10
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(
            root / f"{part}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": stored}, do_compression=True
        )
        written[part] = (images, labels)
    return written


def food101(root: Path, train: int = 3, test: int = 1) -> Written:
    classes = [f"dish_{c:03d}" for c in range(101)]
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    for part, ids in (("train", range(train)), ("test", range(train, train + test))):
        listed = {c: [f"{c}/{i}" for i in ids] for c in reversed(classes)}
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for k, c in enumerate(classes):
            for i in ids:
                picture(base / "images" / c / f"{i}.jpg", seed=100 * k + i)
    return {}


def wnids(count: int) -> list[str]:
    return [f"n{1_000_000 + 7 * c:08d}" for c in range(count)]


def tiny_imagenet(root: Path, train: int = 2, test: int = 200) -> Written:
    base = root / "tiny-imagenet-200"
    names = wnids(200)
    for c, wnid in enumerate(names):
        for i in range(train):
            picture(base / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 64, 64, seed=10 * c + i)
        (base / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    rows = []
    for i in range(test):
        picture(base / "val" / "images" / f"val_{i}.JPEG", 64, 64, seed=5000 + i)
        rows.append(f"val_{i}.JPEG\t{names[-1 - i % 200]}\t0\t0\t62\t62")
    (base / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (base / "wnids.txt").write_text("\n".join(reversed(names)))
    return {}


def imagenet(root: Path, train: int = 2, test: int = 1, more: int = 0) -> Written:
    """Write ImageNet; the first `more` classes have one training picture more than the others."""
    names = wnids(1000)
    tree(root / "imagenet" / "train", names, train, suffix=".JPEG")
    for c, wnid in enumerate(names[:more]):
        picture(root / "imagenet" / "train" / wnid / f"{wnid}_more.JPEG", seed=1000 * c + 999)
    tree(root / "imagenet" / "val", names, test, seed=500, suffix=".JPEG")
    return {}


def imagenet_c(root: Path, corruptions: tuple[str, ...], names: list[str], name: str = "ImageNet-C") -> None:
    """Write one picture of 224 pixels per corruption, linked into every severity and class folder."""
    for c, corruption in enumerate(corruptions):
        first = root / name / corruption / "first.JPEG"
        picture(first, 224, 224, seed=c)
        for severity in range(1, 6):
            for wnid in names:
                folder = root / name / corruption / str(severity) / wnid
                folder.mkdir(parents=True)
                (folder / "ILSVRC2012_val_00000001.JPEG").hardlink_to(first)
        first.unlink()


def imagefolder(root: Path, classes: int = 3, train: int = 10, test: int = 4) -> Written:
    names = [f"class {c}" for c in range(classes)]
    tree(root / "train", names, train, suffix=".png")
    tree(root / "test", names, test, seed=500, suffix=".png")
    tree(root / "ood" / "near", ["paintings"], 5, seed=900)
    tree(root / "ood" / "far", ["maps"], 6, seed=950)
    return {}


def dtd(root: Path, per_class: int = 3) -> Written:
    base = root / "dtd" / "dtd"
    classes = ["banded", "woven"]
    tree(base / "images", classes, per_class)
    (base / "labels").mkdir()
    for i, part in enumerate(("train", "val", "test")):
        lines = [f"{c}/{c}_{i}.jpg" for c in classes]
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
    return {}


def flowers102(root: Path, count: int = 12) -> Written:
    from scipy.io import savemat

    base = root / "flowers-102"
    for i in range(1, count + 1):
        picture(base / "jpg" / f"image_{i:05d}.jpg", seed=i)
    labels = np.arange(count, dtype=np.uint8)[None] % 102 + 1
    savemat(base / "imagelabels.mat", {"labels": labels})
    third = count // 3
    ids = np.arange(1, count + 1, dtype=np.uint16)[None]
    savemat(
        base / "setid.mat",
        {"trnid": ids[:, :third], "valid": ids[:, third : 2 * third], "tstid": ids[:, 2 * third :]},
    )
    return {}


def oxford_pet(root: Path) -> Written:
    base = root / "oxford-iiit-pet"
    names = ["Abyssinian_1", "beagle_7", "beagle_9"]
    for i, name in enumerate(names):
        picture(base / "images" / f"{name}.jpg", seed=i)
    (base / "annotations").mkdir(parents=True)
    (base / "annotations" / "test.txt").write_text("Abyssinian_1 1 1 1\nbeagle_7 5 2 1\nbeagle_9 5 2 2\n")
    return {}


def eurosat(root: Path) -> Written:
    tree(root / "eurosat" / "2750", ["Forest", "River"], 4)
    return {}


def odin(root: Path) -> Written:
    """Write the four cropped and resized sets, and fooling images."""
    for c, folder in enumerate(
        ("LSUN/test", "LSUN_resize/LSUN_resize", "Imagenet/test", "Imagenet_resize/all")
    ):
        for i in range(5):
            picture(root / folder / f"{i}.png", 32, 32, seed=10 * c + i)
    for generation in ("map_gen_0", "map_gen_5000"):
        for run in (0, 1):
            picture(root / "10-runs-x-1000-cppns" / f"run_{run}" / generation / "map_1.png", 25, 25, seed=run)
    return {}


def openood(root: Path) -> Written:
    """Write the near and far sets of ImageNet."""
    for c, folder in enumerate(("ssb_hard", "ninco", "inaturalist", "openimage_o")):
        tree(root / folder, ["one", "two"], 2, seed=c)
    return {}


def cifar_c(
    root: Path, name: str, corruptions: tuple[str, ...], per_severity: int, classes: int = 10
) -> Array:
    """Write a corrupted set; the first value of each picture is its severity; return the labels of one severity."""
    base = root / name
    base.mkdir(parents=True)
    labels = np.arange(per_severity) % classes
    np.save(base / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    for c, corruption in enumerate(corruptions):
        images = pixels(5 * per_severity, 32, 32, seed=c)
        images[:, 0, 0, 0] = np.repeat(np.arange(1, 6), per_severity)
        np.save(base / f"{corruption}.npy", images)
    return labels


def images300k(path: Path, count: int = 12) -> Array:
    """Write the outliers of outlier exposure, one npy file of (n, 32, 32, 3)."""
    images = pixels(count, 32, 32, seed=300)
    np.save(path, images)
    return images


def samples_npz(
    folder: Path, sigmas: tuple[float, ...], side: int, count: int = 6, channels: int = 3
) -> None:
    """Write `samples-<sigma>.npz`: x of (n, c, side, side) and the classes y they were drawn for."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, sigma in enumerate(sigmas):
        images = np.random.default_rng(k).integers(0, 256, (count, channels, side, side)).astype(np.uint8)
        np.savez(folder / f"samples-{sigma:.1f}.npz", x=images, y=np.arange(count))


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data cut short, with bytes changed, doubled or left out."""
    kind = rng.integers(4)
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 20))
    if kind == 0:
        return data[:at]
    if kind == 1:
        out = bytearray(data)
        # headers are where it hurts: half of the changes are in the first or last 200 bytes
        for place in rng.integers(0, len(data), 3) if rng.random() < 0.5 else rng.integers(-200, 200, 3):
            out[int(place) % len(data)] = int(rng.integers(256))
        return bytes(out)
    if kind == 2:
        return data[:at] + data[at : at + length] + data[at:]
    return data[:at] + data[at + length :]


#: {data set: its writer}.
ID_SETS: dict[str, Callable[[Path], Written]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "svhn": svhn,
    "food101": food101,
    "tiny-imagenet": tiny_imagenet,
    "imagenet": imagenet,
    "imagefolder": imagefolder,
}
OOD_SETS: tuple[Callable[[Path], Written], ...] = (dtd, flowers102, oxford_pet, eurosat, odin, openood)
