"""Trains a pack of trials in one process, stacked where they can be; see `trainables.packed`."""

import time
from collections.abc import Sequence
from typing import Any

from trainables.data.loading.device_loader import DeviceLoader
from trainables.data.types.splits import Split
from trainables.packed import EpochOutcome, Replica, train_together
from trainables.ray.assets import Assets
from trainables.ray.trial_runner import TrialRunner


class PackedTrialRunner(TrialRunner):
    """One trial of a pack: its epochs are trained with the others'; validation, checkpoint and report are its own."""

    @property
    def key(self) -> str:
        return str(self._service["key"])

    def begin(self) -> dict[str, Any] | None:
        """Build the method at the first call; return a report if that failed, else None."""
        if self._method is not None:
            return None
        try:
            self._build(*self._given)
        except Exception as error:
            return self._failed(error)
        self._method.streams.park()  # type: ignore[attr-defined]
        return None

    def share_images(self, first: "PackedTrialRunner") -> None:
        """Use the other trial's copy of the training images on the device if both come from the same array."""
        if self._method is None or first._method is None or first is self:
            return
        own, other = getattr(self._method, "loader", None), getattr(first._method, "loader", None)
        if not isinstance(own, DeviceLoader) or not isinstance(other, DeviceLoader):
            return
        arrays = [trial._data.parts[Split.TRAIN]["id"] for trial in (self, first)]
        if arrays[0].images is arrays[1].images and arrays[0].labels is arrays[1].labels:
            own.images, own.labels = other.images, other.labels

    def replica(self) -> Replica:
        return Replica(self._name, self._method, self._epoch)

    def end(self, outcome: EpochOutcome, seconds: float) -> dict[str, Any]:
        """Return the report of an epoch that took this trial's share of so many seconds."""
        assert self._method is not None
        if outcome.remark:
            self._remarks.append(outcome.remark)
        if outcome.error is not None:
            return self._failed(outcome.error)
        try:
            with self._method.streams.in_charge():
                return self._report(outcome.means, seconds)
        except Exception as error:
            return self._failed(error)


class PackRunner:
    """Trains the trials of `config["pack"]` together, an epoch of each per step; `change` replaces members.

    A step's result is {"pack": [report, ...]}; each is what `TrialRunner.step` returns for that trial plus its
    "key". The driver decides which trials leave and join, and calls `change` between two steps.
    """

    def __init__(self) -> None:
        self._trials: dict[str, PackedTrialRunner] = {}

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        """Begin a pack of trials, instead of the one before."""
        self.cleanup()
        self._assets = assets
        self.change([], config["pack"])

    def change(self, ended: Sequence[str], new: Sequence[dict[str, Any]]) -> None:
        """Drop the trials of these keys, and take those of these configurations; they are built at the next step."""
        for key in ended:
            trial = self._trials.pop(key, None)
            if trial is not None:
                trial.cleanup()
        for config in new:
            trial = PackedTrialRunner()
            trial.setup(dict(config), self._assets)
            self._trials[trial.key] = trial

    def step(self) -> dict[str, Any]:
        """Train and validate one epoch of every trial; a failure is a report of the trial that it belongs to."""
        reports = {key: trial.begin() for key, trial in self._trials.items()}
        ready = [trial for trial in self._trials.values() if reports[trial.key] is None]
        for trial in ready:
            trial.share_images(ready[0])
        started = time.perf_counter()
        outcomes = train_together([trial.replica() for trial in ready])
        seconds = (time.perf_counter() - started) / max(1, len(ready))
        for trial, outcome in zip(ready, outcomes, strict=True):
            reports[trial.key] = trial.end(outcome, seconds)
        return {"pack": [{"key": key, **(report or {})} for key, report in reports.items()]}

    def cleanup(self) -> None:
        self.change(list(self._trials), [])
