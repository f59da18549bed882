"""Dynamics-aware robust training (DyART): enlarges input-space margins, small margins first."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.cache import cache_dir_of
from trainables.base.errors import DataFileError, InputError
from trainables.data.loading.device_loader import augment, to_unit
from trainables.data.loading.stream_loader import make_loader
from trainables.data.readers.npz_arrays import mapped_array
from trainables.data.types.splits import DatasetInfo, Split
from trainables.functional.attacks import attack_mode
from trainables.functional.boundary import (
    Boundary,
    closest_boundary,
    margin_surrogate,
    margin_weights,
    quality_filter,
    soft_margin,
)
from trainables.functional.losses import full_precision
from trainables.methods.adversarial import speed_batch, speed_report
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.options.dyart import DyARTOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, Trainer, make_optimizer

#: One step of the search: forward and backward to the images, and in fab another forward.
SEARCH_PASSES = {"sequential": 2.0, "fab": 3.0, "fab_onepass": 2.0}
#: Margins up to here count as wrong: such an image has no boundary of its own to push away.
RIGHT_FROM = 1e-9
#: Most groups of a group norm; fewer where they do not divide the channels.
GROUPS = 32


class DyART(ClassifierMethod):
    """Cross-entropy plus a decreasing cost of each right image's distance to the decision boundary.

    The boundary is searched in eval mode. An image's cross-entropy stays in the loss whether or not its
    boundary point was found and passed the filter.

    Source:
        Xu et al. 2023, Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (ICLR),
        and its code. What differs: boundary points pass batch norm with the running statistics, as in the
        search (`norm=bn_upstream` gives them a pass with their own); the mixture of the search is per image;
        the momentum is constant and the schedule per step; weight decay spares every normalisation layer,
        whatever its name; a batch without boundary points trains on the cross-entropy alone.
    """

    options: DyARTOptions

    def __init__(self, options: DyARTOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.precision == "bf16" and options.norm == "bn_upstream":
            raise InputError(
                "norm=bn_upstream trains on margins in training mode, which precision=bf16 would round; "
                "use norm=bn_eval_boundary or gn, or precision=float32"
            )
        self.network = initial_network(options, context)
        if prepare_norm(self.network, options) and options.start == "pretrained":
            raise InputError(
                f"norm=gn replaces the batch norm of {options.network}, so its pretrained weights do not fit; "
                "add start=scratch and some burn_in_epochs"
            )
        self.network.to(self.device)
        if options.start == "pretrained":
            self.network.load_state_dict(context.pretrained())
        data = context.data.labelled(Split.TRAIN)
        batch = min(options.batch_size, len(data))
        self.steps = len(data) // batch
        self.pool = (
            SyntheticPool(options.synthetic_path, context.data.info, options.cache_dir)
            if options.synthetic_path
            else None
        )
        self.extra = min(batch - 1, round(options.unsup_fraction * batch)) if self.pool else 0
        self.loader = make_loader(
            data,
            batch - self.extra,
            self.device,
            self.streams.get("shuffle"),
            options.augment,
            balanced=self.balance == "sampling",
        )
        self.trainer = Trainer(self.network, options, self.steps)
        if options.weight_decay and not options.norm_decay:
            self.trainer.optimizer = make_optimizer(decay_groups(self.network), options)

    @classmethod
    def build_classifier(cls, options: DyARTOptions, info: DatasetInfo) -> nn.Module:
        network = super().build_classifier(options, info)
        prepare_norm(network, options)
        return network

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch.

        Returns:
            "loss"; after burn-in also "ce", "robust" (the surrogate, near 0 by construction), "right" and
            "boundary" (shares of the images with a positive margin, with a boundary point), "margin" (mean
            distance to these points, pixel units); and the boundary's speed, if asked for.
        """
        generator = self.streams.get("boundary")
        burn_in = epoch < self.options.burn_in_epochs
        self.network.train()
        for images, labels in self._batches():
            if burn_in:
                self.trainer.step(self._cross_entropy(images, labels))
            else:
                loss, terms = self.loss(images, labels, generator)
                self.trainer.step(loss, **terms)
        means = self.trainer.epoch_means()
        self.passes += TRAINING_PASSES
        if not burn_in:
            # the margins of all, the search for the right ones, training on the kept points
            search = SEARCH_PASSES[self.options.boundary.search] * self.options.boundary.steps
            self.passes += 1 + search * means["right"] + TRAINING_PASSES * means["boundary"]
        return means | self._speed()

    def loss(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return mean(CE) + lambda times the surrogate of the margins' cost, and its terms by name."""
        options = self.options
        upstream = options.norm == "bn_upstream"
        # upstream passes the boundary points first. Else the clean images go first: what their pass writes into
        # the running statistics would invalidate the graph of a boundary pass that has read them
        ce = None if upstream else self._cross_entropy(images, labels)
        rows, right, boundary = self.search(images, labels, generator)
        training = self.network.training
        self.network.train(upstream and training)
        if len(rows):
            margins = soft_margin(self.network(boundary.points), labels[rows], options.temperature)
        else:
            margins = images.new_zeros(0)
        self.network.train(training)
        weights = margin_weights(boundary, options.alpha, options.r0)
        robust = margin_surrogate(margins, weights, len(images))
        if ce is None:
            ce = self._cross_entropy(images, labels)
        terms = {
            "ce": ce,
            "robust": robust,
            "right": right.float().mean(),
            "boundary": ce.new_tensor(len(rows) / len(images)),
            "margin": boundary.distances.sum() / max(1, len(rows)),
        }
        return ce + options.robust_weight * robust, terms

    @torch.no_grad()
    def search(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Boundary]:
        """Return the rows (m,) that have a good boundary point, which (n,) are right, and the m points.

        Wrong images are left out before the search, which costs one synchronisation and saves their passes;
        what the filter drops costs another.
        """
        options = self.options
        with attack_mode(self.network):
            right = soft_margin(self.network(images), labels, options.temperature) > RIGHT_FROM
            rows = right.nonzero().squeeze(1)
            chosen, targets = images[rows], labels[rows]
            boundary = closest_boundary(
                lambda x: soft_margin(self.network(x), targets, options.temperature),
                chosen,
                search=options.boundary.search,
                steps=options.boundary.steps,
                epsilon_init=options.boundary.epsilon_init,
                mixing=options.boundary.mixing,
                generator=generator,
                shared_alpha=options.boundary.shared_alpha,
            )
        good = quality_filter(chosen, boundary) if options.boundary.quality_filter else boundary.found
        kept = good.nonzero().squeeze(1)
        return rows[kept], right, boundary.select(kept)

    def _cross_entropy(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(full_precision(self.network(images)), labels, self.class_weights)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the epoch's batches, real images first; with extra data an epoch has as many steps as without."""
        if self.pool is None:
            yield from self.loader
            return
        generator = self.streams.get("synthetic")
        shape = (self.steps, self.extra)
        rows = torch.randint(len(self.pool), shape, generator=generator, device=self.device).cpu().numpy()
        for chosen, (images, labels) in zip(rows, self.loader, strict=False):
            more, targets = self.pool.take(chosen, self.device)
            more = augment(more, self.options.augment, generator)
            yield torch.cat([images, more]), torch.cat([labels, targets])

    def _speed(self) -> dict[str, float]:
        if not self.options.speed_images:
            return {}
        images, labels = speed_batch(self)
        self.network.eval()
        loss, _ = self.loss(images, labels, self.streams.fresh("speed_boundary"))
        return speed_report(self, images, labels, loss, self.options.temperature)


def prepare_norm(network: nn.Module, options: DyARTOptions) -> bool:
    """Set the momentum of every batch norm or, for norm=gn, put a group norm in its place.

    Returns:
        Whether anything was replaced.
    """
    replaced = False
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and options.norm == "gn":
                channels = child.num_features
                setattr(module, name, nn.GroupNorm(math.gcd(GROUPS, channels), channels))
                replaced = True
            elif isinstance(child, nn.BatchNorm2d):
                child.momentum = options.bn_momentum
    return replaced


def decay_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return the optimiser's groups: everything, and without weight decay the normalisation layers."""
    spared = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))
        for parameter in module.parameters(recurse=False)
    }
    parameters = [p for p in network.parameters() if p.requires_grad]
    decayed = {"params": [p for p in parameters if id(p) not in spared]}
    plain = {"params": [p for p in parameters if id(p) in spared], "weight_decay": 0.0}
    return [decayed, plain] if plain["params"] else [decayed]


