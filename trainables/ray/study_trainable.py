"""The Ray Trainables of a study. What trains is imported in the worker: the driver, which names them, has no torch."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ray import tune

from trainables.base.registry import resolve_reference
from trainables.ray.assets import Assets


class StudyTrainable(tune.Trainable):
    """Trains the trials of a study one after the other; each configuration names its method.

    The service writes and reads the checkpoints of its trials itself, so that those of Tune are empty.

    Attributes:
        runner: "module:class" of what trains.
    """

    runner: ClassVar[str] = "trainables.ray.trial_runner:TrialRunner"
    _runner: Any = None

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        if self._runner is None:
            self._runner = resolve_reference(self.runner)()
        self._runner.setup(config, assets)

    def step(self) -> dict[str, Any]:
        """Train and validate an epoch; see `TrialRunner.step`."""
        result: dict[str, Any] = self._runner.step()
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trial has written its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Do nothing: the trial reads its own."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process: everything is rebuilt and reseeded."""
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        if self._runner is not None:
            self._runner.cleanup()


class PackedTrainable(StudyTrainable):
    """Trains the trials of `config["pack"]` together; see `PackRunner`."""

    runner: ClassVar[str] = "trainables.ray.pack_runner:PackRunner"

    def change(self, ended: Sequence[str], new: Sequence[dict[str, Any]]) -> None:
        """Drop the trials of these keys, and take those of these configurations; they are built at the next step."""
        self._runner.change(ended, new)
