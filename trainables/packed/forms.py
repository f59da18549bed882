"""The training step of each method on stacks. The formulas are the methods' own, mapped over the replicas."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.functional.attacks import ITERATIVE, ONE_STEP, add_noise, epsilon_at
from trainables.functional.losses import energy, full_precision, outlier_exposure, uniformity
from trainables.methods.adversarial import MART, PGDAT, TRADES, mart_loss, trades_loss
from trainables.methods.aoe import AOE
from trainables.methods.energy import Energy, energy_loss
from trainables.methods.outlier_exposure import OE
from trainables.methods.standard import Standard
from trainables.packed.attack import Ascent, StackedAscent, StackedObjective
from trainables.packed.loader import StackedLoader
from trainables.packed.network import StackedNetwork
from trainables.training.method import Method

Loss = tuple[Tensor, dict[str, Tensor]]  # (K,) and its terms, (K,) each


def each_row(function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """Apply a function of (n, classes) logits with (n,) values to (k, n, classes); returns (k, n)."""
    return function(logits.flatten(0, 1)).view(logits.shape[:2])


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (k, n) cross-entropies of (k, n, classes) logits and (at least k, n) labels."""
    flat = labels[: len(logits)].flatten()
    return each_row(lambda z: F.cross_entropy(full_precision(z), flat, reduction="none"), logits)


def column(values: Sequence[float], like: Tensor) -> Any:
    """Return (K,) numbers, one for each replica; mapped over, each is the plain number that a formula takes."""
    return torch.tensor(values, dtype=torch.float64).to(like)


