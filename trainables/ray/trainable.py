"""Ray Trainables of the training methods, for plain Ray Tune: an actor trains one trial, then another."""

import functools
from typing import Any

from ray import tune

from trainables.base.storage import Folder
from trainables.base.user_code import name_codes
from trainables.options.methods import METHODS
from trainables.ray.trial_runner import TrialRunner
from trainables.training import checkpoints


class MethodTrainable(TrialRunner, tune.Trainable):
    """Trains one configuration of one method, as an actor of its own.

    With plain Ray Tune: `Tuner(AOETrainable, param_space={"dataset": "digits-open", "attack.epsilon":
    tune.uniform(.02, .2)})`; options may be nested or dotted, `validation` may hold fields of
    `EvaluationProtocol`. It then reports "val/..." and "train/..." metrics after every epoch, and
    "done" after the last.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Ask for as many CPUs as the trial has threads; GPUs only by `tune.with_resources`."""
        return tune.PlacementGroupFactory([{"CPU": int(config.get("threads", 1))}])

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial into a folder (plain Ray Tune); the service writes its own, see `step`."""
        assert self._method is not None
        data = checkpoints.pack(self._name, self._method, self._epoch, self._data.info)
        Folder(checkpoint_dir).write("trial.pt", data)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue from `save_checkpoint`'s folder, bit for bit on the CPU."""
        assert self._method is not None
        content = checkpoints.unpack(
            Folder(checkpoint).read("trial.pt"), f"{checkpoint}/trial.pt", self._method.device
        )
        self._epoch = checkpoints.restore(self._method, content)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process: everything is rebuilt and reseeded."""
        self.setup(new_config)
        return True


@functools.cache
def trainable_class(method: str) -> type[MethodTrainable]:
    """Return the Ray Trainable of one method, "aoe" -> `trainables.AOETrainable`; workers find it by that name.

    A method of the user's own is named as `./file.py:Class` or `module:Class`.
    """
    name_codes([method])  # whoever calls this names it
    name = METHODS[method].trainable_name
    return type(name, (MethodTrainable,), {"method_name": method, "__module__": "trainables"})
