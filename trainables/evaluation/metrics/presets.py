"""The preset evaluation protocols, each a function of the radii that the data are judged by. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainables.base.registry import Registry
from trainables.data.types.radii import Radii
from trainables.evaluation.metrics.detector_specs import DETECTORS
from trainables.evaluation.metrics.protocol import (
    GROUPS,
    SIDES,
    EvaluationProtocol,
    from_fields,
)
from trainables.evaluation.metrics.score_specs import SCORES

Fields = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A protocol by name.

    Attributes:
        about: what it measures, in a line.
        fields: returns the fields of `EvaluationProtocol` that it sets.
    """

    name: str
    about: str
    fields: Callable[[Radii], Fields]


def _attacks(radii: Radii) -> Fields:
    """Return the radii, also of a protocol that attacks nothing: `--set groups=robust` may add it."""
    return {"robust_epsilons": radii.accuracy, "ood_epsilons": radii.score}


def _quick(radii: Radii) -> Fields:
    return _attacks(radii) | {"groups": ("clean", "calibration", "ood")}


def _standard(radii: Radii) -> Fields:
    return _attacks(radii) | {"ood_sides": SIDES}


def _full(radii: Radii) -> Fields:
    return _standard(radii) | {
        "scores": SCORES.names,
        "ood_epsilons": tuple(factor * radii.score[0] for factor in (0.25, 0.5, 1.0)),
        "robust_scores": ("msp", "energy"),
        "steps": 100,
        "restarts": 2,
        "detectors": DETECTORS.names,
        "check_steps": 200,
        "check_restarts": 5,
        "check_images": 50,
    }


#: radii of a curve, in radii that the data are judged by
CURVE = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
NOISE_RMS = 0.348  # an L2 norm of 135 at 3 x 224 x 224 values, Rusak et al. 2020
GREY = 0.5  #: from this radius on every image can be turned into an even grey


def _curve(radius: float) -> tuple[float, ...]:
    return tuple(dict.fromkeys(min(factor * radius, GREY) for factor in CURVE))


def _curves(radii: Radii) -> Fields:
    return {
        "groups": ("clean", "ood", "robust", "robust_ood"),
        "robust_epsilons": _curve(radii.accuracy[0]),
        "ood_epsilons": _curve(radii.score[0]),
    }


def _noise(radii: Radii) -> Fields:
    return _attacks(radii) | {"groups": ("clean", "corrupted"), "noise_rms": NOISE_RMS}


def _auto_attack(radii: Radii) -> Fields:
    return _attacks(radii) | {
        "groups": ("clean", "calibration"),
        "auto_attack_epsilons": radii.accuracy,
    }


PRESETS = Registry(
    "protocol",
    [
        Preset("quick", "clean accuracy, calibration, OOD detection; seconds, no attack", _quick),
        Preset(
            "standard", "what every study's evaluate stage measures: also attacks and corruptions", _standard
        ),
        Preset(
            "full",
            "also every detector, more radii, scores and restarts, and whether the attacks hold",
            _full,
        ),
        Preset(
            "curves",
            "accuracy and AUROC under attack over eight radii, up to where nothing can hold",
            _curves,
        ),
        Preset(
            "noise",
            "corruptions, and how strong noise of a generator trained anew must be to fool",
            _noise,
        ),
        Preset(
            "autoattack",
            "clean accuracy and AutoAttack standard, on the first 1000 test images",
            _auto_attack,
        ),
    ],
)
DEFAULT = PRESETS["standard"].name


def named(name: str, radii: Radii, score: str = "msp") -> EvaluationProtocol:
    """Return a named protocol.

    Args:
        radii: of the data set, see `radii_of`.
        score: by which OOD images are told; that of the method the classifier was trained with.

    Raises:
        InputError: an unknown name.
    """
    return from_fields(name, fields_of(name, radii) | {"score": score})


def fields_of(name: str, radii: Radii) -> Fields:
    """Return the fields that a named protocol sets.

    Raises:
        InputError: an unknown protocol; the nearest is suggested.
    """
    return PRESETS[name].fields(radii)


def winner_protocol(base: Mapping[str, Any]) -> Fields:
    """Return what a confirmed winner is measured by beside `base`: detectors, and whether its attack holds."""
    groups = base.get("groups", GROUPS)
    chosen: Fields = {"detectors": DETECTORS.names} if "ood" in groups else {}
    if "robust_ood" in groups:
        chosen |= {"check_steps": 100, "check_restarts": 2, "check_images": 16}
    return chosen


#: What decides how a number is measured; a protocol that is widened keeps these, so that its numbers stay the same.
KEPT = ("score", "steps", "restarts", "margin", "max_images")


def widened(base: Mapping[str, Any], more: Mapping[str, Any]) -> Fields:
    """Return the fields of a protocol that measures what `base` does, in the same way, and what `more` adds.

    Example:
        {"groups": ("clean",), "steps": 20} and {"groups": ("clean", "ood"), "steps": 100, "check_steps": 500} give
        {"groups": ("clean", "ood"), "steps": 20, "check_steps": 500}.
    """
    chosen: Fields = dict(base)
    defaults = {f.name: f.default for f in fields(EvaluationProtocol)}
    for key, value in more.items():
        if isinstance(value, tuple | list):
            chosen[key] = tuple(dict.fromkeys([*chosen.get(key, defaults[key]), *value]))
        elif key not in KEPT:
            chosen[key] = value
    return chosen
