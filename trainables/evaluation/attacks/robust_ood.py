"""OOD detection when OOD images, ID images or both are attacked, and a check with a stronger attack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables.base.own_specs import short_name
from trainables.data.loading.device_loader import to_unit
from trainables.evaluation.attacks.attacked_scores import attacked_scores
from trainables.evaluation.metrics import ood_metrics as ood
from trainables.evaluation.metrics.metrics_per_set import Metrics, ScoresBySet, metrics_per_set
from trainables.evaluation.metrics.protocol import EvaluationProtocol, epsilon_name

RISE = 0.005  #: a stronger attack may raise the AUROC by so much: random starts differ
FALL = 0.02  #: and lower it by so much before the weaker one counts as not converged

#: (keys...) -> a random stream for this purpose alone, on the device
Stream = Callable[..., torch.Generator]


@dataclass(frozen=True)
class UnderAttack:
    """Outlier scores at one radius, without and with attack: {OOD set, or "id": (n,) float64}.

    Attributes:
        attacked: only of the sides that were asked for.
    """

    clean: ScoresBySet
    attacked: ScoresBySet

    def compared(self, side: str) -> ScoresBySet:
        """Return what the metrics of a side compare: ID scores ("id") with those of each OOD set."""
        if side == "ood":
            return {**self.attacked, "id": self.clean["id"]}
        if side == "id":
            return {**self.clean, "id": self.attacked["id"]}
        return dict(self.attacked)

    def for_plots(self) -> ScoresBySet:
        """Return the scores that reports plot: clean ID scores, attacked OOD scores, and "id attacked"."""
        scores = {**self.attacked, "id": self.clean["id"]}
        return scores | ({"id attacked": self.attacked["id"]} if "id" in self.attacked else {})


class ScoreAttacks:
    """The attacks on the outlier scores of one network under one protocol.

    Args:
        images: {"id": test images, OOD set: its images}, arrays or lazy.
        clean: {score: {set: its scores without attack}}.
    """

    def __init__(
        self,
        network: nn.Module,
        protocol: EvaluationProtocol,
        images: Mapping[str, Any],
        clean: Mapping[str, ScoresBySet],
        stream: Stream,
        device: torch.device,
    ) -> None:
        self.network, self.protocol, self.images, self.clean = network, protocol, images, clean
        self.stream, self.device = stream, device

    def under_attack(self, score: str, epsilon: float) -> UnderAttack:
        """Attack the sides that the protocol names; every set has a random stream of its own."""
        sides = set(self.protocol.ood_sides)
        return UnderAttack(
            self.clean[score],
            {
                name: self._attack(score, epsilon, name, images)
                for name, images in self.images.items()
                if sides & {"both", "id" if name == "id" else "ood"}
            },
        )

    def _attack(
        self,
        score: str,
        epsilon: float,
        name: str,
        images: Any,
        steps: int = 0,
        restarts: int = 0,
        purpose: str = "robust_ood",
    ) -> np.ndarray:
        return attacked_scores(
            self.network,
            images,
            score,
            epsilon,
            steps=steps or self.protocol.steps,
            restarts=restarts or self.protocol.restarts,
            generator=self.stream(purpose, short_name(score), epsilon_name(epsilon), name),
            device=self.device,
            direction="maximise" if name == "id" else "minimise",
        )

    def check(self, epsilon: float, attack: UnderAttack) -> tuple[Metrics, list[str]]:
        """Repeat the attack on the first OOD images of each set with more steps and restarts.

        Both AUROCs are of the same images, pooled over the sets, against the clean ID scores. A stronger attack that
        leaves a higher AUROC is a sign of gradient masking; one that leaves a much lower AUROC says that the
        reported robust AUROC is too high.

        Returns:
            ({"attack_check_<eps>/auroc_change": stronger minus reported}, remarks).

        Source:
            Carlini et al. 2019, On evaluating adversarial robustness: more iterations must not help the defender.
        """
        n, score = self.protocol.check_images, self.protocol.score
        steps, restarts = self.protocol.check_steps, self.protocol.check_restarts
        names = [name for name in self.images if name != "id"]
        # one pool: a few images of each set alone would make small batches
        pool = torch.cat([to_unit(torch.tensor(np.asarray(self.images[name][:n]))) for name in names])
        stronger = self._attack(score, epsilon, "", pool, steps, restarts, "attack_check")
        reported = np.concatenate([attack.attacked[name][:n] for name in names])
        before = ood.auroc(attack.clean["id"], reported)
        after = ood.auroc(attack.clean["id"], stronger)
        what = (
            f"PGD-{steps} with {restarts} restarts in place of PGD-{self.protocol.steps} with "
            f"{self.protocol.restarts} moves the robust AUROC ({score}) at {epsilon_name(epsilon)} "
            f"from {100 * before:.1f} to {100 * after:.1f} % on {len(reported)} OOD images"
        )
        remarks = []
        if after - before > RISE:
            remarks.append(f"gradient masking: {what}; a stronger attack must not raise it, do not trust it")
        elif before - after > FALL:
            remarks.append(f"attack not converged: {what}; the reported value is too high")
        return {f"attack_check_{epsilon_name(epsilon)}/auroc_change": after - before}, remarks


def robust_aurocs(attack: UnderAttack, epsilon: float, sides: Sequence[str]) -> Metrics:
    """Return the AUROC by set of every side.

    Example:
        Sides "ood", "id" and "both" at 0.1: `robust_auroc_0.1/<set>`, `robust_auroc_id_0.1/<set>`,
        `robust_auroc_both_0.1/<set>`.
    """
    return _by_side(attack, epsilon, sides, {"auroc": ood.auroc})


def robust_rates(attack: UnderAttack, epsilon: float, sides: Sequence[str]) -> Metrics:
    """Return both FPR95 by set of every side, named as in `robust_aurocs`."""
    functions = {"fpr95_id_pos": ood.fpr95_id_pos, "fpr95_ood_pos": ood.fpr95_ood_pos}
    return _by_side(attack, epsilon, sides, functions)


def _by_side(
    attack: UnderAttack, epsilon: float, sides: Sequence[str], functions: Mapping[str, Callable[..., float]]
) -> Metrics:
    metrics: Metrics = {}
    for side in sides:
        tail = epsilon_name(epsilon) if side == "ood" else f"{side}_{epsilon_name(epsilon)}"
        named = {f"robust_{metric}_{tail}": function for metric, function in functions.items()}
        metrics |= metrics_per_set(attack.compared(side), named)
    return metrics
