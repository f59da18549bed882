"""Adversarial noise training (ANT): a generator learns the noise of a given L2 length that raises the loss most."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.data.loading.stylised import StylisedLoader
from trainables.functional.attacks import attack_mode
from trainables.functional.noise import composition, noise_length, rescale
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.networks.noise_generator import NoiseGenerator, generator_step, make_adam, train_generator
from trainables.options.ant import ANTOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, StateDict, Trainer

#: Forward and backward to the inputs: a step of the generator. Its own layers cost next to nothing.
GENERATOR_PASSES = 2.0


class ANT(ClassifierMethod):
    """Train a classifier on clean images and on images with noise from a generator that ascends its loss.

    min over theta, max over phi of E[CE(f_theta(R(x, g_phi(z))), y)], where R adds noise at an exact L2 length.
    At the start of an epoch a fresh generator is trained against the classifier as it then is and replaces
    the current one; it also takes a step before every batch. Part of a batch carries noise of generators of
    earlier epochs, drawn at random, so that the classifier does not forget them.

    Source:
        Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions
        (code: Game of Noise). What differs: the parts of a batch are right at any p_clean (`composition`);
        batches are never edited in place; the classifier is frozen in eval mode while the generator trains;
        earlier generators stay in memory, are kept as they were at the end of their epoch, and do not include
        the current one, which takes over their rows in the first epoch; SGD is with Nesterov momentum; the
        learning rate drops after `step_size` epochs, there one epoch early.
    """

    options: ANTOptions

    def __init__(self, options: ANTOptions, context: Context) -> None:
        """Build classifier, generator and loaders.

        Raises:
            InputError: a noise of length 0, or more stylised rows than unnoised ones.
            DataFileError: the stylised copy cannot be used.
        """
        super().__init__(options, context)
        info = context.data.info
        self.network = initial_network(options, context)
        if options.from_pretrained:
            self.network.load_state_dict(context.pretrained())
        self.loader = self.training_loader()
        self.trainer = Trainer(self.network, options, len(self.loader))
        self.l2 = noise_length(info.shape, options.rms, options.l2)
        if self.l2 <= 0:
            raise InputError("rms and l2 are both 0; adversarial noise needs a length, for example rms=0.3")
        self.parts = composition(
            self.loader.batch_size, options.p_clean, options.p_current, options.p_history
        )
        self.history: list[dict[str, Tensor]] = []
        self.noise_generator = self.fresh_generator()
        self.optimizer = make_adam(self.noise_generator, options.lr_ng)
        self.stylised = self._open_stylised()

    def _open_stylised(self) -> StylisedLoader | None:
        options = self.options
        if not options.sin_rows:
            return None
        if options.sin_rows > self.parts.clean:
            raise InputError(
                f"sin_rows is {options.sin_rows}; a batch has only {self.parts.clean} unnoised rows"
            )
        info, stream = self.context.data.info, self.streams.get("stylised")
        return StylisedLoader(options.sin_dir, info, self.device, stream, options.augment)

    def fresh_generator(self) -> NoiseGenerator:
        """Return an untrained generator; the next one starts from other weights."""
        options = self.options
        return NoiseGenerator(
            self.context.data.info.shape[0],
            self.l2,
            self.streams.get("ng_weights"),
            kind=options.ng_type,
            width=options.ng_width,
            device=self.device,
        )

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return {"loss", "generator"}, the latter what the generator ascends."""
        if self.options.retrain_iters:
            self.renew_generator()
        picks = self.draw_history()
        for step, (images, labels) in enumerate(self.loader):
            with attack_mode(self.network):
                ascended = generator_step(
                    self.noise_generator,
                    self.optimizer,
                    self.network,
                    images,
                    labels,
                    self.streams.get("ng_noise"),
                )
            images, labels = self.mixed(images, labels, picks[step])
            self.network.train()
            self.trainer.step(
                F.cross_entropy(self.network(images), labels, self.class_weights), generator=ascended
            )
        self.history.append({k: v.detach().clone() for k, v in self.noise_generator.state_dict().items()})
        self.passes += self.passes_per_image()
        return self.trainer.epoch_means()

    def renew_generator(self) -> None:
        """Replace the generator and its optimiser by a fresh one, trained against the current classifier."""
        options = self.options
        self.noise_generator = self.fresh_generator()
        train_generator(
            self.noise_generator,
            self.network,
            self._endless(),
            options.retrain_iters,
            options.lr_ng_retrain,
            self.streams.get("ng_noise"),
        )
        self.optimizer = make_adam(self.noise_generator, options.lr_ng)

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training batches for ever, in an order of their own: the classifier's is left alone."""
        loader = copy.copy(self.loader)  # the images on the device are shared
        loader.generator = self.streams.get("ng_shuffle")
        while True:
            yield from loader

    def draw_history(self) -> list[list[int]]:
        """Return for each batch of the epoch the earlier generators of its chunks: different ones while they last.

        Drawn for the whole epoch at once, as every read from the device waits for it.
        """
        chunks, known = len(self.parts.history), len(self.history)
        if not chunks or not known:
            return [[] for _ in range(len(self.loader))]
        keys = torch.rand(len(self.loader), known, generator=self.streams.get("history"), device=self.device)
        orders: list[list[int]] = keys.argsort(dim=1).tolist()
        return [[order[chunk % known] for chunk in range(chunks)] for order in orders]

    def mixed(self, images: Tensor, labels: Tensor, picks: list[int]) -> tuple[Tensor, Tensor]:
        """Return a new batch: current noise, earlier noises, unnoised, and stylised images at the end.

        Args:
            images: (n, c, h, w) in [0, 1], labels: (n,); neither is changed.
            picks: which earlier generator for each chunk of `parts.history`; none = the current one for all.
        """
        noisy = self.parts.noisy
        kept = len(images) - (self.options.sin_rows if self.stylised is not None else 0)
        rows = [images[noisy:kept]]
        if noisy:
            rows.insert(0, rescale(images[:noisy], self._noise(images[:noisy], picks), self.l2))
        if self.stylised is not None:
            stylised, own = self.stylised.next(len(images) - kept)
            rows.append(stylised)
            labels = torch.cat([labels[:kept], own])
        return torch.cat(rows), labels

    @torch.no_grad()
    def _noise(self, images: Tensor, picks: list[int]) -> Tensor:
        seeds = self.noise_generator.seeds(images, self.streams.get("noise"))
        if not picks:
            noise: Tensor = self.noise_generator(seeds)
            return noise
        chunks = torch.split(seeds, [self.parts.current, *self.parts.history])
        earlier = [
            functional_call(self.noise_generator, self.history[pick], (chunk,))
            for pick, chunk in zip(picks, chunks[1:], strict=True)
        ]
        return torch.cat([self.noise_generator(chunks[0]), *earlier])

    def passes_per_image(self) -> float:
        """Return what one epoch costs per training image, in forward passes of one image."""
        retraining = self.options.retrain_iters / len(self.loader)
        return TRAINING_PASSES + GENERATOR_PASSES * (1 + retraining)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "noise_generator": self.noise_generator.state_dict(),
            "noise_optimizer": self.optimizer.state_dict(),
            "history": list(self.history),
            "stylised": None if self.stylised is None else self.stylised.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.noise_generator.load_state_dict(state["noise_generator"])
        self.optimizer.load_state_dict(state["noise_optimizer"])
        self.history = [{k: v.to(self.device) for k, v in earlier.items()} for earlier in state["history"]]
        if self.stylised is not None:
            self.stylised.load_state_dict(state["stylised"])
