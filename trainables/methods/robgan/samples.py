"""Sample grids of a generator in training, and its quality measures (`gan_quality`)."""

import numpy as np
import torch
from torch import Tensor

from trainables import networks
from trainables.base.storage import Folder
from trainables.data.loading.device_loader import to_device, to_unit
from trainables.data.types.splits import Split
from trainables.methods.robgan import gan_quality
from trainables.networks.gan import Generator
from trainables.options.common import RunOptions
from trainables.training.method import Context

GUARD_N = 256  #: fakes that the collapse guards look at
JUDGED_N = 1000  #: at most so many fakes and reals are judged
GRID_ROWS, GRID_COLUMNS = 10, 8
SAMPLED_AT_ONCE = 512


@torch.no_grad()
def draw(
    generator: Generator, count: int, stream: torch.Generator, sigma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return (images (count, c, h, w) in [0, 1], classes (count,)), uniform over the classes."""
    parts = []
    for start in range(0, count, SAMPLED_AT_ONCE):
        n = min(SAMPLED_AT_ONCE, count - start)
        z, wanted = generator.latents(n, stream, sigma), generator.classes(n, stream)
        parts.append((generator(z, wanted), wanted))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


class Inspector:
    """Looks at a generator with random streams of its own: nothing here changes what is trained next."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._distance = 0.0

    def signs(self, fakes: Tensor, means: dict[str, float], won_steps: int) -> gan_quality.Signs:
        """Return what the collapse guards look at.

        Args:
            fakes: GUARD_N images; their spread is compared with that of the first 2 GUARD_N training images.
            means: of the epoch, with "logit_size" and, if the generator took a step, "gradient_norm".
            won_steps: see `gan_quality.Signs`.
        """
        if not self._distance:
            reals = self.context.data.labelled(Split.TRAIN).images[: 2 * GUARD_N]
            self._distance = gan_quality.mean_pairwise_distance(
                to_unit(to_device(reals, self.context.device))
            )
        return gan_quality.Signs(
            pixel_std=gan_quality.pixel_deviation(fakes),
            diversity=gan_quality.mean_pairwise_distance(fakes) / max(self._distance, 1e-12),
            won_steps=won_steps,
            logit_size=means["logit_size"],
            gradient_norm=means.get("gradient_norm", float("inf")),
        )

    @torch.no_grad()
    def grid(self, generator: Generator, epoch: int) -> np.ndarray:
        """Return the sample grid, the same latents at every epoch; also a PNG file if the trial has a folder."""
        context, rows = self.context, min(GRID_ROWS, generator.num_classes)
        wanted = torch.arange(rows, device=context.device).repeat_interleave(GRID_COLUMNS)
        z = generator.latents(len(wanted), context.streams.fresh("grid"))
        grid = gan_quality.image_grid(generator(z, wanted), GRID_COLUMNS)
        if context.folder is not None:
            Folder(context.folder).write(f"samples-{epoch + 1:04d}.png", gan_quality.png_bytes(grid))
        return grid

    def judged(self, generator: Generator, options: RunOptions) -> dict[str, float]:
        """Return the scores of fresh samples by the pretrained classifier, against validation images."""
        context = self.context
        network = networks.build_for(options, context.data.info, dropout=0.0)
        network.load_state_dict(context.pretrained())
        reals = to_unit(to_device(context.data.labelled(Split.VAL_ID).images[:JUDGED_N], context.device))
        fakes, wanted = draw(generator, len(reals), context.streams.fresh("judged"))
        return gan_quality.judge(network.to(context.device), fakes, wanted, reals)
