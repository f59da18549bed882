"""The classifier of a stored trial, for programs that read a run."""

from typing import TYPE_CHECKING

from trainables.base.user_code import approve
from tuner.base.errors import UsageError
from tuner.base.known_list import known
from tuner.base.records import TrialRecord
from tuner.planning.user_code import LIST
from tuner.store.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import nn


def classifier_of_trial(folder: RunFolder, record: TrialRecord) -> "nn.Module":
    """Return the classifier of a trial's last kept epoch, on the CPU and in eval mode.

    Raises:
        UsageError: the trial has no checkpoint, or its file is not there.
        InputError: the file is damaged, or needs code that this user has never launched with.
    """
    from trainables.training import checkpoints

    where = f"trial {record.key} of run {folder.name!r}"
    if not record.checkpoint:
        raise UsageError(f"{where} has no checkpoint: it has not finished an epoch")
    try:
        data = folder.files.read(record.checkpoint)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{where}: {folder.uri}/{record.checkpoint} cannot be read: {reason}") from error
    approve(known(LIST))
    content = checkpoints.unpack(data, record.checkpoint)
    return checkpoints.classifier_of(content, name=record.checkpoint)
