"""The 15 corruptions of ImageNet-C and the four hold-out ones, made from images of 32 pixels a side or more. No torch.

The code is the library `imagecorruptions` (package imagecorruptions-imaug, extra `corruptions`) and the strengths
are ImageNet-C's; up to 32 pixels they are CIFAR-10-C's, from `corruptions_cifar`. The published files, which
`corrupted_files` reads, hold other images, so results of both are not comparable. The library's elastic_transform grows
with the image, ImageNet-C's does not.
Images are corrupted once and kept on disk in the layout of CIFAR-10-C.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from trainables.base.cache import locked
from trainables.base.errors import InputError, unknown
from trainables.base.seeds import derive_seed
from trainables.base.storage import atomic_write
from trainables.data.readers.corrupted_files import CORRUPTIONS, SEVERITIES
from trainables.data.synthetic.corruptions_cifar import STRENGTHS, corrupt_small
from trainables.data.types.availability import EXTRA, SMALLEST, has_cifar_strengths
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import LazyImages, NpySource

Array = np.ndarray

#: For tuning only; the other 15 are the test.
HOLD_OUT = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
ALL_SEVERITIES = tuple(range(1, SEVERITIES + 1))
FORMAT = 1
_OWN_SEED = ("glass_blur", "impulse_noise")  # these two take a seed and look past numpy's
_BLOCK = 256  # images per task of a worker
#: File beside regenerated corruptions: what they were made of. Published folders have none.
MANIFEST = "bake.json"


def corrupt(images: Array, corruption: str, severity: int, seed: int, first: int = 0) -> Array:
    """Corrupt images, each with random numbers of its own.

    An image's result depends on the seed, the corruption, the severity and its number, not on the images around it
    or on numpy's global stream, which is put back.

    Args:
        images: (n, c, h, w) uint8, c = 1 or 3, 32 pixels a side or more. The library makes colour of grey; its first
            channel is kept.
        corruption: one of `CORRUPTIONS` or `HOLD_OUT`.
        severity: 1 to 5.
        first: the number of the first image.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: other images, an unknown corruption or severity, or the library cannot be imported.
    """
    _check(images, (corruption,), (severity,))
    library = _library()
    small = has_cifar_strengths(images.shape[1:]) and corruption in STRENGTHS
    out = np.empty(images.shape, np.uint8)
    before = np.random.get_state()
    try:
        for place, image in enumerate(np.asarray(images)):
            own = derive_seed(seed, corruption, severity, first + place) % 2**32
            extra = {"seed": own} if corruption in _OWN_SEED else {}
            np.random.seed(own)
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            if small:
                colour = pixels if len(image) == 3 else pixels.repeat(3, axis=2)
                corrupted = corrupt_small(colour, corruption, severity, own, library.corruptions)
            else:
                corrupted = library.corrupt(pixels, severity=severity, corruption_name=corruption, **extra)
            out[place] = corrupted.transpose(2, 0, 1)[: len(image)]
    finally:
        np.random.set_state(before)
    return out


def bake(
    images: Any,
    folder: Path,
    *,
    labels: Array | None = None,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = ALL_SEVERITIES,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Corrupt images once and keep them: `<folder>/<corruption>.npy`, uint8, one severity after the other.

    A corruption whose file is complete and of the same images, seed, severities and library version is kept: a second
    call costs a checksum of the images, and a killed one goes on with the corruption it was at. Each file is written
    under a temporary name and renamed. Processes of one node take turns.

    Args:
        images: (n, c, h, w) uint8, an array or lazy.
        labels: (n,) written as `labels.npy`, which completes the layout of CIFAR-10-C.
        workers: processes; the result does not depend on their number.

    Raises:
        InputError: as in `corrupt`, or the folder holds other images.
    """
    _check(images, corruptions, severities)
    with locked(folder / ".lock"):
        key = bake_key(images, severities, seed)
        manifest = _manifest(folder)
        if manifest.get("key", key) != key:
            raise InputError(
                f"{folder} holds corruptions of other images or settings; delete it or name another folder"
            )
        if labels is not None:
            with atomic_write(folder / "labels.npy") as file:
                np.save(file, np.asarray(labels, np.int64))
        files = manifest.get("files", {})
        for corruption in corruptions:
            path = folder / f"{corruption}.npy"
            known = files.get(corruption, {})
            if path.is_file() and path.stat().st_size == known.get("bytes"):
                continue
            files[corruption] = _bake_one(images, path, corruption, severities, seed, workers)
            content = {"key": key, "severities": list(severities), "images": len(images), "files": files}
            with atomic_write(folder / MANIFEST) as file:
                file.write(json.dumps(content, indent=1).encode())