class Form:
    """One epoch of the packed training of one method.

    Args:
        methods: of one class and equal `pack_key`, which stay what they are until the epoch's end.
        network: their weights.
        epoch_of: how many epochs are behind each.
    """

    def __init__(self, methods: Sequence[Any], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        self.methods, self.network, self.epoch_of = tuple(methods), network, tuple(epoch_of)
        self.options = [method.options for method in methods]
        self.loader = StackedLoader([method.loader for method in methods])
        self.weights = next(iter(network.parameters.values()))
        for method in methods:
            # streams that were restored after the method was built hand out other generators
            method.loader.generator = method.streams.get("shuffle")

    @staticmethod
    def attack_steps(options: Any) -> int:
        """Return by what the replicas are to be sorted, largest first."""
        return 0

    def losses(self) -> Iterator[Loss]:
        """Yield the losses of the epoch's batches; a step is taken before the next is asked for."""
        for images, labels in self.loader:
            yield self.loss(images, labels)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        """Return the replicas' losses on (K, n, c, h, w) images and (K, n) labels."""
        raise NotImplementedError


class StandardForm(Form):
    """Cross-entropy."""

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        return cross_entropies(self.network.train(images), labels).mean(1), {}


class PGDATForm(Form):
    """Cross-entropy on attacked images."""

    def __init__(self, methods: Sequence[PGDAT], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.attack = StackedAscent(
            [
                Ascent(o.epsilon * o.widen, o.steps, o.step_scale, method.streams.get("attack"))
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
        return lambda x: cross_entropies(self.network.eval(x), labels)

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        attacked = self.attack(self.objective(images, labels), images)
        return self.loss_on(images, attacked, labels)

    def loss_on(self, images: Tensor, attacked: Tensor, labels: Tensor) -> Loss:
        """Return the losses on clean and attacked images."""
        return cross_entropies(self.network.train(attacked), labels).mean(1), {}


class TRADESForm(PGDATForm):
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


class MARTForm(PGDATForm):
    """Boosted cross-entropy plus the divergence weighted by doubt."""

    def loss_on(self, images: Tensor, attacked: Tensor, labels: Tensor) -> Loss:
        beta = column([o.beta for o in self.options], self.weights)
        clean, moved = self.network.train(images), self.network.train(attacked)
        loss, bce, kl = torch.vmap(mart_loss)(clean, moved, labels, beta)
        return loss, {"bce": bce, "divergence": kl}


class OEForm(Form):
    """Cross-entropy on inliers plus uniformity on outliers."""

    def __init__(self, methods: Sequence[OE], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.raw = self.options[0].outlier_norm == "raw01"
        self.weight = column([o.outliers.weight for o in self.options], self.weights)
        for method in methods:
            method.outliers.generator = method.streams.get("outliers")

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


class AOEForm(OEForm):
    """Outlier exposure on attacked outliers and, if asked, attacked inliers."""

    def __init__(self, methods: Sequence[AOE], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        self.name, self.inlier_name = self.options[0].attack.name, self.options[0].inlier_attack.name
        self.radii = [
            epsilon_at(o.attack, epoch, o.epochs) for o, epoch in zip(self.options, epoch_of, strict=True)
        ]
        device = methods[0].device
        self.attack = StackedAscent(
            [self._ascent(m, radius) for m, radius in zip(methods, self.radii, strict=True)], device
        )
        self.inlier_attack = StackedAscent(
            [
                Ascent(o.epsilon, o.steps, o.step_scale, m.streams.get("inlier_attack"))
                for m in methods
                for o in [m.options.inlier_attack]
            ],
            device,
        )

    def _ascent(self, method: AOE, radius: float) -> Ascent:
        o, generator = method.options.attack, method.streams.get("attack")
        if self.name in ONE_STEP:
            return Ascent(radius, 1, 1.0, None)
        momentum = o.momentum if self.name == "mifgsm" else None
        return Ascent(radius, o.steps, o.step_scale, generator, momentum)

    @staticmethod
    def attack_steps(options: Any) -> int:
        return int(options.attack.steps) if options.attack.name in ITERATIVE else 0

    def perturb(self, images: Tensor, labels: Tensor, outliers: Tensor) -> tuple[Tensor, Tensor]:
        if self.inlier_name != "none":
            images = self.inlier_attack(self._inlier_objective(labels), images)
        if self.name in ("gauss", "signnoise"):
            pairs = zip(outliers, self.methods, self.radii, strict=True)
            shared = self.options[0].shared_noise
            outliers = torch.stack(
                [add_noise(x, self.name, radius, m.streams.get("attack"), shared) for x, m, radius in pairs]
            )
        elif self.name in (*ONE_STEP, *ITERATIVE):
            outliers = self.attack(self._outlier_objective(), outliers)
        return images, outliers

    def _inlier_objective(self, labels: Tensor) -> StackedObjective:
        if self.inlier_name == "ce":
            return lambda x: cross_entropies(self.network.eval(x), labels)
        return lambda x: each_row(energy, self.network.eval(x))

    def _outlier_objective(self) -> StackedObjective:
        normalize = not self.raw  # raw: epsilon is a distance at the body's input
        if self.name.startswith("eba"):
            return lambda x: -each_row(energy, self.network.eval(x, normalize))
        return lambda x: each_row(uniformity, self.network.eval(x, normalize))


class EnergyForm(Form):
    """Cross-entropy plus the hinges on both sides' energies."""

    def __init__(self, methods: Sequence[Energy], network: StackedNetwork, epoch_of: Sequence[int]) -> None:
        super().__init__(methods, network, epoch_of)
        margins = zip(*(method.margins for method in methods), strict=True)
        self.m_in, self.m_out = (column(side, self.weights) for side in margins)
        self.lam = column([o.energy.lam for o in self.options], self.weights)
        self.weight = column([o.outliers.weight for o in self.options], self.weights)
        for method in methods:
            method.outliers.generator = method.streams.get("outliers")

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        outliers = torch.stack([m.outliers.next(m.outlier_count) for m in self.methods])
        count = images.shape[1]
        logits = self.network.train(torch.cat([images, outliers], dim=1))
        loss, ce, hinge_in, hinge_out = torch.vmap(energy_loss)(
            logits[:, :count], labels, logits[:, count:], self.m_in, self.m_out, self.lam, self.weight
        )
        return loss, {"ce": ce, "hinge_in": hinge_in, "hinge_out": hinge_out}


FORMS: dict[type[Method], type[Form]] = {
    Standard: StandardForm,
    PGDAT: PGDATForm,
    TRADES: TRADESForm,
    MART: MARTForm,
    OE: OEForm,
    AOE: AOEForm,
    Energy: EnergyForm,
}

__all__ = ["FORMS", "Form"]
