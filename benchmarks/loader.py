"""The device-resident loader beside torch's DataLoader with PIL transforms, in one run: microseconds per image.

    python benchmarks/loader.py                  # CIFAR-shaped images with random crops and flips, batches of 128
    python benchmarks/loader.py --device cuda    # the DataLoader's batches are copied to the GPU

Arms take turns. The clock is the process's CPU time on one thread and the wall; on a GPU only the wall counts.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from alternate import alternate, machine, table
from torch import Tensor

from trainables.data.loading.device_loader import DeviceLoader
from trainables.data.types.benchmark import LabelledImages

WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(" ".join(["python benchmarks/loader.py", *sys.argv[1:]]))
    print(machine("torch", "torchvision"), flush=True)
    print(table(compared(options.device, options.images, options.batch, options.rounds)))


def compared(device: str, count: int, batch: int, rounds: int) -> list[list[str]]:
    """Time epochs of random images; every arm returns how often it gave each label."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(count, 3, 32, 32)).astype(np.uint8)
    data = LabelledImages(images, rng.integers(10, size=count))

    def epoch(batches: Iterable[Any]) -> np.ndarray:
        labels = [y.to(device) for x, y in batches if len(x.to(device))]
        counts: np.ndarray = np.bincount(torch.cat(labels).cpu().numpy(), minlength=10)
        return counts  # has waited for the device

    def theirs(workers: int) -> Callable[[int], np.ndarray]:
        def run(seed: int) -> np.ndarray:
            return epoch(
                torch.utils.data.DataLoader(
                    Pictures(data),
                    batch,
                    shuffle=True,
                    num_workers=workers,
                    generator=torch.Generator().manual_seed(seed),
                    drop_last=True,
                    pin_memory=device == "cuda",
                )
            )

        return run

    def ours(seed: int) -> np.ndarray:
        generator = torch.Generator(device).manual_seed(seed)
        return epoch(DeviceLoader(data, batch, device, generator, "crop_flip"))

    with_workers = f"DataLoader, {WORKERS} workers"
    arms = {"DataLoader, PIL transforms": theirs(0), with_workers: theirs(WORKERS), "ours": ours}
    for run in arms.values():
        run(0)  # imports, and a GPU's first kernels
    measured = alternate(arms, rounds)
    peer = measured["DataLoader, PIL transforms"]
    taken = count // batch * batch
    assert all(counts.sum() == taken for arm in measured.values() for counts in arm.found)
    rows = [
        ["arm", "CPU us/image", "wall us/image", "images/s, wall", "times faster, CPU", "times faster, wall"]
    ]
    for name, arm in measured.items():
        wall = float(np.median(arm.wall)) / taken
        cpu = "in other processes" if name == with_workers else f"{1e6 * arm.seconds / taken:.1f}"
        faster = "-" if name == with_workers else arm.times_faster(peer)
        rows.append(
            [name, cpu, f"{1e6 * wall:.1f}", f"{1 / wall:.0f}", faster, arm.times_faster(peer, "wall")]
        )
    return rows


class Pictures(torch.utils.data.Dataset):
    """Images as torchvision's CIFAR10 gives them: PIL, cropped and flipped one by one."""

    def __init__(self, data: LabelledImages, augmented: bool = True) -> None:
        from torchvision import transforms

        self.images = np.ascontiguousarray(np.asarray(data.images).transpose(0, 2, 3, 1))
        self.labels = data.labels
        random = (
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augmented else []
        )
        self.transform = transforms.Compose([*random, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index].squeeze())), int(self.labels[index])


if __name__ == "__main__":
    main()