def baked_sets(
    folder: Path, shape: tuple[int, int, int], labels: Array, verify: bool = False
) -> dict[str, LabelledImages]:
    """Return {"<corruption>/<severity>": images, mapped from disk, and their labels} of a baked folder.

    Args:
        shape: (c, h, w).
        labels: (n,) of the images that were baked.
        verify: compare the checksums of all files first, which reads them whole.

    Raises:
        InputError: nothing was baked there, a file is not what was written, or the number of labels differs.
    """
    manifest = _manifest(folder)
    if not manifest:
        raise InputError(f"{folder} has no {MANIFEST}: nothing was baked there")
    n = int(manifest["images"])
    if len(labels) != n:
        raise InputError(f"{folder} holds {n} images of each kind, and there are {len(labels)} labels")
    sets = {}
    for corruption, known in manifest["files"].items():
        path = folder / f"{corruption}.npy"
        if not path.is_file() or path.stat().st_size != known["bytes"]:
            raise InputError(f"{path} is missing or truncated; bake it again")
        if verify and _sha256(path) != known["sha256"]:
            raise InputError(f"{path} is not what was baked (another checksum); delete it and bake it again")
        for place, severity in enumerate(manifest["severities"]):
            images: Any = LazyImages(NpySource(path, n * place, n * (place + 1)), shape)
            sets[f"{corruption}/{severity}"] = LabelledImages(images, labels)
    return sets


def _library() -> ModuleType:
    """Import the library, which pulls in OpenCV, scikit-image and numba, when it is first needed."""
    try:
        import imagecorruptions
    except ImportError as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"ImageNet-C corruptions need the extra `corruptions` ({EXTRA}) and the system library libgl1 "
            f"(apt-get install libgl1): {cause}"
        ) from error
    module: ModuleType = imagecorruptions
    return module


def _check(images: Any, corruptions: Sequence[str], severities: Sequence[int]) -> None:
    known = (*CORRUPTIONS, *HOLD_OUT)
    for name in corruptions:
        if name not in known:
            raise InputError(unknown("corruption", name, known))
    for severity in severities:
        if severity not in range(1, SEVERITIES + 1):
            raise InputError(f"severity {severity} does not exist; want 1 to {SEVERITIES}")
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"want images (n, 1 or 3, h, w) of uint8, not {images.shape} of {images.dtype}")
    if min(images.shape[2:]) < SMALLEST:
        raise InputError(
            f"images of {images.shape[2]} x {images.shape[3]} are too small for ImageNet-C corruptions, which begin "
            f"at {SMALLEST}; digits have their own set"
        )


def _bake_one(
    images: Any, path: Path, corruption: str, severities: Sequence[int], seed: int, workers: int
) -> dict[str, Any]:
    """Write one file and return its size and checksum; no more than a few blocks are in memory at a time."""
    n, channels, height, width = images.shape
    stored = (n * len(severities), height, width) + ((3,) if channels == 3 else ())
    with atomic_write(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": stored}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(images, corruption, severities, seed, workers):
            pixels = block.transpose(0, 2, 3, 1) if channels == 3 else block[:, 0]
            file.write(np.ascontiguousarray(pixels).tobytes())
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _blocks(
    images: Any, corruption: str, severities: Sequence[int], seed: int, workers: int
) -> Iterator[Array]:
    """Yield the corrupted images of all severities in order."""
    tasks = [(severity, start) for severity in severities for start in range(0, len(images), _BLOCK)]

    def block(start: int) -> Array:
        return np.asarray(images[start : start + _BLOCK])

    if workers <= 1:
        for severity, start in tasks:
            yield corrupt(block(start), corruption, severity, seed, start)
        return
    # spawn: a fork of a process that has torch's threads may hang
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        window = 2 * workers
        waiting = [pool.submit(corrupt, block(s), corruption, v, seed, s) for v, s in tasks[:window]]
        for severity, start in tasks[window:]:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(corrupt, block(start), corruption, severity, seed, start))
        for future in waiting:
            yield future.result()


def bake_key(images: Any, severities: Sequence[int] = ALL_SEVERITIES, seed: int = 0) -> str:
    """Return what the files depend on besides the corruption: content, settings, the library's version."""
    from importlib.metadata import PackageNotFoundError, version

    _library()
    try:
        installed = version("imagecorruptions-imaug")
    except PackageNotFoundError:  # the same module under another name of the package
        installed = "unknown"
    head = [FORMAT, list(images.shape), list(severities), seed, installed]
    if has_cifar_strengths(images.shape[1:]):
        head.append("CIFAR-10-C")
    digest = hashlib.sha256(json.dumps(head).encode())
    if isinstance(images, LazyImages):
        for piece in images.identity():
            digest.update(piece)
    else:
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    """Return what was baked, {} where nothing was or the file cannot be read: then all is baked again."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        manifest
        if isinstance(manifest, dict) and {"key", "files", "images", "severities"} <= set(manifest)
        else {}
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
