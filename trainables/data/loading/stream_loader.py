"""`StreamLoader`: batches of images that do not fit into memory, decoded by threads while the device computes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.loading.class_balance import epoch_order
from trainables.data.loading.device_loader import (
    RESIZED,
    TRIES,
    DeviceLoader,
    augment,
    crop_boxes,
    to_device,
    to_unit,
)
from trainables.data.types.benchmark import LabelledImages
from trainables.data.types.lazy_images import LazyImages, cut

PER_GPU = (
    8  #: decoding threads of all trials that share a GPU; a JPEG of 500 x 375 pixels takes a core about 2 ms
)
THREADS = 4  #: decoding threads of a process that has not called `set_decoders`
AHEAD = 2  #: batches that are decoded before they are asked for

_threads = THREADS


def set_decoders(gpus: float, cpus: int) -> int:
    """Set how many threads decode for the loaders of this process, and return the number.

    Like `torch.set_num_threads`, it is a setting of the process, which trains one trial at a time. A trial with a share
    of a GPU gets that share of `PER_GPU`, so that their number per GPU is bounded however many trials it holds; one
    without a GPU decodes with the CPUs it has.

    Args:
        gpus: share of a GPU, or number of them; 0 without.
        cpus: of the trial.
    """
    global _threads
    _threads = max(1, int(PER_GPU * gpus) if gpus > 0 else cpus)
    return _threads


class StreamLoader:
    """The interface and, bit for bit, the batches of `DeviceLoader`, for images that stay files.

    One epoch is a permutation drawn from the generator, as there; the pictures of a batch are decoded by
    `threads` threads (0: those of `set_decoders`) while earlier batches train, at most `ahead` batches early,
    into pinned memory if the device is a GPU. Augmentation is on the device; resized_crop_flip alone cuts the pictures
    in their own size, when they are decoded. Which thread decodes what changes nothing in the result, and between two
    epochs there is no state but the generator's.

    Attributes:
        images: indexing gives uint8 tensors on the device, as `DeviceLoader.images` does; only what is
            indexed is decoded.
        labels: (n,) int64 on the device.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int,
        device: torch.device | str,
        generator: torch.Generator,
        augmentation: str = "none",
        threads: int = 0,
        ahead: int = AHEAD,
        balanced: bool = False,
    ) -> None:
        self.images = OnDemand(data.images, device)
        self.labels = to_device(data.labels, device)
        self.device = torch.device(device)
        self.batch_size = min(batch_size, len(data))
        self.generator = generator
        self.augmentation = augmentation
        self.threads, self.ahead = threads or _threads, ahead
        self.balanced = balanced

    def __len__(self) -> int:
        """Return the steps of one epoch."""
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        labels = self.labels.to(self.generator.device)
        order = epoch_order(labels, self.balanced, self.generator).cpu()
        rows = [order[step * self.batch_size : (step + 1) * self.batch_size] for step in range(len(self))]
        windows, kind = None, self.augmentation
        if kind == RESIZED:  # drawn for the whole epoch, as batches are decoded ahead
            shape, device = (len(order), TRIES, 4), self.generator.device
            windows, kind = torch.rand(shape, generator=self.generator, device=device).cpu(), "flip"
        batches = decoded(
            self.images.images, [r.numpy() for r in rows], self.device, self.threads, self.ahead, windows
        )
        try:
            for chosen, pixels in zip(rows, batches, strict=True):
                images = augment(to_unit(pixels), kind, self.generator)
                yield images, self.labels[chosen.to(self.labels.device)]
        finally:
            batches.close()


class OnDemand:
    """Lazy images whose indexing returns uint8 tensors on the device; only what is indexed is decoded."""

    dtype = torch.uint8

    def __init__(self, images: Any, device: torch.device | str) -> None:
        self.images = images
        self.device = device
        self.shape = torch.Size(images.shape)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, Tensor):
            key = key.cpu().numpy()
        return to_device(np.asarray(self.images[key]), self.device)


def make_loader(
    data: LabelledImages,
    batch_size: int,
    device: torch.device | str,
    generator: torch.Generator,
    augmentation: str = "none",
    threads: int = 0,
    balanced: bool = False,
) -> DeviceLoader | StreamLoader:
    """Return a `DeviceLoader` for images in memory, a `StreamLoader` for lazy ones."""
    if isinstance(data.images, LazyImages):
        return StreamLoader(data, batch_size, device, generator, augmentation, threads, balanced=balanced)
    return DeviceLoader(data, batch_size, device, generator, augmentation, balanced)


def in_order(images: Any, batch_size: int, device: torch.device | str, threads: int = 0) -> Iterator[Tensor]:
    """Yield the images of a set, lazy or not, as batches on the device in their own dtype, each once, in order."""
    rows = [
        np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)
    ]
    if isinstance(images, LazyImages):
        yield from decoded(images, rows, torch.device(device), threads)
        return
    for chosen in rows:
        yield to_device(images[chosen[0] : chosen[-1] + 1], device)


def decoded(
    images: Any,
    batches: list[np.ndarray],
    device: torch.device,
    threads: int = 0,
    ahead: int = AHEAD,
    windows: Tensor | None = None,
) -> Any:
    """Yield the rows of each batch as uint8 (k, c, h, w) on the device, decoded ahead by threads.

    Closing the generator, or an error in a picture, ends the threads; nothing that was queued is decoded then.

    Args:
        windows: draws of `crop_boxes` for the rows of all batches in their order; None cuts to the centre.
    """
    starts = np.cumsum([0, *map(len, batches)])
    threads = threads or _threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decoder")
    waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
    todo = iter(enumerate(batches))
    try:
        while True:
            while len(waiting) <= ahead and (following := next(todo, None)) is not None:
                place, rows = following
                cuts = None if windows is None else windows[starts[place] : starts[place + 1]]
                waiting.append(_submit(pool, images, rows, device, threads, cuts))
            if not waiting:
                return
            pixels, parts = waiting.popleft()
            for part in parts:
                part.result()
            yield pixels.to(device, non_blocking=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor,
    images: Any,
    rows: np.ndarray,
    device: torch.device,
    threads: int,
    windows: Tensor | None,
) -> tuple[Tensor, list["Future[None]"]]:
    """Queue the decoding of a batch, one task per thread, all writing into one tensor."""
    # the pinned allocator hands a block out again only after the copies from it are done
    pixels = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    array = pixels.numpy()
    step = max(1, -(-len(rows) // threads))
    return pixels, [
        pool.submit(
            _decode,
            images,
            rows[start : start + step],
            array[start : start + step],
            None if windows is None else windows[start : start + step],
        )
        for start in range(0, len(rows), step)
    ]


def _decode(images: Any, rows: np.ndarray, out: np.ndarray, windows: Tensor | None) -> None:
    if isinstance(images, LazyImages):
        chosen = LazyImages(images.source, images.picture_shape, images.rows[rows], images.crop)
        if windows is None:
            chosen.decode_into(out)
            return
        for place, row, draws in zip(out, chosen.rows, windows, strict=True):
            picture = images.source.picture(int(row))
            box = crop_boxes(picture.height, picture.width, draws[None])[0].tolist()
            place[:] = cut(picture, images.picture_shape, box)
    else:
        out[:] = images[rows]
