"""Checkpoints, one file each: all that a trial needs to resume, and the classifier's weights for evaluation."""

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainables.base.errors import DataFileError, InputError, unknown
from trainables.base.storage import Folder, check_archive
from trainables.data.types.splits import DatasetInfo
from trainables.options import build, to_flat
from trainables.options.methods import METHODS
from trainables.options.networks import refuse_unapproved
from trainables.training.checkpoint_files import earlier
from trainables.training.method import Method

FORMAT = 1


class ForeignCheckpoint(DataFileError):
    """A file that can be read, but another program wrote it."""


def pack(method_name: str, method: Method, epoch: int, info: DatasetInfo) -> bytes:
    """Return a checkpoint's bytes: options, method state, random streams, classifier, after `epoch` epochs.

    The classifier's tensors are shared with the method's state and stored once.
    """
    return to_bytes(
        method_name,
        method.options,
        method.classifier().state_dict(),
        info,
        epoch=epoch,
        passes=method.passes,
        state=method.state_dict(),
        streams=method.streams.state_dict(),
    )


def to_bytes(
    method_name: str,
    options: Any,
    classifier: Mapping[str, torch.Tensor],
    info: DatasetInfo,
    *,
    epoch: int = 0,
    passes: float = 0.0,
    state: Mapping[str, Any] | None = None,
    streams: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a checkpoint's bytes; without state and streams it can be evaluated and not resumed."""
    content = {
        "format": FORMAT,
        "method": method_name,
        "options": to_flat(options),
        "epoch": epoch,
        "passes": passes,
        "state": state or {},
        "streams": streams or {},
        "classifier": classifier,
        "dataset": {
            "name": info.name,
            "num_classes": info.num_classes,
            "shape": info.shape,
            "mean": info.mean,
            "std": info.std,
            "crop": info.crop,
            "pad": info.pad,
            "classes": info.classes,
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack(data: bytes, name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        DataFileError: truncated, corrupt (a single flipped bit is noticed), of another program, or of a newer format.
    """
    try:
        check_archive(io.BytesIO(data))
        content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to load it all the same
        raise DataFileError(
            f"{name} is not a readable checkpoint: damaged, or it holds more than tensors and plain values"
        ) from error
    except Exception as error:
        raise DataFileError(
            f"{name} is not a readable checkpoint: {str(error).splitlines()[0][:200]}"
        ) from error
    if not isinstance(content, dict) or "format" not in content or "classifier" not in content:
        raise ForeignCheckpoint(f"{name} is not a checkpoint of this program (no format entry)")
    problem = _problem(content)
    if problem:
        raise DataFileError(f"{name} is not a checkpoint that can be used: {problem}")
    return content


def _problem(content: dict[str, Any]) -> str:
    """Return what is wrong with the entries of a checkpoint, "" if nothing is."""
    kinds: dict[str, Any] = {
        "format": int,
        "method": str,
        "options": dict,
        "epoch": int,
        "passes": (int, float),
    }
    kinds |= dict.fromkeys(("state", "streams", "classifier", "dataset"), Mapping)
    for key, kind in kinds.items():
        if key not in content:
            return f"{key} is missing"
        if not isinstance(content[key], kind) or isinstance(content[key], bool):
            return f"{key} is of type {type(content[key]).__name__}"
    if content["format"] > FORMAT:
        return f"it has format {content['format']}; this version reads up to {FORMAT}"
    if content["method"] not in METHODS.names:
        try:
            if METHODS.code(content["method"]) is None:
                return unknown("method", content["method"], METHODS.names)
        except InputError as error:
            return str(error)
    if content["epoch"] < 0:
        return f"epoch is {content['epoch']}"
    for key, value in content["classifier"].items():
        if not isinstance(value, torch.Tensor):
            return f"classifier[{key!r}] is no tensor"
    return _problem_of_dataset(content["dataset"])


def _problem_of_dataset(entry: Mapping[str, Any]) -> str:
    missing = {"name", "num_classes", "shape", "mean", "std"} - entry.keys()
    if missing:
        return f"dataset[{min(missing)!r}] is missing"
    if not isinstance(entry["name"], str):
        return f"dataset['name'] is {entry['name']!r}"
    counts = [entry["num_classes"], *_listed(entry["shape"])]
    if len(counts) != 4 or not all(type(count) is int and 0 < count < 2**31 for count in counts):
        return f"dataset has {entry['num_classes']!r} classes and images {entry['shape']!r}"
    for key in ("mean", "std"):
        values = _listed(entry[key])
        if len(values) != counts[1] or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
            return f"dataset[{key!r}] is {entry[key]!r}; it must be {counts[1]} finite numbers"
    crop, classes = entry.get("crop", 1.0), entry.get("classes", ())
    if type(crop) not in (int, float) or not 0 < crop <= 1:
        return f"dataset['crop'] is {crop!r}; it must be above 0 and at most 1"
    pad = entry.get("pad", 0)
    if type(pad) is not int or not 0 <= 2 * pad < min(counts[2:]):
        return f"dataset['pad'] is {pad!r}; it must be a number of pixels, less than half a side"
    whole = isinstance(classes, list | tuple) and all(type(name) is str for name in classes)
    if not whole or len(classes) not in (0, counts[0]):
        return f"dataset['classes'] must hold {counts[0]} names or none"
    return ""


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def restore(method: Method, content: dict[str, Any]) -> int:
    """Put a checkpoint's state into a freshly built method and return how many epochs are behind it."""
    method.load_state_dict(content["state"])
    method.streams.load_state_dict(content["streams"])
    method.passes = float(content["passes"])
    return int(content["epoch"])


def load_latest(
    folder: Folder, name: str, device: torch.device | str
) -> tuple[dict[str, Any] | None, list[str]]:
    """Read a checkpoint, or the newest readable one before it.

    Returns:
        (content, problems): None if no file of this trial can be read: the trial then starts over, with the same
        result; one line for each file that could not be read.
    """
    problems: list[str] = []
    for candidate in [name, *earlier(folder, name)]:
        try:
            return unpack(folder.read(candidate), candidate, device), problems
        except FileNotFoundError:
            problems.append(f"{candidate} is missing")
        except DataFileError as error:
            problems.append(str(error))
        except OSError as error:  # a bad sector, a stale network mount
            problems.append(f"{candidate} cannot be read: {error}")
    return None, problems


def options_of(content: dict[str, Any], name: str) -> Any:
    """Return the options that a checkpoint's classifier was trained with.

    Raises:
        DataFileError: an option that this version does not have, or a value that it cannot have.
    """
    try:
        refuse_unapproved(str(content["options"].get("network", "")))
        return build(METHODS[content["method"]].options, content["options"])
    except InputError as error:
        raise DataFileError(f"{name} is not a checkpoint that can be used: {error}") from error


def info_of(content: dict[str, Any]) -> DatasetInfo:
    """Return what a checkpoint holds of the data set that its classifier was trained on.

    A checkpoint of an earlier version has no names of classes, and no share of the side that is kept of a picture.
    """
    entry = content["dataset"]
    return DatasetInfo(
        entry["name"],
        entry["num_classes"],
        tuple(entry["shape"]),
        tuple(entry["mean"]),
        tuple(entry["std"]),
        crop=float(entry.get("crop", 1.0)),
        classes=tuple(entry.get("classes", ())),
        pad=entry.get("pad", 0),
    )


def classifier_of(
    content: dict[str, Any], device: torch.device | str = "cpu", name: str = "the checkpoint"
) -> nn.Module:
    """Rebuild the classifier of a checkpoint, in eval mode.

    Raises:
        DataFileError: weights that do not fit the network, or that are not finite.
    """
    entry, options = METHODS[content["method"]], options_of(content, name)
    network: nn.Module = entry.load_method().build_classifier(options, info_of(content))
    try:
        network.load_state_dict(content["classifier"])
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(": ")[2][:200]
        raise DataFileError(
            f"{name}: the weights do not fit the network that its options name: {reason}"
        ) from error
    for key, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise DataFileError(
                f"{name}: weights {key} hold numbers that are not finite; it cannot be scored"
            )
    return network.to(device).eval()
