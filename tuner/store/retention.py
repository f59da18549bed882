"""Deleting checkpoints that nothing needs any more, of ended trials and of epochs that a better one has followed."""

from collections.abc import Collection, Container, Sequence

from trainables.base.storage import Folder
from trainables.training.checkpoint_files import delete, keep_only, retain
from tuner.base.records import State, TrialRecord
from tuner.base.trial_listener import TrialListener


class Retention(TrialListener):
    """Deletes files of trials that have ended; a listener of the trial queue.

    The worker of a running trial keeps the latest checkpoint and the one before it. Once the end of a trial is stored,
    the checkpoint that it is evaluated by stays (so the best trial's is always there): of a COMPLETE trial that of its
    last or best epoch, of a PRUNED one the rung at which it was stopped, of one that failed its last good epoch. A
    trial of the confirm stage that is judged by its best epoch keeps its last one too: the report shows it beside.

    Attributes:
        problems: one line for each trial of which something could not be deleted.
    """

    def __init__(self, files: Folder) -> None:
        self.files = files
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        return list(self._problems.values())

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        """Delete the epochs that the best so far has beaten; the worker keeps all that may be the best."""
        if record.judged_epoch and self.files.is_local:
            self._note(record.key, retain(self.files, record.key, epoch, (record.judged_epoch,)))

    def ended(self, record: TrialRecord) -> None:
        """Delete at once in a local folder; requests to an object store would hold up the driver."""
        if self.files.is_local:
            self._keep(record.key, _needed(record))

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
            kept = set() if unused else _needed(record)
            if set(checkpoints[record.key]) != kept:
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

    def _keep(self, key: str, kept: Collection[str]) -> None:
        self._problems.pop(key, None)
        self._note(key, keep_only(self.files, key, kept))

    def _note(self, key: str, left: Sequence[str]) -> None:
        if left:
            self._problems[key] = f"trial {key}: {'; '.join(left)}"


def _needed(record: TrialRecord) -> set[str]:
    """Return the checkpoints of an ended trial that are evaluated."""
    names = {record.checkpoint}
    if record.lane == "confirm":
        names.add(record.last_checkpoint)
    return names - {""}
