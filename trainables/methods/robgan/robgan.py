"""Rob-GAN: a generator, a discriminator with a class head and an attacker, trained jointly, then the class head."""

import copy
import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.base.errors import TrainingFailed
from trainables.base.seeds import derive_seed
from trainables.data.types.splits import DatasetInfo
from trainables.functional.attacks import ascend, attack_mode
from trainables.functional.losses_gan import (
    attack_objective,
    class_term,
    discriminator_loss,
    finetune_loss,
    generator_loss,
    r1_penalty,
    weights,
)
from trainables.methods.robgan import gan_quality
from trainables.methods.robgan.samples import GUARD_N, Inspector, draw
from trainables.methods.robgan.schedule import joint_epochs, ramp_up, rate_factor
from trainables.networks.gan import Discriminator, Generator, build_class_head
from trainables.options.robgan import FinetuneOptions, RobGANOptions
from trainables.training.method import Context, Method, StateDict


class RobGAN(Method):
    """Joint adversarial training of class head and generator, then fine-tuning of the class head.

    Joint phase: PGD on real images against both heads; the discriminator learns attacked reals and fakes,
    the generator to fool it in the class asked for. Second phase, the last `ft.share` of the epochs: the
    generator (its weight average) stands still and the class head learns attacked reals and attacked fakes.
    With `joint_epochs` the joint phase is trained once for all trials that differ in the second alone.

    Attributes:
        network: the discriminator; called like a classifier.
        generator, average: the live generator and its weight average (None if ema is 0).
        samples: the last sample grid, uint8, one row per class (at most ten), or None before the first epoch.
        joint_epochs: the first epoch of the second phase.

    Source:
        Liu & Hsieh 2019, Rob-GAN: Generator, Discriminator, and Adversarial Attacker. What differs by default, each
        an option: hinge loss, spectral norm, no batch norm in D, features that keep their position, two time
        scales, one D step per G step, average of G, ramps of epsilon and of the class weight. Always: images in
        [0, 1] outside the networks, fakes of the second phase from the average in eval mode.
    """

    options: RobGANOptions  # type: ignore[assignment]
    network: Discriminator

    def __init__(self, options: RobGANOptions, context: Context) -> None:
        super().__init__(options, context)
        info = context.data.info
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(context.streams.seed, "weights"))
            self.network = Discriminator(
                *_head_settings(options, info),
                spectral_norm=options.spectral_norm,
                norm_head=options.norm_head,
            ).to(self.device)
            self.generator = Generator(
                info.num_classes, info.shape, options.nz, options.ngf, options.bn_momentum
            ).to(self.device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if options.ema else None
        self.loader = self.training_loader()
        self.joint_epochs = joint_epochs(options)
        steps = len(self.loader) * options.rounds
        self.joint_steps = steps * (options.joint_epochs or self.joint_epochs)
        self.ft_steps = steps * (options.epochs - self.joint_epochs)
        self.step = 0
        self.streak = torch.zeros((), dtype=torch.int64, device=self.device)
        self.optimizer_d = self._adam(self.network, options.lr_d)
        self.optimizer_g = self._adam(self.generator, options.lr_g)
        self.optimizer_ft: torch.optim.Optimizer | None = None
        self.samples: np.ndarray | None = None
        self.inspector = Inspector(context)

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        betas = (self.options.beta1, self.options.beta2)
        return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, foreach=True)

    # -- epochs --------------------------------------------------------------------------------------------

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch of either phase.

        Returns:
            Joint phase: means of the terms "loss" (L_D), "loss_g", "real", "fake", "ce_real", "ce_fake",
            "real_accuracy" and "fake_accuracy" (of the real/fake head), what the guards look at
            ("logit_size", "gradient_norm", "pixel_std", "diversity", "won_steps"), "epsilon"; after its
            last epoch the judge's scores. Second phase: "loss", "ce_real" and, if lambda_f, "ce_fake"; its first
            epoch after a shared joint phase has that one's last means too.

        Raises:
            TrainingFailed: "collapsed: ..." if a guard fired, or a loss that is not finite.
        """
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        self._counts: dict[str, int] = defaultdict(int)
        joint = epoch < self.joint_epochs
        shared = self._load_joint_phase() if self.options.joint_epochs and not self.step else {}
        for _ in range(self.options.rounds):
            for images, labels in self.loader:
                if joint:
                    self._joint_step(images, labels)
                else:
                    self._finetune_step(images, labels)
                self.step += 1
            self.passes += self.passes_per_image(joint)
        means = shared | self._means()
        if joint and self.options.generator:
            means |= self._inspect(epoch, means)
        return means

    def _add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self._sums[name] += value.detach()
            self._counts[name] += 1

    def _means(self) -> dict[str, float]:
        names = list(self._sums)
        values = torch.stack([self._sums[name].float() for name in names]).tolist()  # one read for all
        means = {name: value / self._counts[name] for name, value in zip(names, values, strict=True)}
        for name, value in means.items():
            if not math.isfinite(value):
                raise TrainingFailed(f"training {name} is {value} after {self.step} steps (diverged)")
        return means

    def passes_per_image(self, joint: bool) -> float:
        """Return what one pass over the real images costs each, in forward passes of one image.

        Attack 2 a step; D 3 on the real and 3 on a fake, which costs G 1; G's own step 3 for itself and 2
        through D. The gradient penalty differentiates once more: 3.
        """
        options = self.options
        attack = 2.0 * options.attack.steps if options.attack.epsilon else 0.0
        if not options.generator:
            return attack + 3
        if joint:
            return attack + 3 + 1 + 3 + 5 / options.n_dis + (3 if options.r1_gamma else 0)
        return (attack + 3) + (attack + 4 if options.ft.lambda_f else 0)

    # -- joint phase ---------------------------------------------------------------------------------------

    def _load_joint_phase(self) -> dict[str, float]:
        """Begin with the end of the joint phase that trials share, and return the means of its last epoch."""
        assert self.context.shared_start is not None
        options = self.options
        alone = replace(options, joint_epochs=0, epochs=options.joint_epochs, ft=FinetuneOptions(share=0.0))
        start = self.context.shared_start(alone, _joint_phase)
        self._load_networks(start)
        self.step = self.joint_steps
        means: dict[str, float] = start["means"]
        return means

    def _joint_step(self, images: Tensor, labels: Tensor) -> None:
        options = self.options
        self._set_rates()
        if options.dequantize:
            noise = torch.empty_like(images).uniform_(
                0, options.dequantize, generator=self.streams.get("dequantize")
            )
            images = (images + noise).clamp_(max=1.0)
        if not options.generator:
            self._classify_step(images, labels)
            return
        ramp = ramp_up(self.step, self.joint_steps, options.w_g_ramp)
        weigh = weights(options.loss, options.fake_cls_in_d, options.w_c, options.w_g * ramp)
        if self.step % options.n_dis == 0:
            self._generator_step(len(images))
        attacked = self.attack_both(images, labels)
        self.generator.train()
        with torch.no_grad():
            fakes, wanted = self._fakes(self.generator, len(images))
        self.network.train()
        if options.r1_gamma:
            attacked.requires_grad_(True)
        if options.joint_batch:
            critic, logits = self.network.both(torch.cat([attacked, fakes]))
            (real_b, fake_b), (real_c, fake_c) = critic.split(len(images)), logits.split(len(images))
        else:
            real_b, real_c = self.network.both(attacked)
            fake_b, fake_c = self.network.both(fakes)
        loss, terms = discriminator_loss(
            (real_b, real_c, labels), (fake_b, fake_c, wanted), options.loss, weigh
        )
        if options.r1_gamma:
            loss = loss + options.r1_gamma * r1_penalty(real_b, attacked)
        self.optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer_d.step()
        real_right, fake_right = (real_b > 0).float().mean(), (fake_b < 0).float().mean()
        won = torch.minimum(real_right, fake_right) > options.guards.accuracy
        self.streak = torch.where(won, self.streak + 1, 0)
        self._add(
            loss=loss,
            real_accuracy=real_right,
            fake_accuracy=fake_right,
            logit_size=(real_b.abs().mean() + fake_b.abs().mean()) / 2,
            **terms,
        )

    def _set_rates(self) -> None:
        options = self.options
        factor = rate_factor(options.schedule, self.step, self.joint_steps)
        dropped = self.step > 0 and factor < rate_factor(options.schedule, self.step - 1, self.joint_steps)
        if options.reset_optimizer and options.schedule == "halve" and dropped:
            self.optimizer_d = self._adam(self.network, options.lr_d)
            self.optimizer_g = self._adam(self.generator, options.lr_g)
        for optimizer, rate in ((self.optimizer_d, options.lr_d), (self.optimizer_g, options.lr_g)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def epsilon(self) -> float:
        """Return the attack's radius at the current step of the joint phase."""
        attack = self.options.attack
        return attack.epsilon * ramp_up(self.step, self.joint_steps, attack.warmup)

    def attack_both(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return images (n, c, h, w) attacked against both heads at the current radius."""
        options = self.options
        weigh = weights(options.loss, options.fake_cls_in_d, options.w_c)

        def objective(x: Tensor) -> Tensor:
            return attack_objective(*self.network.both(x), labels, options.loss, weigh)

        return self._ascend(objective, images, self.epsilon())

    def attack_class(self, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        """Return images (n, c, h, w) attacked against the class head alone."""
        return self._ascend(lambda x: class_term(self.network(x), labels), images, epsilon)

    def _ascend(self, objective: Any, images: Tensor, epsilon: float) -> Tensor:
        attack = self.options.attack
        # the weights stand still during an attack: their norms are estimated once, not at every step
        with attack_mode(self.network), parametrize.cached():
            return ascend(
                objective,
                images,
                epsilon,
                attack.steps,
                step_scale=attack.step_scale,
                generator=self.streams.get("attack"),
                random_start=attack.random_start,
            )

    def _generator_step(self, count: int) -> None:
        options = self.options
        ramp = ramp_up(self.step, self.joint_steps, options.w_g_ramp)
        weigh = weights(options.loss, options.fake_cls_in_d, options.w_c, options.w_g * ramp)
        self.generator.train()
        # batch statistics if D has batch norm: in eval mode G would chase old ones
        with attack_mode(self.network, "train" if options.d_norm == "batch" else "eval"):
            fakes, wanted = self._fakes(self.generator, count)
            loss = generator_loss(*self.network.both(fakes), wanted, options.loss, weigh)
            self.optimizer_g.zero_grad(set_to_none=True)
            loss.backward()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self.generator.parameters() if p.grad is not None]
        )
        self.optimizer_g.step()
        self._update_average()
        self._add(loss_g=loss, gradient_norm=norm)

    def _fakes(self, generator: Generator, count: int) -> tuple[Tensor, Tensor]:
        """Return (images, classes asked for), uniform over the classes."""
        stream = self.streams.get("latent")
        z, wanted = generator.latents(count, stream), generator.classes(count, stream)
        return generator(z, wanted), wanted

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        steps = self.step // self.options.n_dis + 1
        decay = min(self.options.ema, (1 + steps) / (10 + steps))  # forgets the first weights early
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - decay)
        for mine, live in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            mine.copy_(live)

    def _classify_step(self, images: Tensor, labels: Tensor) -> None:
        """PGD adversarial training of the class head: what is left without a generator."""
        attacked = self.attack_class(images, labels, self.epsilon())
        self.network.train()
        loss = class_term(self.network(attacked), labels).mean()
        self.optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer_d.step()
        self._add(loss=loss, ce_real=loss)

    # -- second phase --------------------------------------------------------------------------------------

    def _finetune_step(self, images: Tensor, labels: Tensor) -> None:
        options, ft = self.options, self.options.ft
        step = self.step - self.joint_steps
        factor = rate_factor(ft.schedule, step, self.ft_steps)
        dropped = step > 0 and factor < rate_factor(ft.schedule, step - 1, self.ft_steps)
        if self.optimizer_ft is None or (ft.schedule == "stages" and dropped):
            self.optimizer_ft = self._finetune_optimizer()
        for group in self.optimizer_ft.param_groups:
            group["lr"] = ft.lr * factor
        count, epsilon = len(images), options.attack.epsilon
        everything, classes = images, labels
        if ft.lambda_f:
            with torch.no_grad():
                fakes, wanted = self._fakes(self.sampler(), count)
            everything, classes = torch.cat([images, fakes]), torch.cat([labels, wanted])
        attacked = self.attack_class(everything, classes, epsilon)
        self.network.train(not ft.frozen_bn)
        logits = self.network(attacked)
        loss, terms = finetune_loss(logits[:count], labels, logits[count:], classes[count:], ft.lambda_f)
        self.optimizer_ft.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer_ft.step()
        self._add(loss=loss, **terms)

    def _finetune_optimizer(self) -> torch.optim.Optimizer:
        ft = self.options.ft
        parameters = self.network.classifier.parameters()
        return torch.optim.Adam(parameters, lr=ft.lr, betas=(ft.beta1, 0.999), foreach=True)

    # -- inspection ----------------------------------------------------------------------------------------

    def sampler(self) -> Generator:
        """Return the generator to sample from, in eval mode: the weight average where there is one."""
        return (self.generator if self.average is None else self.average).eval()

    def sample(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (images (n, c, h, w) in [0, 1], classes (n,)) of `sampler` from a random generator."""
        return draw(self.sampler(), count, stream)

    def _inspect(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Look at the generator after a joint epoch: sample grid, guards, at the end of the phase the judge."""
        self.samples = self.inspector.grid(self.sampler(), epoch)
        fakes, _ = self.sample(GUARD_N, self.streams.fresh("guards", epoch))
        signs = self.inspector.signs(fakes, means, int(self.streak))
        reason = gan_quality.collapse(signs, self.options.guards)
        past = epoch + 1 > self.options.guards.grace * self.joint_epochs
        if reason and past and self.options.guards.enabled:
            raise TrainingFailed(f"collapsed: {reason} (epoch {epoch + 1})")
        values = {
            "pixel_std": signs.pixel_std,
            "diversity": signs.diversity,
            "won_steps": float(signs.won_steps),
            "collapsed": float(bool(reason)),
            "epsilon": self.epsilon(),
        }
        if epoch + 1 == self.joint_epochs and self.options.judged:
            values |= self.inspector.judged(self.sampler(), self.options)
        return values

    # -- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "discriminator": self.network.state_dict(),
            "generator": self.generator.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_ft": None if self.optimizer_ft is None else self.optimizer_ft.state_dict(),
            "step": self.step,
            "streak": self.streak,
            "passes": self.passes,
        }

    def _load_networks(self, state: StateDict) -> None:
        self.network.load_state_dict(state["discriminator"])
        self.generator.load_state_dict(state["generator"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def load_state_dict(self, state: StateDict) -> None:
        self._load_networks(state)
        self.optimizer_d.load_state_dict(state["optimizer_d"])
        self.optimizer_g.load_state_dict(state["optimizer_g"])
        self.optimizer_ft = None
        if state["optimizer_ft"] is not None:
            self.optimizer_ft = self._finetune_optimizer()
            self.optimizer_ft.load_state_dict(state["optimizer_ft"])
        self.step = state["step"]
        self.streak = state["streak"].to(self.device)
        self.passes = state["passes"]

    @classmethod
    def build_classifier(cls, options: Any, info: DatasetInfo) -> nn.Module:
        return build_class_head(*_head_settings(options, info))

    def classifier(self) -> nn.Module:
        """Return a copy of the class head with plain weights, as `build_classifier` builds it."""
        return self.network.class_head()


def _joint_phase(options: Any, context: Context) -> dict[str, Any]:
    """Train a joint phase alone; return its networks as `RobGAN.state_dict` has them, and its last epoch's "means"."""
    method = RobGAN(options, context)
    means: dict[str, float] = {}
    for epoch in range(options.epochs):
        means = method.train_epoch(epoch)
    state = method.state_dict()
    return {**{name: state[name] for name in ("discriminator", "generator", "average")}, "means": means}


def _head_settings(
    options: RobGANOptions, info: DatasetInfo
) -> tuple[int, tuple[int, int, int], int, str, str]:
    return info.num_classes, info.shape, options.ndf, options.pool, options.d_norm
