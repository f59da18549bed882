"""What `claims.py` measures: arms with fixed configurations, and the claims made of their numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One training: a method and its options on one of the digits tasks."""

    name: str
    dataset: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    score: str = "msp"
    groups: tuple[str, ...] = ("clean", "ood", "robust_ood")


@dataclass(frozen=True)
class Claim:
    """A sentence, the numbers behind it and when it counts as replicated.

    Attributes:
        rows: (arm, metric) pairs to show.
        holds: receives `Numbers`, returns whether the goal is met.
    """

    system: str
    text: str
    goal: str
    rows: tuple[tuple[str, str], ...]
    holds: Callable[[Any], bool]
    note: str = ""


ROBUST = ("clean", "robust", "corrupted")
OPEN = {"outliers.generator": "pca", "outliers.count": 1000, "lr": 3e-3}
ARMS = {
    arm.name: arm
    for arm in (
        Arm("vanilla-open", "digits-open", "standard", {"epochs": 20}, "msp"),
        Arm("vanilla-open-energy", "digits-open", "standard", {"epochs": 20}, "energy"),
        *(
            Arm(
                f"{name}-sigma{sigma:g}",
                "digits-open",
                "aoe",
                OPEN | {"epochs": 9, "outliers.sigma": sigma, "attack.name": attack, "attack.epsilon": 0.1},
            )
            for sigma in (1.0, 2.0)
            for name, attack in (
                ("oe", "none"),
                ("aoe", "pgd"),
                ("aoe-signs", "signnoise"),
                ("aoe-gauss", "gauss"),
            )
        ),
        Arm(
            "ce-only",
            "digits-open",
            "standard",
            {"epochs": 5, "from_pretrained": True, "lr": 1e-3, "schedule": "cosine"},
            "energy",
        ),
        Arm("energy", "digits-open", "energy", {"epochs": 5, "outliers.sigma": 2.0}, "energy"),
        Arm("vanilla", "digits", "standard", {"epochs": 20}, groups=ROBUST),
    )
}
