"""Deleting checkpoints of ended trials: all but that of the last recorded epoch."""

from collections.abc import Container, Sequence

from trainables.base.storage import Folder
from trainables.training.checkpoints import delete, keep_only
from tuner.base.records import State, TrialRecord
from tuner.base.trial_listener import TrialListener


class Retention(TrialListener):
    """Deletes files of trials that have ended; a listener of the trial queue.

    The worker of a running trial keeps the latest checkpoint and the one before it. Once the end of a trial is stored,
    the checkpoint of its last recorded epoch stays: what a COMPLETE trial is evaluated by (so the best trial's is
    always there), the rung at which a PRUNED one was stopped, the last good epoch of one that failed.

    Attributes:
        problems: one line for each trial of which something could not be deleted.
    """

    def __init__(self, files: Folder) -> None:
        self.files = files
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        return list(self._problems.values())

    def ended(self, record: TrialRecord) -> None:
        """Delete at once in a local folder; requests to an object store would hold up the driver."""
        if self.files.is_local:
            self._keep(record.key, record.checkpoint)

    def sweep(
        self,
        records: Sequence[TrialRecord],
        superseded: Container[str] = (),
        evaluated: Container[str] = (),
    ) -> None:
        """Do it for all trials that have ended, also those whose driver was killed at that moment. One listing.

        Args:
            superseded: confirm trials of a winner that the run no longer has; once evaluated, nothing needs them.
        """
        checkpoints = self._by_trial("checkpoints")
        for record in records:
            if record.state is State.RUNNING or record.key not in checkpoints:
                continue
            unused = record.key in superseded and (
                record.key in evaluated or record.state is not State.COMPLETE
            )
            kept = "" if unused else record.checkpoint
            if checkpoints[record.key] != [kept]:
                self._keep(record.key, kept)

    def samples(self, records: Sequence[TrialRecord]) -> None:
        """Delete what methods of ended trials have left in `files/` but the newest; MLflow must have all of it."""
        samples = self._by_trial("files")
        for record in records:
            if record.state is not State.RUNNING:
                self._note(record.key, delete(self.files, samples.get(record.key, [])[:-1]))

    def _by_trial(self, folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.files.walk(folder):
            names.setdefault(name.split("/")[1], []).append(name)
        return names

    def _keep(self, key: str, checkpoint: str) -> None:
        self._problems.pop(key, None)
        self._note(key, keep_only(self.files, key, checkpoint))

    def _note(self, key: str, left: Sequence[str]) -> None:
        if left:
            self._problems[key] = f"trial {key}: {'; '.join(left)}"
