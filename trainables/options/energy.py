"""Options of energy fine-tuning, of its gradient regularisation (GReg) and of the post-hoc CORES score."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.common import OutlierOptions, PretrainOptions, TrainingOptions


@dataclass(frozen=True)
class MarginOptions:
    """Where inlier and outlier energies are pushed, how hard, and which weights may move.

    The upper margin is always m_out = m_in + gap, so that no sampler can put it below the lower one; it is
    capped at 0, because energies above that need negative logits throughout.
    """

    margins: str = option(
        "auto",
        "auto derives the margins from the pretrained network's energies, fixed takes m_in and gap",
        choices=("auto", "fixed"),
    )
    m_in_offset: float = option(
        2.0, "auto: m_in lies so far below the inliers' median energy, in logits", low=-20.0, high=40.0
    )
    gap_factor: float = option(
        2.0,
        "auto: gap in units of the distance between the outliers' and inliers' medians",
        low=0.01,
        high=100.0,
    )
    m_in: float = option(-23.0, "fixed: inlier energies above this are penalised", low=-200.0, high=-0.01)
    gap: float = option(18.0, "fixed: outlier energies below m_in + gap are penalised", low=0.01, high=200.0)
    lam: float = option(0.1, "weight of both energy terms; 0 = cross-entropy alone", low=0.0)
    trainable: str = option(
        "all",
        "head freezes the features and their batch norm, last_stage all but the last stage and the head",
        choices=("all", "last_stage", "head"),
        cost={"head": 1, "last_stage": 2, "all": 3}.__getitem__,  # in the order of what is trained
    )


@dataclass(frozen=True)
class GRegOptions:
    """Gradient regularisation: smooth the energy around images that lie on the right side of their margin."""

    weight: float = option(0.0, "weight of the mean input-gradient norms; 0 = off", low=0.0)
    mode: str = option(
        "clean",
        "clean differentiates each image alone in eval mode; upstream uses the training forward and the mean over "
        "the joint batch, which is smaller by the batch's size",
        choices=("clean", "upstream"),
    )
    sampler: str = option(
        "random",
        "cluster takes the lowest-energy outlier of each feature cluster, cluster2way also the highest",
        choices=("random", "cluster", "cluster2way"),
    )
    pool_factor: int = option(10, "cluster: candidates per outlier that is kept", low=1, high=64)
    rank_start: float = option(
        0.0, "cluster: candidates below this energy rank are left out", low=0.0, high=1.0
    )
    rank_end: float = option(1.0, "cluster: and those from this rank on", low=0.0, high=1.0)
    clusters: int = option(
        64, "cluster: at most so many, and never more than outliers are kept", low=1, high=4096
    )


@dataclass(frozen=True)
class EnergyOptions(TrainingOptions):
    """Energy fine-tuning from the pretrained classifier."""

    lr: float = option(1e-3, "largest learning rate of the schedule", low=0.0)
    schedule: str = option("cosine", "per step", choices=("one_cycle", "cosine", "step", "constant"))
    epochs: int = option(5, "length of the training schedule; early stopping may end sooner", low=1)
    # outliers.weight multiplies the outliers' hinge within the energy terms: 1 weighs both sides alike
    outliers: OutlierOptions = group(OutlierOptions, sigma=2.0, weight=1.0, ratio=2.0)
    pretrain: PretrainOptions = group(PretrainOptions)
    energy: MarginOptions = group(MarginOptions)
    greg: GRegOptions = group(GRegOptions)


@dataclass(frozen=True)
class CoresOptions:
    """The CORES score: which channels respond, how strongly and how often; nothing is trained."""

    frac: float = option(0.2, "share of a layer's channels that are looked at", low=0.0, high=1.0)
    quantile: float = option(0.05, "share of noise responses beyond each threshold", low=0.0, high=0.5)
    magnitude: float = option(10.0, "power of the mean response beyond the thresholds (lambda 1)", low=0.0)
    frequency: float = option(1.0, "power of the share of channels beyond them (lambda 2)", low=0.0)
    agg: str = option(
        "mean_log",
        "over layers: mean_log averages log scores, log_mean is the log of the average score",
        choices=("mean_log", "log_mean"),
    )
    noise_n: int = option(256, "noise images of each kind that set the thresholds", low=1)
    floor: float = option(1e-3, "added before each logarithm, in units of the responses", low=1e-12)
