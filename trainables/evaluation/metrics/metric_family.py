"""`MetricSpec`: a family of metrics, its label, direction, unit, range and the names of its members. No torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from trainables.base.errors import InputError, unknown
from trainables.evaluation.metrics.protocol import GROUPS


class Direction(StrEnum):
    """Which values of a metric are better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"
    NEITHER = "neither"  #: a diagnostic; it cannot be an objective


class Unit(StrEnum):
    """What a value is counted in; only fractions are shown otherwise than they are stored, as percentages."""

    FRACTION = "fraction"
    PERCENT = "per cent"
    NUMBER = "number"
    PIXELS = "[0, 1] pixel units"
    SECONDS = "seconds"


MEANS = ("near", "far", "all")  #: "sets" of a metric's name that are means over several
EPOCH, TRAINING = "epoch", "training"  #: groups of what is recorded of an epoch, beside those of the protocol
_SPLITS = {
    EPOCH: ("",),
    TRAINING: ("train",),
}  #: {group: splits}; the groups of the protocol have val and test

#: {parameter of a name: regular expression of its values}
_PARAMETERS = {
    "epsilon": r"\d[\d.]*(?:e-?\d+)?",
    "side": r"id|both",
    "score": r"\w+",
    "set": r".+",
    "corruption": r".+",
}
_SIDE_LABELS = {"id": "ID attacked, ", "both": "ID and OOD attacked, "}
_SET_LABELS = {"near": "near OOD", "far": "far OOD", "all": "all OOD sets", "unknown": "unknown classes"}


@dataclass(frozen=True)
class MetricSpec:
    """A family of metrics that differ in the parameters of their names.

    Attributes:
        name: without the split; {parameters} in braces, optional parts in brackets.
        label: in words, with the same parameters and brackets.
        direction: which values are better.
        group: what measures it: one of `protocol.GROUPS`, TRAINING or EPOCH.
        about: for docs/protocol.md, what exactly is measured.
        unit: of the stored value.
        low, high: the range of possible values, inclusive.
        heading: a shorter label for a column of a table whose rows are the OOD sets; "" takes the label.
        summary: whether reports show it beside the headline, its OOD sets as the means over near and far.
        validated: whether the validation after an epoch can measure it, so that a search can look for it.
    """

    name: str
    label: str
    direction: Direction
    group: str
    about: str
    unit: Unit = Unit.FRACTION
    low: float = 0.0
    high: float = 1.0
    heading: str = ""
    summary: bool = False
    validated: bool = True

    def __post_init__(self) -> None:
        parameters = set(re.findall(r"{(\w+)}", self.name))
        if not parameters <= set(_PARAMETERS):
            raise InputError(f"metric {self.name!r}: parameters are {', '.join(_PARAMETERS)}")
        if not set(re.findall(r"{(\w+)}", self.label)) <= parameters:
            raise InputError(f"metric {self.name!r}: its label {self.label!r} has other parameters")
        if self.group not in (*GROUPS, *_SPLITS):
            raise InputError(unknown("group of metrics", self.group, (*GROUPS, *_SPLITS)))
        if not self.low < self.high:
            raise InputError(f"metric {self.name!r}: its range is empty, {self.low} to {self.high}")

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that it is measured on, "" for a name without a split."""
        return _SPLITS.get(self.group, ("val", "test"))

    def label_of(self, **parameters: str) -> str:
        """Return the label of one of its metrics, without the split: `label_of(set="near")` -> "AUROC, near OOD"."""
        return _fill(self.label, parameters)

    def match(self, name: str) -> Mapping[str, str] | None:
        """Return the parameters of a metric's name without its split; None if it is not of this family.

        Example:
            "robust_auroc_id_0.1/near" -> {"side": "id", "epsilon": "0.1", "set": "near"}
        """
        found = re.fullmatch(_pattern(self.name), name)
        return {k: v for k, v in found.groupdict().items() if v is not None} if found else None


def ood_set_label(name: str) -> str:
    """Return an OOD set, or a mean over several, in words: "near" -> "near OOD", "china_stretched" with a space."""
    return _SET_LABELS.get(name, name.replace("_", " "))


def ood_family(kind: str) -> str:
    """Return the family of "auroc", "fpr95_id_pos" and so on."""
    return f"[{{score}}/]{kind}/{{set}}"


def robust_ood_family(kind: str) -> str:
    """Return the family of "auroc", "fpr95_id_pos" and so on under attack."""
    return f"[{{score}}/]robust_{kind}_[{{side}}_]{{epsilon}}/{{set}}"


def range_text(spec: MetricSpec) -> str:
    """Return "[0, 1]", "0 or more", "any"."""
    if math.isinf(spec.high):
        return "any" if math.isinf(spec.low) else f"{spec.low:g} or more"
    return f"[{spec.low:g}, {spec.high:g}]"


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression of a family's name."""
    parts = []
    for part in re.split(r"({\w+}|[\[\]])", template):
        if part in ("[", "]"):
            parts.append("(?:" if part == "[" else ")?")
        elif part.startswith("{"):
            parts.append(f"(?P<{part[1:-1]}>{_PARAMETERS[part[1:-1]]})")
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))


def _fill(label: str, parameters: Mapping[str, str]) -> str:
    """Return a label with its parameters; an optional part is left out if one of its parameters is missing."""

    def optional(part: re.Match[str]) -> str:
        wanted = re.findall(r"{(\w+)}", part[1])
        return part[1] if all(name in parameters for name in wanted) else ""

    words = {name: in_words(name, value) for name, value in parameters.items()}
    return re.sub(r"\[([^\]]*)\]", optional, label).format(**words)


def in_words(parameter: str, value: str) -> str:
    """Return a parameter's value as labels show it: "near" -> "near OOD"."""
    if parameter == "set":
        return ood_set_label(value)
    if parameter == "corruption":
        return value.replace("_", " ")
    return _SIDE_LABELS[value] if parameter == "side" else value
