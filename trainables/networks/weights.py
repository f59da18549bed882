"""Weights from files of this and of other programs, fitted to a classifier; `layouts` has the names that are known."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.base.errors import DataFileError
from trainables.base.storage import check_archive
from trainables.networks.body import Body, Classifier
from trainables.networks.layouts import CONSTANTS, first_convolution, layouts_of, without_prefixes

State = dict[str, Tensor]
#: entries of a checkpoint under which its weights may be, in the order in which they are looked for
ENTRIES = ("network", "classifier", "state_dict", "model_state_dict", "model", "net")
NAMED = 3  #: names that an error message lists on each side


def load_weights(path: Path, network: Classifier, name: str) -> State:
    """Return a state dict of a classifier from a file, without executing anything in it.

    Args:
        network: only its names, shapes and normalisation are used.
        name: of the file, for messages: "pretrain.checkpoint FILE".

    Raises:
        DataFileError: the file is missing, damaged, holds more than tensors and plain values, or does not fit.
    """
    if not path.is_file():
        raise DataFileError(f"{name} is not a file")
    try:
        return fit(_weights_in(_read(path, name)), network)
    except ValueError as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{name} does not fit the network: {error}") from error


def _read(path: Path, name: str) -> Any:
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise DataFileError(
                f"{name} needs safetensors; install it with: pip install safetensors"
            ) from None
        read: Any = load_file
    else:
        read = _torch_load
    try:
        return read(path)
    except Exception as error:  # zip, pickle and runtime errors alike: torch promises no type
        raise DataFileError(
            f"{name} cannot be read ({type(error).__name__}); write it with torch.save(network.state_dict(), path)"
        ) from error


def _torch_load(path: Path) -> Any:
    if zipfile.is_zipfile(path):  # files of before torch 1.6 are none
        check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _weights_in(content: Any) -> State:
    """Return the dict of tensors in what a file holds; ValueError if there is none."""
    for entry in ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            return _weights_in(content[entry])
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError("it is not a dict of tensors")
    return {str(key): value for key, value in content.items()}


def fit(state: State, network: Classifier) -> State:
    """Return weights under the names of a classifier, whatever layout they come in.

    Raises:
        ValueError: no layout fits; the message has the first names that do not match on each side. Or another number
            of classes, another shape, numbers that are not finite, another normalisation.
    """
    wanted = network.state_dict()
    constants = {
        match[1]: tensor.flatten()
        for name, tensor in state.items()
        if name not in wanted and (match := CONSTANTS.fullmatch(name))
    }
    weights = {
        name: tensor for name, tensor in state.items() if not CONSTANTS.fullmatch(name) or name in wanted
    }
    best: tuple[int, str] | None = None
    for prefix in without_prefixes(weights):
        bare = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
        for layout in layouts_of(network.body):
            kept = {n: t for n, t in bare.items() if not re.fullmatch(layout.unused, n)}
            names = layout.renamed(kept)
            renamed = {f"body.{own}": kept[name] for name, own in names.items()}
            missing = [n for n in wanted if n not in renamed and not n.endswith("num_batches_tracked")]
            unknown = [n for n in kept if n not in names or f"body.{names[n]}" not in wanted]
            if not missing and not unknown:
                return _checked(renamed, wanted, network, constants)
            distance = len(missing) + len(unknown)
            if best is None or distance < best[0]:
                best = distance, _mismatch([_shown(n, network.body) for n in missing], unknown)
    assert best is not None  # every body has a layout
    raise ValueError(best[1])


def _shown(name: str, body: Body) -> str:
    """Return a name as the module had it before its last layer was taken out."""
    own, head = name.removeprefix("body."), getattr(body, "head_name", "")
    return own.removeprefix("layers.").replace("head.", f"{head}.") if head else own


def _mismatch(missing: list[str], unknown: list[str]) -> str:
    sides = (("it lacks", missing), ("it has", unknown))
    return "; ".join(
        f"{what}: {', '.join(names[:NAMED])}"
        + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        for what, names in sides
        if names
    )


def _checked(state: State, wanted: Mapping[str, Tensor], network: Classifier, constants: State) -> State:
    head = "body.head.weight"
    if state[head].shape[:1] != wanted[head].shape[:1]:
        raise ValueError(f"it has {len(state[head])} classes, the data set {len(wanted[head])}")
    fitted: State = {}
    for name, own in wanted.items():
        if name not in state:  # num_batches_tracked of programs that do not store it
            fitted[name] = torch.zeros((), dtype=own.dtype)
            continue
        if state[name].shape != own.shape:
            raise ValueError(
                f"{_shown(name, network.body)} has shape {tuple(state[name].shape)}, not {tuple(own.shape)}"
            )
        if not torch.isfinite(state[name]).all():
            raise ValueError(f"{_shown(name, network.body)} holds values that are not finite")
        fitted[name] = state[name].to(own.dtype).clone()
    if constants:
        _adapt(fitted, network, constants)
    return fitted


def _adapt(state: State, network: Classifier, constants: State) -> None:
    """Let the first convolution make up for another standard deviation than the network's.

    Another mean cannot be made up for at the borders, which are padded with zeros behind the normalisation.
    """
    mean = constants.get("mean", constants.get("mu"))
    std = constants.get("std", constants.get("sigma"))
    own_mean, own_std = network.normalize.constants()
    stem = first_convolution(network.body)
    if mean is None or std is None or stem is None:
        raise ValueError(
            f"it stores the constants {', '.join(constants)} of a normalisation that is not known here"
        )
    if mean.numel() != own_mean.numel() or not torch.allclose(mean.float(), own_mean, atol=1e-4):
        theirs, ours = ([round(float(v), 4) for v in values] for values in (mean, own_mean))
        raise ValueError(f"it normalises by the mean {theirs}, the network here by {ours}")
    ratio = (own_std / std.float()).view(1, -1, 1, 1)
    if not torch.equal(ratio, torch.ones_like(ratio)):
        (name,) = [n for n, module in network.named_modules() if module is stem]
        state[f"{name}.weight"] *= ratio
