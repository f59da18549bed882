"""`EvaluationProtocol`: what is measured of a classifier and how; stored in plan.json, hashed for reuse. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from trainables.base.errors import InputError, unknown
from trainables.base.own_specs import short_name
from trainables.base.registry import Registry
from trainables.base.user_code import UserCode
from trainables.evaluation.metrics.detector_specs import DETECTORS
from trainables.evaluation.metrics.score_specs import SCORES

GROUPS = ("clean", "calibration", "ood", "robust", "robust_ood", "corrupted")
SIDES = ("ood", "id", "both")
MOST = 10**9  #: steps, restarts or images
#: {type of a field: what it is called in the singular, in the plural}
_CALLED = {
    str: ("a name", "names"),
    float: ("a number", "numbers"),
    int: ("a whole number", "whole numbers"),
    bool: ("true or false", "truth values"),
}


@dataclass(frozen=True)
class EvaluationProtocol:
    """One way to measure a classifier.

    Attributes:
        score: the outlier score behind `auroc/<set>` and the like; every score of `scores` is reported
            beside it as `<score>/auroc/near` and so on.
        groups: which metrics: clean accuracy, calibration error, OOD detection, accuracy under attack, OOD
            detection under attack, accuracy on corruptions.
        robust_epsilons: Linf radii of the attack on the accuracy, [0, 1] pixel units.
        ood_epsilons: Linf radii of the attack on the outlier score.
        ood_sides: who is attacked then: "ood" the OOD images (towards ID), "id" the ID images (towards OOD),
            "both" all of them.
        robust_scores: scores that are attacked beside `score`, each by its own attack, reported as
            `<score>/robust_auroc_<eps>/near` and so on.
        steps: PGD steps of both; step length 2.5 epsilon / steps, random start.
        restarts: the worst of so many random starts counts.
        margin: attack the accuracy with the margin loss too; the worst of both counts.
        max_images: at most so many images of each set, the first ones; 0 = all.
        detectors: post-hoc detectors, fitted on training images, reported as `<detector>/auroc/near` and so on.
        auto_attack_epsilons: Linf radii of AutoAttack; empty = none, because it is expensive.
        auto_attack_images: attack the first so many test images; 0 = all.
        check_steps: repeat the attack on the outlier score with so many steps, see `robust_ood`; 0 = do not.
        noise_rms: root mean square per value of learned noise, [0, 1] pixel units, see `noise_robustness`; 0 = none.
        noise_steps: of training its generator.
        check_restarts, check_images: of that repetition; images of each OOD set, the first ones.
    """

    name: str
    score: str = "msp"
    scores: tuple[str, ...] = ("msp", "energy")
    groups: tuple[str, ...] = GROUPS
    robust_epsilons: tuple[float, ...] = (0.15, 0.2)
    ood_epsilons: tuple[float, ...] = (0.1,)
    ood_sides: tuple[str, ...] = ("ood",)
    robust_scores: tuple[str, ...] = ()
    steps: int = 20
    restarts: int = 1
    margin: bool = True
    max_images: int = 0
    detectors: tuple[str, ...] = ()
    auto_attack_epsilons: tuple[float, ...] = ()
    auto_attack_images: int = 1000
    check_steps: int = 0
    check_restarts: int = 2
    check_images: int = 16
    noise_rms: float = 0.0
    noise_steps: int = 1000

    def identity(self) -> dict[str, Any]:
        """Return every field that decides what is measured, as JSON values; its hash names an evaluation.

        Fields that came later are left out where they add nothing, so that old evaluations keep their names.
        """
        values = asdict(self)
        if not self.noise_rms:
            del values["noise_rms"], values["noise_steps"]
        if "knn" in self.detectors:
            values["knn"] = "neighbours by data set"  # evaluations of before had 50 everywhere
        return values

    def check(self) -> None:
        """Raise InputError for a value of a wrong type, a name that does not exist, a number that makes no sense."""
        self.check_values()
        self._check_scores()

    def check_values(self) -> None:
        """Do what `check` does, but look up no scores and detectors: these may be code that is not there."""
        self._check_types()
        for kind, names, known in (
            ("metric group", self.groups, GROUPS),
            ("side of an attack", self.ood_sides, SIDES),
        ):
            for name in names:
                if name not in known:
                    raise InputError(unknown(kind, name, known))
        for field in ("robust_epsilons", "ood_epsilons", "auto_attack_epsilons"):
            for epsilon in getattr(self, field):
                if not 0 <= epsilon <= 1:
                    raise InputError(f"{field} of the protocol: {epsilon} is not in [0, 1] pixel units")
        if not 0 <= self.noise_rms <= 1:
            raise InputError(f"noise_rms of the protocol is {self.noise_rms}; it must be from 0 to 1")
        for field, low in (
            ("steps", 1),
            ("noise_steps", 1),
            ("restarts", 1),
            ("max_images", 0),
            ("auto_attack_images", 0),
            ("check_steps", 0),
            ("check_restarts", 1),
            ("check_images", 1),
        ):
            if not low <= getattr(self, field) <= MOST:
                raise InputError(
                    f"{field} of the protocol is {getattr(self, field)}; it must be from {low} to {MOST}"
                )

    def _check_types(self) -> None:
        for field, hint in get_type_hints(type(self)).items():
            value = getattr(self, field)
            if get_origin(hint) is tuple:
                kind = get_args(hint)[0]
                fits = isinstance(value, tuple) and all(_is(kind, item) for item in value)
                wanted = f"a list of {_CALLED[kind][1]}"
            else:
                fits, wanted = _is(hint, value), _CALLED[hint][0]
            if not fits:
                text = repr(list(value) if isinstance(value, tuple) else value)
                shown = text if len(text) <= 40 else f"{text[:40]}..."
                raise InputError(f"{field} of the protocol is {shown}; it must be {wanted}")

    def _check_scores(self) -> None:
        for registry, names in self._looked_up():
            for name in names:
                registry[name]
        by_part: dict[str, str] = {}
        for name in (*self.named_scores, *self.detectors, *SCORES.names, *DETECTORS.names):
            if by_part.setdefault(short_name(name), name) != name:
                raise InputError(
                    f"{name} would be reported under the name of {by_part[short_name(name)]}, {short_name(name)}; "
                    "give it another"
                )

    @property
    def named_scores(self) -> tuple[str, ...]:
        """Return every outlier score that it names."""
        return tuple(dict.fromkeys((self.score, *self.scores, *self.robust_scores)))

    def _looked_up(self) -> tuple[tuple[Registry[Any], tuple[str, ...]], ...]:
        return (SCORES, self.named_scores), (DETECTORS, self.detectors)

    def with_full_names(self) -> "EvaluationProtocol":
        """Return it with the names by which every process finds its scores and detectors.

        Raises:
            InputError: there is none of a name.
        """
        return replace(
            self,
            score=SCORES[self.score].name,
            scores=tuple(SCORES[name].name for name in self.scores),
            robust_scores=tuple(SCORES[name].name for name in self.robust_scores),
            detectors=tuple(DETECTORS[name].name for name in self.detectors),
        )

    @property
    def code(self) -> tuple[UserCode, ...]:
        """Return the user's own code behind its scores and detectors; nothing is imported."""
        found = (registry.code(name) for registry, names in self._looked_up() for name in names)
        return tuple(code for code in found if code is not None)


def from_fields(name: str, values: Mapping[str, Any]) -> EvaluationProtocol:
    """Return the protocol of a mapping, as `plan.json` holds it.

    Raises:
        InputError: an unknown field, or what `EvaluationProtocol.check` refuses.
    """
    protocol = _made(name, values)
    protocol.check()
    return protocol


def check_fields(values: Mapping[str, Any]) -> None:
    """Raise InputError for an unknown field, or for what `EvaluationProtocol.check_values` refuses."""
    _made("", values).check_values()


def _made(name: str, values: Mapping[str, Any]) -> EvaluationProtocol:
    known = [f.name for f in fields(EvaluationProtocol)]
    for key in values:
        if key not in known:
            raise InputError(unknown("field of a protocol", key, known))
    settled: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "name"
    }
    return EvaluationProtocol(name, **settled)


def _is(kind: type, value: object) -> bool:
    """Return whether a value is of a type; a whole number is a number, and a truth value is none."""
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))


def epsilon_name(epsilon: float) -> str:
    """Return an epsilon as metric names write it: 0.1, 0.15, 0.0314."""
    return f"{epsilon:.4g}"
