"""One file per checkpoint: everything a trial needs to go on, and the classifier alone for whoever evaluates it."""

import io
import re
from typing import Any

import torch
from torch import nn

import trainables
from trainables.data.splits import DatasetInfo
from trainables.errors import DataFileError
from trainables.method import Method
from trainables.options import build, to_flat
from trainables.storage import Folder

FORMAT = 1
_NAME = re.compile(r"epoch-(\d+)\.pt$")


def checkpoint_name(key: str, epoch: int) -> str:
    """Return the file's name relative to the run folder."""
    return f"checkpoints/{key}/epoch-{epoch:04d}.pt"


def pack(method_name: str, method: Method, epoch: int, info: DatasetInfo) -> bytes:
    """Return a checkpoint's bytes: options, method state, random streams, classifier, after `epoch` epochs.

    The classifier's tensors are shared with the method's state and stored once.
    """
    content = {
        "format": FORMAT,
        "method": method_name,
        "options": to_flat(method.options),
        "epoch": epoch,
        "passes": method.passes,
        "state": method.state_dict(),
        "streams": method.streams.state_dict(),
        "classifier": method.classifier().state_dict(),
        "dataset": {
            "name": info.name,
            "num_classes": info.num_classes,
            "shape": info.shape,
            "mean": info.mean,
            "std": info.std,
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack(data: bytes, name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        DataFileError: truncated, corrupt, of another program, or of a newer format.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:
        raise DataFileError(
            f"{name} is not a readable checkpoint: {str(error).splitlines()[0][:200]}"
        ) from error
    if not isinstance(content, dict) or "format" not in content or "classifier" not in content:
        raise DataFileError(f"{name} is not a checkpoint of this program (no format entry)")
    if content["format"] > FORMAT:
        raise DataFileError(f"{name} has format {content['format']}; this version reads up to {FORMAT}")
    return content


def restore(method: Method, content: dict[str, Any]) -> int:
    """Put a checkpoint's state into a freshly built method and return how many epochs are behind it."""
    method.load_state_dict(content["state"])
    method.streams.load_state_dict(content["streams"])
    method.passes = float(content["passes"])
    return int(content["epoch"])


def load_latest(folder: Folder, name: str, device: torch.device | str) -> tuple[dict[str, Any], list[str]]:
    """Read a checkpoint, or the newest readable one before it.

    Returns:
        (content, problems): one line for each file that could not be read.

    Raises:
        DataFileError: no file of this trial can be read.
    """
    key = name.rsplit("/", 1)[0]
    epoch = _epoch_of(name)
    earlier = [f"{key}/{n}" for n in folder.names(key) if _NAME.search(n) and _epoch_of(n) < epoch]
    problems: list[str] = []
    for candidate in [name, *sorted(earlier, key=_epoch_of, reverse=True)]:
        try:
            return unpack(folder.read(candidate), candidate, device), problems
        except FileNotFoundError:
            problems.append(f"{candidate} is missing")
        except DataFileError as error:
            problems.append(str(error))
    raise DataFileError("; ".join(problems))


def retain(folder: Folder, key: str, epoch: int) -> None:
    """Delete a trial's checkpoints but the latest and the one before it.

    The one before stays: the driver may not have recorded the latest yet, and it is the fallback if that is corrupt.
    """
    for file in folder.names(f"checkpoints/{key}"):
        if _NAME.search(file) and _epoch_of(file) < epoch - 1:
            folder.delete(f"checkpoints/{key}/{file}")


def _epoch_of(name: str) -> int:
    match = _NAME.search(name)
    return int(match.group(1)) if match else -1


def classifier_of(content: dict[str, Any], device: torch.device | str = "cpu") -> nn.Module:
    """Rebuild the classifier of a checkpoint, in eval mode."""
    entry = trainables.get(content["method"])
    d = content["dataset"]
    info = DatasetInfo(d["name"], d["num_classes"], tuple(d["shape"]), tuple(d["mean"]), tuple(d["std"]))
    network: nn.Module = entry.load_method().build_classifier(
        build(entry.load_options(), content["options"]), info
    )
    network.load_state_dict(content["classifier"])
    return network.to(device).eval()
