"""Adversarial outlier exposure (AOE): outlier exposure on outliers that are attacked to look like inliers."""

from torch import Tensor

from trainables.functional.attacks import epsilon_at, perturb_inliers, perturb_outliers
from trainables.methods.outlier_exposure import OE
from trainables.options.attacks import PASSES_PER_STEP
from trainables.options.classifiers import AOEOptions


class AOE(OE):
    """Outlier exposure with attacked outliers and, if asked, attacked inliers.

    Source:
        The AOE code (synthetic outliers, attack EBA: one step down the energy, pytorch-ood's outlier-exposure
        loss). Its `attack_bn=train`, `outlier_norm=raw01`, `outlier_clamp=false`, `oe_reduction=joint_mean`,
        `shared_noise` and `outliers.augment=false` are options; the default attack iterates EBA with
        projection, in eval mode.
    """

    options: AOEOptions

    def perturb(self, images: Tensor, labels: Tensor, outliers: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return attacked inliers and outliers; inliers are in [0, 1], outliers too unless `outlier_clamp` is false."""
        options = self.options
        network = self.attacked(self.network, options.attack_bn)
        images = perturb_inliers(
            network,
            images,
            labels,
            options.inlier_attack,
            self.streams.get("inlier_attack"),
            mode=options.attack_bn,
        )
        raw = options.outlier_norm == "raw01"  # then epsilon is a distance at the body's input
        outliers = perturb_outliers(
            network.body if raw else network,
            network.normalize(images) if raw else images,
            labels,
            outliers,
            options.attack,
            self.streams.get("attack"),
            oe_weight=options.outliers.weight,
            epsilon=epsilon_at(options.attack, epoch, options.epochs),
            shared_noise=options.shared_noise,
            mode=options.attack_bn,
            clamp=options.outlier_clamp,
        )
        return images, outliers

    def passes_per_inlier(self) -> float:
        """Return what one epoch costs per inlier; in train mode the loss attacks forward the inliers too."""
        attack = self.options.attack
        attacked = self.outlier_ratio()
        if self.options.attack_bn == "train" and attack.spec.joint_loss:
            attacked += 1
        steps = attacked * attack.gradient_steps + self.options.inlier_attack.gradient_steps
        return super().passes_per_inlier() + PASSES_PER_STEP * steps
