"""Energy fine-tuning: push inlier energies below one margin and outlier energies above another."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.base.errors import InputError
from trainables.data.loading.device_loader import to_unit
from trainables.evaluation.detectors.cores import stages
from trainables.functional.attacks import attack_mode
from trainables.functional.greg import choose_outliers, gradient_penalty
from trainables.functional.losses import energy, full_precision
from trainables.methods.standard import TRAINING_PASSES, initial_network
from trainables.networks import Classifier
from trainables.networks.torchvision_nets import MobileNetV3
from trainables.options.energy import EnergyOptions, MarginOptions
from trainables.training.classifier_method import ClassifierMethod
from trainables.training.method import Context, StateDict, Trainer

#: Forward, backward to the inputs, and backward through both.
PENALTY_PASSES = 6.0
#: Medians of the pretrained energies are taken over at most so many images.
MEDIAN_N = 4096
POOL_BATCH = 512


class Energy(ClassifierMethod):
    """Cross-entropy plus two squared hinges on the energy, from the pretrained classifier.

    L = CE + lam [mean relu(E_in - m_in)^2 + v mean relu(m_out - E_out)^2] + greg.weight P, with v =
    `outliers.weight` (1 in the paper) and P of `greg.gradient_penalty`.

    Attributes:
        margins: (m_in, m_out).

    Source:
        Liu et al. 2020, Energy-based Out-of-distribution Detection, equations 8 and 9; GReg (2024) for P. What
        differs from their code: outliers are reshuffled every round, and the margins may be derived from the
        pretrained energies instead of being given.
    """

    options: EnergyOptions

    def __init__(self, options: EnergyOptions, context: Context) -> None:
        super().__init__(options, context)
        fast = options.compile or options.precision == "bf16"
        if fast and options.greg.weight and options.greg.mode == "upstream":
            raise InputError(
                "greg.mode=upstream differentiates the training pass twice, which precision=bf16 would round and "
                "compile=true cannot; use greg.mode=clean, or leave them out"
            )
        self.network = initial_network(options, context)
        self.network.load_state_dict(context.pretrained())
        self.trained = trained_part(self.network, options.energy.trainable)
        self.network.requires_grad_(False)
        for module in self.trained:
            module.requires_grad_(True)
        self.loader = self.training_loader()
        self.outliers = self.outlier_loader()
        self.outlier_count = max(1, round(options.outliers.ratio * self.loader.batch_size))
        self._check_pool()
        self.margins = self._margins(options.energy)
        self.trainer = Trainer(self.network, options, len(self.loader))

    def _check_pool(self) -> None:
        greg = self.options.greg
        pool = greg.pool_factor * self.outlier_count
        if (
            greg.sampler != "random"
            and round(greg.rank_end * pool) - round(greg.rank_start * pool) < self.outlier_count
        ):
            raise InputError(
                f"greg.pool_factor={greg.pool_factor} within the ranks {greg.rank_start:g} to {greg.rank_end:g} leaves "
                f"fewer candidates than the {self.outlier_count} outliers of a step; raise greg.pool_factor"
            )

    def _margins(self, options: MarginOptions) -> tuple[float, float]:
        if options.margins == "fixed":
            return checked_margins(options.m_in, options.gap)
        medians = [self._median_energy(images) for images in (self.loader.images, self.outliers.images)]
        return auto_margins(medians[0], medians[1], options.m_in_offset, options.gap_factor)

    def _median_energy(self, pool: Any) -> float:
        rows = torch.arange(0, len(pool), -(-len(pool) // MEDIAN_N), device=self.device)
        images: Tensor = pool[rows]
        with torch.no_grad(), attack_mode(self.network):
            parts = [energy(self.network(to_unit(part))) for part in images.split(POOL_BATCH)]
        return float(torch.cat(parts).median())

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return {"loss", "ce", "hinge_in", "hinge_out", "m_in", "m_out"}, and "gradient"."""
        self._train_mode()
        (m_in, m_out), options = self.margins, self.options
        for images, labels in self.loader:
            outliers = self._next_outliers()
            # one forward of both, so that batch norm sees both
            logits = self.network(torch.cat([images, outliers]))
            loss, ce, hinge_in, hinge_out = energy_loss(
                logits[: len(images)],
                labels,
                logits[len(images) :],
                m_in,
                m_out,
                options.energy.lam,
                options.outliers.weight,
                self.class_weights,
            )
            terms = {"ce": ce, "hinge_in": hinge_in, "hinge_out": hinge_out}
            if options.greg.weight:
                terms["gradient"] = gradient_penalty(
                    self.network, images, outliers, m_in, m_out, mode=options.greg.mode
                )
                loss = loss + options.greg.weight * terms["gradient"]
            self.trainer.step(loss, **terms)
        return self.end_epoch(epoch)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        self.passes += self.passes_per_inlier()
        return {**self.trainer.epoch_means(), "m_in": self.margins[0], "m_out": self.margins[1]}

    def _train_mode(self) -> None:
        """Put only what is trained into training mode: frozen batch norm keeps its statistics."""
        self.network.eval()
        for module in self.trained:
            module.train()

    def _next_outliers(self) -> Tensor:
        """Return the outliers of one step, (count, c, h, w) in [0, 1]."""
        greg = self.options.greg
        if greg.sampler == "random":
            return self.outliers.next(self.outlier_count)
        pool = self.outliers.next(greg.pool_factor * self.outlier_count)
        with torch.no_grad(), attack_mode(self.network):
            features = torch.cat([self.network.features(part) for part in pool.split(POOL_BATCH)])
            energies = energy(self.network.head(features))
        chosen = choose_outliers(
            features,
            energies,
            self.outlier_count,
            self.streams.get("greg"),
            clusters=greg.clusters,
            two_way=greg.sampler == "cluster2way",
            rank_start=greg.rank_start,
            rank_end=greg.rank_end,
        )
        return pool[chosen]

    def passes_per_inlier(self) -> float:
        """Return what one epoch costs per inlier; a trained last stage is counted as the whole network."""
        greg = self.options.greg
        ratio = self.outlier_count / self.loader.batch_size
        per_image = 1.0 if self.options.energy.trainable == "head" else TRAINING_PASSES
        if greg.weight:
            per_image += PENALTY_PASSES
        pool = 0.0 if greg.sampler == "random" else greg.pool_factor * ratio
        return per_image * (1 + ratio) + pool

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "outliers": self.outliers.state_dict(),
            "margins": list(self.margins),
        }

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self.outliers.load_state_dict(state["outliers"])
        self.margins = (state["margins"][0], state["margins"][1])


