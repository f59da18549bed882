"""The part that methods with one classifier and one `Trainer` have in common: their state, and what to evaluate."""

from typing import Any

from torch import nn

from trainables.networks import Classifier
from trainables.training.method import Method, StateDict, Trainer


class ClassifierMethod(Method):
    """A method whose `trainer` trains its `network`; a subclass with more state extends both state methods.

    Attributes:
        trainer: holds the optimiser and the weight average, if any.
    """

    network: Classifier
    trainer: Trainer

    def state_dict(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state_dict(), "passes": self.passes}

    def load_state_dict(self, state: StateDict) -> None:
        self.trainer.load_state_dict(state["trainer"])
        self.passes = state["passes"]

    def classifier(self) -> nn.Module:
        return self.network if self.trainer.average is None else self.trainer.average
