"""Rob-GAN's generator as an outlier generator: trained once on the ID images, sampled at any latent sigma."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from trainables.base.streams import Streams, preserved_rng
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import DatasetInfo, Split
from trainables.methods.robgan.robgan import RobGAN
from trainables.networks.gan import Generator
from trainables.options.robgan import FinetuneOptions, RobGANOptions
from trainables.outliers.generators import FIT_N, State
from trainables.training.method import Context

STEPS = 450  #: discriminator steps of the fit, whatever the size of the data set
SAMPLED_AT_ONCE = 256


class RobGANOutliers:
    """The weight average of a jointly trained generator; x = G(sigma z, y), z ~ N(0, 1), y uniform.

    Sigma 1 is the prior it was trained with. The joint phase only, at the method's default settings, on the CPU
    with one thread from a fixed seed: the state depends on the training images alone.

    Raises:
        TrainingFailed: in `fit`, if a collapse guard fired.
    """

    version = 1

    def fit(self, train: LabelledImages) -> None:
        """Train on at most FIT_N evenly spaced images; every global random state is left as it was."""
        n = min(len(train), FIT_N)
        rows = np.arange(n) * len(train) // n
        images, labels = np.asarray(train.images[rows]), np.asarray(train.labels[rows])
        shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
        classes = max(2, int(labels.max()) + 1)
        options = _options(n)
        half = (0.5,) * shape[0]
        data = Benchmark(
            DatasetInfo("outliers", classes, shape, half, half),
            {Split.TRAIN: {"id": LabelledImages(images, labels)}},
            "search",
        )
        device = torch.device("cpu")
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            with preserved_rng(device), torch.enable_grad(), torch.autocast("cpu", enabled=False):
                context = Context(data, Streams(0, device), device, dict, lambda _options, _seed: None)
                method = RobGAN(options, context)
                for epoch in range(options.epochs):
                    method.train_epoch(epoch)
        finally:
            torch.set_num_threads(threads)
        weights = {f"weight.{k}": v.numpy() for k, v in method.sampler().state_dict().items()}
        self.load_state({"sizes": np.array([classes, *shape, options.nz, options.ngf]), **weights})

    def state(self) -> State:
        """Return {"sizes": classes, c, h, w, nz, ngf; "weight.<name>": the generator's state dict}."""
        return self._state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what `state` returned; KeyError or ValueError if it is not complete."""
        classes, c, h, w, nz, ngf = (int(value) for value in state["sizes"])
        with torch.device("meta"):  # no memory, no random numbers: every weight is given
            generator = Generator(classes, (c, h, w), nz, ngf)
        weights = {name: torch.tensor(state[f"weight.{name}"]) for name in generator.state_dict()}
        try:
            generator.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ValueError(f"weights do not fit the generator: {str(error).splitlines()[-1]}") from error
        self._state = {name: np.asarray(value) for name, value in state.items()}
        self._generator = generator.eval().requires_grad_(False)

    @torch.no_grad()
    def sample(self, count: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
        """Return (count, c, h, w) float32 in [0, 1]; equal latents at every sigma for equal random states."""
        z = torch.from_numpy((sigma * rng.standard_normal((count, self._generator.nz))).astype(np.float32))
        wanted = torch.from_numpy(rng.integers(self._generator.num_classes, size=count))
        batches = zip(torch.split(z, SAMPLED_AT_ONCE), torch.split(wanted, SAMPLED_AT_ONCE), strict=True)
        images: np.ndarray = torch.cat([self._generator(x, y) for x, y in batches]).numpy()
        return images


def _options(n: int) -> RobGANOptions:
    """Return the fixed settings for n training images: as many epochs as make STEPS steps."""
    neutral = RobGANOptions()
    per_epoch = max(1, n // min(neutral.batch_size, n))
    return RobGANOptions(epochs=math.ceil(STEPS / per_epoch), ft=FinetuneOptions(share=0.0), judged=False)
