"""The outlier scores on logits by name; readable without torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trainables.base.errors import InputError
from trainables.base.own_specs import OwnSpecs, described, described_type
from trainables.base.registry import Registry, resolve_reference


@dataclass(frozen=True)
class ScoreSpec:
    """An outlier score that is a function of the logits; higher = more OOD.

    Attributes:
        name: as protocols say it, and metric names (of the user's own code by `short_name`).
        about: what it is, in one phrase.
        source: the paper.
        function: "module:function" of logits (n, classes) that returns (n,), differentiable, imported on use, because
            it needs torch; or the function.
    """

    name: str
    about: str
    source: str
    function: str | Callable[..., Any]

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        function: Callable[..., Any] = resolve_reference(self.function)
        return function


def own_score(name: str, thing: Any) -> ScoreSpec:
    """Return the spec of a function of the logits of the user's own; InputError if it is none."""
    if isinstance(thing, ScoreSpec):
        return replace(thing, name=name)
    if not callable(thing) or isinstance(thing, type):
        raise InputError(f"it is {described_type(thing)}; it must be a function of logits (n, classes)")
    return ScoreSpec(name, described(thing), "", thing)


_IN = "trainables.evaluation.metrics.scores"

SCORES = Registry(
    "outlier score",
    [
        ScoreSpec(
            "msp",
            "largest softmax probability, as log-odds against it",
            "Hendrycks & Gimpel 2017",
            f"{_IN}:msp",
        ),
        ScoreSpec("energy", "free energy, -logsumexp of the logits", "Liu et al. 2020", f"{_IN}:energy"),
        ScoreSpec("max_logit", "minus the largest logit", "Hendrycks et al. 2022", f"{_IN}:max_logit"),
        ScoreSpec("entropy", "entropy of the softmax", "", f"{_IN}:entropy"),
    ],
    others=OwnSpecs("outlier score", "scores", own_score),
)
