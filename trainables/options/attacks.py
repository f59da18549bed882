"""The attacks that training uses, by name: on outliers (`attack.name`) and on inliers (`inlier_attack.name`).

A spec says all that other modules need to know of an attack. References are "module:function"; they are imported on
use, because they need torch.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described, described_type
from trainables.base.registry import Registry, resolve_reference

#: Passes of one gradient step: forward, and backward to the inputs.
PASSES_PER_STEP = 2


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """An attack within an Linf ball, or a noise to compare attacks with.

    Attributes:
        name: as options and studies say it.
        about: what it does, in a few words.
        packed: how a pack of trials carries it out (`trainables.packed.steps`): "ascent" follows `objective` on
            stacked replicas, "noise" draws per replica, "unchanged" does nothing. None: there is no packed form, so
            that a trial with this attack is trained in a process of its own.
        objective: what is ascended, a function of logits (n, classes) with values (n,); an inlier attack's function
            takes the labels (n,) too. The function or a reference to it, "" for none.
        noise: a function (images, generator, shared) that returns what is added, in units of epsilon and of a shape
            that broadcasts to the images'. The function or a reference to it, "" for none.
        steps: gradient steps: "none"; "one" of length epsilon; as many as the "option" `steps` says.
        momentum: the steps keep the share `momentum` of the previous direction.
        random_start: starts uniformly in the ball, else at the image.
        joint_loss: in train mode, where batch norm couples the rows of a batch, the outlier-exposure loss of
            inliers and outliers is ascended instead of `objective`.
    """

    name: str
    about: str
    packed: Literal["ascent", "noise", "unchanged"] | None
    objective: str | Callable[..., Any] = ""
    noise: str | Callable[..., Any] = ""
    steps: Literal["none", "one", "option"] = "none"
    momentum: bool = False
    random_start: bool = False
    joint_loss: bool = False

    def __post_init__(self) -> None:
        """Check the spec.

        Raises:
            InputError: fields that contradict one another, or unknown `steps`.
        """
        if self.steps not in ("none", "one", "option"):
            raise InputError(f"attack {self.name!r}: steps is {self.steps!r}; it must be none, one or option")
        if bool(self.objective) == (self.steps == "none"):
            raise InputError(f"attack {self.name!r}: an objective needs steps, and steps need an objective")
        if self.objective and self.noise:
            raise InputError(f"attack {self.name!r} has an objective and a noise; it can have one of them")
        form = "ascent" if self.objective else "noise" if self.noise else "unchanged"
        if self.packed not in (form, None):
            raise InputError(f"attack {self.name!r}: packed is {self.packed!r}; it must be {form!r} or None")

    def gradient_steps(self, steps: int) -> int:
        """Return how many gradient steps it takes where the option `steps` is as given."""
        return {"none": 0, "one": 1, "option": steps}[self.steps]

    def step_scale(self, scale: float) -> float:
        """Return the length of all steps together in units of epsilon where the option `step_scale` is as given."""
        return 1.0 if self.steps == "one" else scale

    def passes(self, steps: int) -> int:
        """Return its cost per attacked image in forward and backward passes; 0 for noise."""
        return PASSES_PER_STEP * self.gradient_steps(steps)

    def load_objective(self) -> Callable[..., Any]:
        """Return the function that `objective` names."""
        function: Callable[..., Any] = resolve_reference(self.objective)
        return function

    def load_noise(self) -> Callable[..., Any]:
        """Return the function that `noise` names."""
        function: Callable[..., Any] = resolve_reference(self.noise)
        return function


def _own_attack(labels: int) -> Callable[[str, Any], AttackSpec]:
    """Return what makes the spec of an attack of the user's own.

    Args:
        labels: 1 if objectives take the labels beside the logits.
    """

    def own_attack(name: str, thing: Any) -> AttackSpec:
        """Return the spec of a function: a noise of three parameters, else an objective that PGD ascends.

        Raises:
            InputError: it is no function of so many parameters.
        """
        if isinstance(thing, AttackSpec):
            return replace(thing, name=name)
        count = len(inspect.signature(thing).parameters) if callable(thing) else 0
        if count == 3:
            return AttackSpec(name=name, about=described(thing), packed=None, noise=thing)
        if count == 1 + labels:
            steps: dict[str, Any] = {"steps": "option", "random_start": True}
            return AttackSpec(name=name, about=described(thing), packed=None, objective=thing, **steps)
        raise InputError(
            f"it is {described_type(thing)}{f' of {count} parameters' if count else ''}; it must be a function "
            f"({'logits, labels' if labels else 'logits'}) or (images, generator, shared), or an AttackSpec"
        )

    return own_attack


_UNIFORMITY = "trainables.functional.losses:uniformity"
_LOW_ENERGY = "trainables.functional.attacks:negative_energy"

OUTLIER_ATTACKS = Registry(
    "attack",
    [
        AttackSpec(name="none", about="outliers as they are", packed="unchanged"),
        AttackSpec(
            name="fgsm",
            about="one step up the outlier-exposure loss",
            packed="ascent",
            objective=_UNIFORMITY,
            steps="one",
            joint_loss=True,
        ),
        AttackSpec(
            name="pgd",
            about="steps up the outlier-exposure loss from a random start",
            packed="ascent",
            objective=_UNIFORMITY,
            steps="option",
            random_start=True,
            joint_loss=True,
        ),
        AttackSpec(
            name="mifgsm",
            about="pgd with momentum",
            packed="ascent",
            objective=_UNIFORMITY,
            steps="option",
            momentum=True,
            random_start=True,
            joint_loss=True,
        ),
        AttackSpec(
            name="eba",
            about="one step down the energy",
            packed="ascent",
            objective=_LOW_ENERGY,
            steps="one",
        ),
        AttackSpec(
            name="eba_pgd",
            about="steps down the energy from a random start",
            packed="ascent",
            objective=_LOW_ENERGY,
            steps="option",
            random_start=True,
        ),
        AttackSpec(
            name="gauss",
            about="Gaussian noise of standard deviation epsilon; a control, not confined to the ball",
            packed="noise",
            noise="trainables.functional.attacks:gaussian_noise",
        ),
        AttackSpec(
            name="signnoise",
            about="every pixel moves by +epsilon or -epsilon at random; a control of the same Linf length",
            packed="noise",
            noise="trainables.functional.attacks:sign_noise",
        ),
    ],
    others=OwnSpecs("attack", "attacks", _own_attack(labels=0)),
)

INLIER_ATTACKS = Registry(
    "inlier attack",
    [
        AttackSpec(name="none", about="inliers as they are", packed="unchanged"),
        AttackSpec(
            name="ce",
            about="steps up the cross-entropy from a random start (adversarial training)",
            packed="ascent",
            objective="trainables.functional.attacks:cross_entropies",
            steps="option",
            random_start=True,
        ),
        AttackSpec(
            name="energy",
            about="steps up the free energy from a random start",
            packed="ascent",
            objective="trainables.functional.attacks:inlier_energy",
            steps="option",
            random_start=True,
        ),
    ],
    others=OwnSpecs("inlier attack", "inlier_attacks", _own_attack(labels=1)),
)
