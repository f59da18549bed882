"""What is measured, as data: readable without torch, stored in `plan.json`, hashed for reuse."""

from dataclasses import dataclass

GROUPS = ("clean", "ood", "robust", "robust_ood", "corrupted")


@dataclass(frozen=True)
class Protocol:
    """One way to measure a classifier.

    Attributes:
        score: the outlier score behind `auroc/<set>` and the like; every score of `scores` is reported
            beside it as `<score>/auroc/near` and so on.
        groups: which metrics: clean accuracy, OOD detection, accuracy under attack, OOD detection under
            attack, accuracy on corruptions.
        robust_epsilons: Linf radii of the attack on the accuracy, [0, 1] pixel units.
        ood_epsilons: Linf radii of the attack on the outlier score of the OOD images.
        steps: PGD steps of both; step length 2.5 epsilon / steps, random start.
        restarts: the worst of so many random starts counts.
        margin: attack the accuracy with the margin loss too; the worst of both counts.
        max_images: at most so many images of each set, the first ones; 0 = all.
    """

    name: str
    score: str = "msp"
    scores: tuple[str, ...] = ("msp", "energy")
    groups: tuple[str, ...] = GROUPS
    robust_epsilons: tuple[float, ...] = (0.15, 0.2)
    ood_epsilons: tuple[float, ...] = (0.1,)
    steps: int = 20
    restarts: int = 1
    margin: bool = True
    max_images: int = 0


def epsilon_name(epsilon: float) -> str:
    """Return an epsilon as metric names write it: 0.1, 0.15, 0.0314."""
    return f"{epsilon:.4g}"
