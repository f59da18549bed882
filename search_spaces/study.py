"""The classes of a study: objectives, constraints, arms, data set profiles, budget. Pure data, no heavy imports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces.domain import Choice, Float, Int, Setting, SpaceError, Value
from search_spaces.field_checks import check_fields

Space = Mapping[str, Setting]
ROLES = ("baseline", "control")
EPOCHS = ("last", "best")
_ARM = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}")  # trials are called oe-0007
_TAKEN = ("best", "search", "confirm")


@dataclass(frozen=True)
class Objective:
    """A validation metric to maximise or minimise; the direction must be that of the metric's spec.

    Attributes:
        metric: "val/..." only; search never sees a test metric.
        direction: "maximize" or "minimize".
    """

    metric: str
    direction: str = "maximize"

    def __post_init__(self) -> None:
        check_fields(self, "an objective")
        if not self.metric.startswith("val/"):
            raise SpaceError(f"objective {self.metric} must be a validation metric (val/...)")
        if self.direction not in ("maximize", "minimize"):
            raise SpaceError(f"direction is {self.direction!r}; it must be maximize or minimize")


@dataclass(frozen=True)
class Floor:
    """A constraint: the least value of a validation metric at which a trial is feasible.

    Attributes:
        metric: "val/...", one of which more is better.
        at_least: the bound, used where `below_reference` is None.
        below_reference: the bound is the pretrained classifier's own value minus this.
    """

    metric: str
    at_least: float = 0.0
    below_reference: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "a floor")

    def bound(self, reference: float | None) -> float:
        """Return the smallest feasible value."""
        if self.below_reference is None:
            return self.at_least
        if reference is None:
            raise SpaceError(f"floor on {self.metric} needs the pretrained classifier's value")
        return reference - self.below_reference

    def __str__(self) -> str:
        if self.below_reference is None:
            return f"{self.metric} >= {self.at_least:g}"
        return f"{self.metric} >= pretrained - {self.below_reference:g}"


@dataclass(frozen=True)
class Arm:
    """A configuration that the winner is compared with in the confirm stage, on the same fresh seeds.

    Attributes:
        name: short, unique within the study.
        role: "baseline" (a competing method or setting that the winner has to beat) or "control" (the winner
            without the part that is claimed to matter, to rule out other causes).
        overrides: settings put over the winner's configuration, or over the study's space if `search`.
        method: another training method, or "" for the study's own; as in `Study`.
        search: give the arm its own search, with as many trials as the study's; a tuned baseline.
        drop: keys of the study that this arm does not have.
        about: one sentence for the report.
    """

    name: str
    role: str
    overrides: Space = field(default_factory=dict)
    method: str = ""
    search: bool = False
    drop: tuple[str, ...] = ()
    about: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _ARM.fullmatch(self.name) or self.name in _TAKEN:
            raise SpaceError(
                f"arm {self.name!r}: its name must be letters, digits, '.' and '_' after a letter (40 at most) "
                f"and not {', '.join(_TAKEN)}"
            )
        check_fields(self, f"arm {self.name}", anything=("method",))  # a class of the user's own, too
        if self.role not in ROLES:
            raise SpaceError(f"arm {self.name}: role is {self.role!r}; it must be {' or '.join(ROLES)}")


@dataclass(frozen=True)
class Profile:
    """The study's settings for one data set: what changes against the study's own space and budget.

    Attributes:
        dataset: a name of `trainables.data.types.datasets.DATASETS`.
        settings: put over the study's space.
        max_epochs, trials: 0 keeps the study's.
        first_rung: of these epochs; 0 keeps the study's share of the schedule.
        validation, protocol: evaluation settings that differ, by field name.
        objectives, floors, headline, arms, sampler, scheduler: replace the study's where they are given.
    """

    dataset: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_epochs: int = 0
    trials: int = 0
    protocol: Mapping[str, object] = field(default_factory=dict)
    validation: Mapping[str, object] = field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    floors: tuple[Floor, ...] = ()
    headline: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    sampler: Any = ""
    scheduler: str = ""
    first_rung: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self, f"profile of {self.dataset}", dict.fromkeys(("max_epochs", "trials", "first_rung"), 0)
        )


@dataclass(frozen=True)
class Study:
    """One question about robust or out-of-distribution-aware classifiers.

    A study of the user's own may hold objects in place of the names of methods, networks, attacks, data sets, scores,
    detectors and samplers: classes and functions at the top of its file, or references to them (docs/own_code.md).

    Attributes:
        name: also the MLflow experiment and the registered model.
        question: one sentence that the report answers.
        method: a name of `trainables.options.methods.METHODS`.
        space: {dotted option: domain or fixed value}.
        objectives: the first decides; several make a Pareto front.
        floors: constraints that the winner must meet.
        arms: baselines and controls.
        headline: test metrics that the answer shows, the first one is the claim's.
        effects: searched parameters whose effect the report plots.
        trials, max_epochs, first_rung, reduction: budget of the search; under asha a trial is stopped at rungs
            first_rung * reduction**k, of another number of epochs at the same share of them, unless it is among the
            best 1/reduction there, under median it is not stopped before first_rung.
        sampler: what chooses configurations; a name of `tuner.search.sampler_specs.SAMPLERS`.
        scheduler: what stops trials early; a name of `tuner.search.schedulers.SCHEDULERS`.
        confirm_seeds: fresh seeds of the confirm stage.
        validation, protocol: fields of the evaluation protocol during search and at the end.
        profiles: other data sets.
        defined_in: the reference to a study of the user's own, noted when it is found.
        elsewhere: settings for data sets without a profile, put over what `tuner.planning.fitted_profile` chooses.
        epoch: that a trial is judged and evaluated by: "last", or "best" of those in the second half of its schedule
            on validation data.
    """

    name: str
    question: str
    claim: str
    source: str
    method: Any
    dataset: Any
    space: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    floors: tuple[Floor, ...] = ()
    arms: tuple[Arm, ...] = ()
    headline: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    trials: int = 20
    max_epochs: int = 9
    first_rung: int = 1
    reduction: int = 3
    sampler: Any = "tpe"
    scheduler: str = "asha"
    confirm_seeds: int = 5
    validation: Mapping[str, object] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)
    profiles: tuple[Profile, ...] = ()
    defined_in: str = ""
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    epoch: str = "last"

    def __post_init__(self) -> None:
        least = dict.fromkeys(("trials", "max_epochs", "first_rung", "confirm_seeds"), 1) | {"reduction": 2}
        check_fields(self, f"study {self.name}", least)
        for what, value in (("method", self.method), ("dataset", self.dataset)):
            if value in (None, ""):
                raise SpaceError(f"study {self.name}: {what} is {value!r}; name one")
        if not self.objectives:
            raise SpaceError(f"study {self.name} has no objective")
        if self.epoch not in EPOCHS:
            raise SpaceError(f"study {self.name}: epoch is {self.epoch!r}; it must be {' or '.join(EPOCHS)}")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise SpaceError(f"study {self.name} names an arm twice")

    def profile(self, dataset: str) -> Profile | None:
        """Return the profile of a data set, None if there is none."""
        return next((profile for profile in self.profiles if profile.dataset == dataset), None)


def searched(space: Space) -> dict[str, Float | Int | Choice]:
    """Return the parameters of a space that are searched."""
    return {key: value for key, value in space.items() if isinstance(value, (Float, Int, Choice))}


def fixed(space: Space) -> dict[str, Value]:
    """Return the parameters of a space that have a fixed value."""
    return {key: value for key, value in space.items() if not isinstance(value, (Float, Int, Choice))}
