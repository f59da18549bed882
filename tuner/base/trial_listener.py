"""Base class of what follows a run's trials: tracking, the console, the retention of checkpoints."""

from collections.abc import Mapping
from pathlib import Path

from tuner.base.records import TrialRecord


class TrialListener:
    """Is called for every event of a trial, on the driver's thread and after the storage holds it.

    Does nothing; a subclass overrides the events that it follows.
    """

    def started(self, record: TrialRecord) -> None:
        """Take the start of a trial, the first or a later one (`record.attempt`)."""

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        """Take the end of an epoch, counted from 1; its metrics are in `record.history`."""

    def ended(self, record: TrialRecord) -> None:
        """Take the end of a trial: COMPLETE, PRUNED or FAIL."""

    def evaluated(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        """Take what was measured of a trial on the test splits."""

    def artifact_written(self, key: str, path: Path) -> None:
        """Take a file that the trial `key` left in the run folder."""
