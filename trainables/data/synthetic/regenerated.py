"""Regenerate corrupted test sets from the clean test images where no published files are on disk. No torch.

They are ImageNet-C's corruptions at its strengths, or at CIFAR-10-C's up to 32 pixels, on the first test images only,
and never stand beside published files: a data set has the one or the other, `Benchmark.corrupted` says which, and a
note goes into the report.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.base.cache import default_cache_dir
from trainables.base.errors import InputError
from trainables.data.synthetic.corruptions_imagenet import bake, bake_key, baked_sets
from trainables.data.types.availability import SMALLEST, regenerated_count, regenerated_line
from trainables.data.types.benchmark import Benchmark, LabelledImages, Sets
from trainables.data.types.lazy_images import ArraySource, LazyImages, NpySource
from trainables.data.types.splits import Origin, Split

#: Above so many bytes the images stay on disk, where only processes that see the cache folder can read them.
IN_MEMORY_BYTES = 2**30
SEED = 0


def with_corruptions(benchmark: Benchmark, cache_dir: Path | None = None, workers: int = 0) -> Benchmark:
    """Return the benchmark with regenerated corruptions if it has none, and a note about them or their absence.

    The first call takes minutes; arrays are kept in `<cache_dir>/corruptions/<data set>-<hash>/`, the hash over images,
    settings and the library's version, and a killed call goes on where it was.

    Args:
        benchmark: with its test split.
        cache_dir: default: the user's cache folder.
        workers: processes; 0 takes all CPUs of this process, 16 at most.
    """
    if benchmark.has(Split.CORRUPTED):
        return benchmark
    name, shape = benchmark.info.name, benchmark.info.shape
    if min(shape[1:]) < SMALLEST:
        line = f"{name}: accuracy on corruptions is left out; they begin at {SMALLEST} pixels a side"
        return replace(benchmark, notes=(*benchmark.notes, line))
    test_id = benchmark.parts[Split.TEST_ID]["id"]
    count = min(len(test_id), regenerated_count(shape[1]))
    test = LabelledImages(test_id.images[:count], test_id.labels[:count])
    try:
        sets = _sets(benchmark.info.seed_name, shape, test, cache_dir or default_cache_dir(), workers)
    except InputError as error:  # the library, or a system library of its own, is not here
        line = f"{name}: accuracy on corruptions is left out; {error}"
        return replace(benchmark, notes=(*benchmark.notes, line))
    return replace(
        benchmark,
        parts={**benchmark.parts, Split.CORRUPTED: sets},
        corrupted=Origin.REGENERATED,
        notes=(*benchmark.notes, regenerated_line(name, count, shape)),
    )


def _sets(
    name: str, shape: tuple[int, int, int], test: LabelledImages, cache_dir: Path, workers: int
) -> Sets:
    folder = cache_dir / "corruptions" / f"{name}-{bake_key(test.images, seed=SEED)[:16]}"
    bake(
        test.images,
        folder,
        labels=test.labels,
        seed=SEED,
        workers=workers or min(16, len(os.sched_getaffinity(0))),
    )
    sets = baked_sets(folder, shape, test.labels)
    if sum(data.images.nbytes for data in sets.values()) > IN_MEMORY_BYTES:
        return sets
    return {key: LabelledImages(_held(data.images), data.labels) for key, data in sets.items()}


def _held(images: Any) -> Any:
    """Return images of a npy file as images of an array: these travel to other nodes, and are shared there."""
    source: NpySource = images.source
    return LazyImages(ArraySource(source.array().copy()), images.picture_shape)
