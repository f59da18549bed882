"""The packed training step of each method: the method's own formulas, mapped over the stacked replicas."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.base.errors import InputError
from trainables.functional.attacks import add_noise, cross_entropies, epsilon_at
from trainables.functional.losses import full_precision, outlier_exposure
from trainables.methods.adversarial import PGDAT, mart_loss, trades_loss
from trainables.methods.aoe import AOE
from trainables.methods.energy import Energy, energy_loss
from trainables.methods.outlier_exposure import OE
from trainables.options.classifiers import InlierAttackOptions
from trainables.options.common import AttackOptions
from trainables.packed.attack import AscentSettings, StackedAscent, StackedObjective
from trainables.packed.loader import StackedLoader
from trainables.packed.network import StackedNetwork

Loss = tuple[Tensor, dict[str, Tensor]]  # (K,) and its terms, (K,) each


def each_row(function: Callable[..., Tensor], logits: Tensor, *labels: Tensor) -> Tensor:
    """Apply a function of (n, classes) logits and, if given, (n,) labels, with (n,) values, to (k, n, classes)."""
    return function(logits.flatten(0, 1), *(column.flatten() for column in labels)).view(logits.shape[:2])


def cross_entropies_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (k, n) cross-entropies of (k, n, classes) logits and the first k of (K, n) labels."""
    return each_row(cross_entropies, logits, labels[: len(logits)])


def column(values: Sequence[float], like: Tensor) -> Any:
    """Return (K,) numbers, one per replica; under `torch.vmap` a formula sees its replica's number."""
    return torch.tensor(values, dtype=torch.float64).to(like)


