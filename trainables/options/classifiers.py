"""Options of standard training, outlier exposure and adversarial outlier exposure."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.attacks import INLIER_ATTACKS, AttackSpec
from trainables.options.common import (
    MANY_STEPS,
    AttackOptions,
    OutlierOptions,
    PretrainOptions,
    TrainingOptions,
)


@dataclass(frozen=True)
class StandardOptions(TrainingOptions):
    """Cross-entropy alone."""

    from_pretrained: bool = option(False, "start from the pretrained classifier (a CE-only continuation)")
    pretrain: PretrainOptions = group(PretrainOptions)


@dataclass(frozen=True)
class PretrainedOptions(TrainingOptions):
    """The pretrained classifier as it is, without any training."""

    pretrain: PretrainOptions = group(PretrainOptions)


@dataclass(frozen=True)
class InlierAttackOptions:
    """An attack on the inliers, independent of the one on the outliers."""

    name: str = option(
        "none",
        "ce ascends the cross-entropy, energy the free energy",
        choices=INLIER_ATTACKS,
        cost=lambda name: INLIER_ATTACKS[name].passes(MANY_STEPS),
    )
    epsilon: float = option(0.03, "radius in [0, 1] pixel units", low=0.0, high=1.0, radius=True)
    steps: int = option(10, "gradient steps", low=1, high=1000)
    step_scale: float = option(2.5, "step length = step_scale * epsilon / steps", low=0.0)

    @property
    def spec(self) -> AttackSpec:
        return INLIER_ATTACKS[self.name]

    @property
    def gradient_steps(self) -> int:
        """Return how many gradient steps the attack takes per inlier."""
        return self.spec.gradient_steps(self.steps) if self.epsilon else 0


@dataclass(frozen=True)
class OEOptions(TrainingOptions):
    """Outlier exposure, from the pretrained classifier."""

    lr: float = option(1e-3, "largest learning rate of the schedule", low=0.0)
    schedule: str = option("cosine", "per step", choices=("one_cycle", "cosine", "step", "constant"))
    epochs: int = option(9, "length of the training schedule; early stopping may end sooner", low=1)
    outliers: OutlierOptions = group(OutlierOptions)
    pretrain: PretrainOptions = group(PretrainOptions)
    oe_reduction: str = option(
        "separate_means",
        "separate_means averages each half alone (the OE paper); joint_mean divides by the whole batch (AOE's code)",
        choices=("separate_means", "joint_mean"),
    )
    outlier_norm: str = option(
        "match",
        "match normalises inliers and outliers alike; raw01 leaves outliers unnormalised (AOE's code, a confound)",
        choices=("match", "raw01"),
    )


@dataclass(frozen=True)
class AOEOptions(OEOptions):
    """Adversarial outlier exposure: the outliers (and, if asked, the inliers) are attacked first."""

    attack: AttackOptions = group(AttackOptions, name="eba_pgd")
    inlier_attack: InlierAttackOptions = group(InlierAttackOptions)
    attack_bn: str = option(
        "eval",
        "eval attacks the network in eval mode; train uses batch statistics and dropout (AOE's code)",
        choices=("eval", "train"),
    )
    shared_noise: bool = option(False, "gauss draws one noise tensor for the whole batch (AOE's code)")
    outlier_clamp: bool = option(
        True, "keep attacked outliers in [0, 1]; false confines random starts alone (AOE's code)"
    )
