"""The errors that training code raises on purpose; each message is one line with cause and cure."""


class InputError(ValueError):
    """Something the user gave is wrong: an option, a file, a name. Shown as one line, exit status 2."""


class DataFileError(InputError):
    """A data file is missing, corrupt or not in the documented format; the message names the file."""


class SealedSplitError(RuntimeError):
    """A test split was opened while searching. Search may read train and validation splits only."""


class TrainingFailed(RuntimeError):
    """A trial cannot go on (a loss that is not finite, a collapsed generator); the message is its reason."""