def energy_loss(
    logits_in: Tensor,
    labels: Tensor,
    logits_out: Tensor,
    m_in: float,
    m_out: float,
    lam: float,
    weight: float,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the energy fine-tuning loss and its terms: CE + lam (hinge_in + weight hinge_out).

    Args:
        logits_in: (n, classes) of inliers, labels: (n,), logits_out: (m, classes) of outliers.
        m_in, m_out: margins in logits, m_in < m_out.
        lam: weight of both energy terms.
        weight: of the outliers' hinge among them.
        class_weights: (classes,) of the cross-entropy, whose mean is then the weighted one.

    Returns:
        Scalars (loss, CE, hinge_in, hinge_out); see `energy_hinges`.

    Source:
        Liu et al. 2020, equations 8 and 9.

    Example:
        Two classes, one inlier (ln 3, 0) of class 0 and one outlier (0, 0): CE = ln(4/3), energies -ln 4 and -ln 2.
        With m_in -2 ln 4, m_out 0, lam 0.5, weight 2: L = ln(4/3) + 0.5 [(ln 4)^2 + 2 (ln 2)^2].
    """
    ce = F.cross_entropy(full_precision(logits_in), labels, class_weights)
    hinge_in, hinge_out = energy_hinges(energy(logits_in), energy(logits_out), m_in, m_out)
    return ce + lam * (hinge_in + weight * hinge_out), ce, hinge_in, hinge_out


def energy_hinges(
    energies_in: Tensor, energies_out: Tensor, m_in: float, m_out: float
) -> tuple[Tensor, Tensor]:
    """Return the squared hinges of both sides, each averaged over its own images.

    Args:
        energies_in: (n,) of inliers, energies_out: (m,) of outliers.
        m_in, m_out: margins in logits, m_in < m_out.

    Returns:
        Scalars mean relu(E_in - m_in)^2 and mean relu(m_out - E_out)^2; both 0 once every image is past its margin.

    Source:
        Liu et al. 2020, equation 9.

    Example:
        m_in -3, m_out -1: inliers -4, -1 give (0 + 2^2) / 2 = 2 and outliers -2, 0 give (1 + 0) / 2 = 0.5.
    """
    return F.relu(energies_in - m_in).square().mean(), F.relu(m_out - energies_out).square().mean()


def auto_margins(median_in: float, median_out: float, offset: float, factor: float) -> tuple[float, float]:
    """Return (m_in, m_out) relative to the energies of the pretrained network.

    m_in = median_in - offset and m_out = m_in + factor max(1, median_out - median_in), at most 0. Margins given
    in logits do not carry over: energies scale with the network, the data and the length of the training.

    Args:
        median_in, median_out: median energies of training images and of outliers.
        offset: in logits.
        factor: above 0.

    Raises:
        InputError: m_in is not negative.

    Source:
        The rule of thumb to start m_in at or below the inliers' and m_out at or above the outliers' median; ours.

    Example:
        Medians -12 and -8, offset 2, factor 2: (-14, -6).
    """
    return checked_margins(median_in - offset, factor * max(1.0, median_out - median_in))


def checked_margins(m_in: float, gap: float) -> tuple[float, float]:
    """Return (m_in, min(0, m_in + gap)).

    Raises:
        InputError: m_in is not negative, or not finite.
    """
    if not m_in < 0:
        raise InputError(f"the inlier margin is {m_in:g}; it must be negative (raise energy.m_in_offset)")
    return m_in, min(0.0, m_in + gap)


def trained_part(network: Classifier, which: str) -> list[nn.Module]:
    """Return the modules to train: "all", "last_stage" (and the head), or "head".

    The head is everything behind the pooled features: of MobileNetV3 both linear layers, else the last one.
    """
    if which == "all":
        return [network]
    head: list[nn.Module] = [network.head]
    if isinstance(network.body, MobileNetV3):
        head += list(network.body.layers.classifier)
    return head if which == "head" else [*stages(network.body)[-1], *head]
