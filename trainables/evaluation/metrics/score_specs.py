"""The outlier scores on logits by name; readable without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainables.base.registry import Registry, resolve_reference


@dataclass(frozen=True)
class ScoreSpec:
    """An outlier score that is a function of the logits; higher = more OOD.

    Attributes:
        name: as protocols and metric names say it.
        about: what it is, in one phrase.
        source: the paper.
        function: "module:function" of logits (n, classes) that returns (n,), differentiable; imported on use, because
            it needs torch.
    """

    name: str
    about: str
    source: str
    function: str

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        function: Callable[..., Any] = resolve_reference(self.function)
        return function


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
)