class PackedStep:
    """One epoch of the packed training of one method.

    Args:
        methods: of one class and equal `pack_key`, which stay unchanged until the epoch's end.
        network: their weights.
        epoch_of: how many epochs are behind each.
    """

    def __init__(self, methods: Sequence[Any], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        self.methods, self.network, self.epoch_of = tuple(methods), network, tuple(epoch_of)
        self.options = [method.options for method in methods]
        self.loader = StackedLoader([method.loader for method in methods])
        self.weights = next(iter(network.parameters.values()))

    @staticmethod
    def attack_steps(options: Any) -> int:
        """Return the number of attack steps, by which replicas are sorted, most first."""
        return 0

    def losses(self) -> Iterator[Loss]:
        """Yield the losses of the epoch's batches; a step is taken before the next is asked for."""
        for images, labels in self.loader:
            yield self.loss(images, labels)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the replicas' losses on (K, n, c, h, w) images and (K, n) labels."""
        raise NotImplementedError


class StandardStep(PackedStep):
    """Cross-entropy."""

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        return cross_entropies_of(self.network.train(images), labels).mean(1), {}


class PGDATStep(PackedStep):
    """Cross-entropy on attacked images."""

    def __init__(self, methods: Sequence[PGDAT], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.attack = StackedAscent(
            [
                AscentSettings(o.epsilon * o.widen, o.steps, o.step_scale, method.streams.get("attack"))
                for method in methods
                for o in [method.options.attack]
            ],
            methods[0].device,
        )

    @staticmethod
    def attack_steps(options: Any) -> int:
        return int(options.attack.steps) if options.attack.epsilon * options.attack.widen else 0

    def objective(self, images: Tensor, labels: Tensor) -> StackedObjective:
        """Return what the attack ascends."""
        return lambda x: cross_entropies_of(self.network.eval(x), labels)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        attacked = self.attack(self.objective(images, labels), images)
        return self.loss_on(images, attacked, labels)

    def loss_on(self, images: Tensor, attacked: Tensor, labels: Tensor) -> Loss:
        """Return the losses on clean and attacked images."""
        return cross_entropies_of(self.network.train(attacked), labels).mean(1), {}


class TRADESStep(PGDATStep):
    """Clean cross-entropy plus the divergence from clean to attacked predictions."""

    def objective(self, images: Tensor, labels: Tensor) -> StackedObjective:
        with torch.no_grad():
            p = full_precision(self.network.eval(images)).log_softmax(2).exp()
        return lambda x: -(p[: len(x)] * full_precision(self.network.eval(x)).log_softmax(2)).sum(2)

    def loss_on(self, images: Tensor, attacked: Tensor, labels: Tensor) -> Loss:
        beta = column([o.beta for o in self.options], self.weights)
        smoothing = self.options[0].label_smoothing
        loss, ce, kl = torch.vmap(trades_loss, (0, 0, 0, 0, None))(
            self.network.train(images), self.network.train(attacked), labels, beta, smoothing
        )
        return loss, {"ce": ce, "divergence": kl}


class MARTStep(PGDATStep):
    """Boosted cross-entropy plus the divergence weighted by doubt."""

    def loss_on(self, images: Tensor, attacked: Tensor, labels: Tensor) -> Loss:
        beta = column([o.beta for o in self.options], self.weights)
        clean, moved = self.network.train(images), self.network.train(attacked)
        loss, bce, kl = torch.vmap(mart_loss)(clean, moved, labels, beta)
        return loss, {"bce": bce, "divergence": kl}


class OEStep(PackedStep):
    """Cross-entropy on inliers plus uniformity on outliers."""

    def __init__(self, methods: Sequence[OE], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.raw = self.options[0].outlier_norm == "raw01"
        self.weight = column([o.outliers.weight for o in self.options], self.weights)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        outliers = torch.stack([m.outliers.next(m.outlier_count) for m in self.methods])
        images, outliers = self.perturb(images, labels, outliers)
        count = images.shape[1]
        if self.raw:
            images = self.network.normalize(images)
        logits = self.network.train(torch.cat([images, outliers], dim=1), normalize=not self.raw)
        loss, ce, uniform = torch.vmap(outlier_exposure, (0, 0, 0, 0, None))(
            logits[:, :count], labels, logits[:, count:], self.weight, self.options[0].oe_reduction
        )
        return loss, {"ce": ce, "uniformity": uniform}

    def perturb(self, images: Tensor, labels: Tensor, outliers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inliers and outliers to train on."""
        return images, outliers


class AOEStep(OEStep):
    """Outlier exposure on attacked outliers and, if asked, attacked inliers."""

    def __init__(self, methods: Sequence[AOE], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.generators = [method.streams.get("attack") for method in methods]
        self.radii = [
            epsilon_at(o.attack, epoch, o.epochs) for o, epoch in zip(self.options, epoch_of, strict=True)
        ]
        attacks, inlier_attacks = zip(*((o.attack, o.inlier_attack) for o in self.options), strict=True)
        self.spec, self.inlier_spec = attacks[0].spec, inlier_attacks[0].spec
        self.attack = stacked_ascent(attacks, self.radii, self.generators)
        self.inlier_attack = stacked_ascent(
            inlier_attacks,
            [attack.epsilon for attack in inlier_attacks],
            [method.streams.get("inlier_attack") for method in methods],
        )

    @staticmethod
    def attack_steps(options: Any) -> int:
        return int(options.attack.gradient_steps)

    def perturb(self, images: Tensor, labels: Tensor, outliers: Tensor) -> tuple[Tensor, Tensor]:
        if self.inlier_attack is not None:
            inlier_values = self.inlier_spec.load_objective()
            images = self.inlier_attack(
                lambda x: each_row(inlier_values, self.network.eval(x), labels[: len(x)]), images
            )
        if self.attack is not None:
            values = self.spec.load_objective()
            normalize = not self.raw  # raw: epsilon is a distance at the body's input
            outliers = self.attack(lambda x: each_row(values, self.network.eval(x, normalize)), outliers)
        elif self.spec.noise:
            replicas = zip(outliers, self.radii, self.generators, strict=True)
            shared = self.options[0].shared_noise
            outliers = torch.stack([add_noise(x, self.spec, e, stream, shared) for x, e, stream in replicas])
        return images, outliers


def stacked_ascent(
    attacks: Sequence[AttackOptions | InlierAttackOptions],
    radii: Sequence[float],
    generators: Sequence[torch.Generator],
) -> StackedAscent | None:
    """Return the ascent of replicas that all have one attack, as `perturb_outliers` carries it out; None for noise.

    Raises:
        InputError: the attack has no packed form.
    """
    spec = attacks[0].spec
    if spec.packed is None:
        raise InputError(f"attack {spec.name!r} has no packed form")
    if spec.packed != "ascent":
        return None
    settings = [
        AscentSettings(
            radius,
            spec.gradient_steps(attack.steps),
            spec.step_scale(attack.step_scale),
            generator if spec.random_start else None,
            attack.momentum if spec.momentum and isinstance(attack, AttackOptions) else None,
        )
        for attack, radius, generator in zip(attacks, radii, generators, strict=True)
    ]
    return StackedAscent(settings, generators[0].device)


class EnergyStep(PackedStep):
    """Cross-entropy plus the hinges on both sides' energies."""

    def __init__(self, methods: Sequence[Energy], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        margins = zip(*(method.margins for method in methods), strict=True)
        self.m_in, self.m_out = (column(side, self.weights) for side in margins)
        self.lam = column([o.energy.lam for o in self.options], self.weights)
        self.weight = column([o.outliers.weight for o in self.options], self.weights)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        outliers = torch.stack([m.outliers.next(m.outlier_count) for m in self.methods])
        count = images.shape[1]
        logits = self.network.train(torch.cat([images, outliers], dim=1))
        loss, ce, hinge_in, hinge_out = torch.vmap(energy_loss)(
            logits[:, :count], labels, logits[:, count:], self.m_in, self.m_out, self.lam, self.weight
        )
        return loss, {"ce": ce, "hinge_in": hinge_in, "hinge_out": hinge_out}