class SyntheticPool:
    """Generated images with labels from one npz file: `image` uint8 (n, h, w, c) and `label` (n,).

    The arrays are memory-mapped, so that trials on one machine share their pages; a compressed file is unpacked
    once into the cache folder.

    Args:
        path: of the file.
        info: the data set that it extends.
        cache_dir: "" is the user's cache folder.

    Raises:
        DataFileError: missing, damaged, or not of this layout; one line that names the file.
    """

    def __init__(self, path: str, info: DatasetInfo, cache_dir: str = "") -> None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise DataFileError(f"synthetic_path {file} is not a file")
        cache = cache_dir_of(cache_dir)
        self.images, self.labels = (mapped_array(file, key, cache) for key in ("image", "label"))
        channels, height, width = info.shape
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (height, width, channels):
            raise DataFileError(
                f"{file}: image is {self.images.dtype} {self.images.shape}; "
                f"want uint8 (n, {height}, {width}, {channels})"
            )
        count = len(self.images)
        if self.labels.dtype.kind not in "iu" or self.labels.shape != (count,) or count == 0:
            raise DataFileError(
                f"{file}: label is {self.labels.dtype} {self.labels.shape}; want integers ({count},), at least one"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= info.num_classes:
            raise DataFileError(
                f"{file}: labels run from {low} to {high}; {info.name} has the classes 0 to {info.num_classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images (m, c, h, w) in [0, 1] and labels (m,) of some rows, on the device."""
        images = torch.from_numpy(np.ascontiguousarray(self.images[rows])).to(device, non_blocking=True)
        labels = torch.from_numpy(self.labels[rows].astype(np.int64)).to(device, non_blocking=True)
        return to_unit(images.permute(0, 3, 1, 2).contiguous()), labels
