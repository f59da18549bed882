"""One epoch of several trials: those that can be stacked together, the others one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.base.errors import InputError, TrainingFailed
from trainables.data.loading.device_loader import DeviceLoader
from trainables.options.methods import METHODS
from trainables.options.packing import pack_key, unpackable
from trainables.packed.network import stack
from trainables.packed.trainer import StackedTrainer
from trainables.training.method import Method


@dataclass(frozen=True)
class EpochOutcome:
    """The result of one trial's epoch.

    Attributes:
        means: what `Method.train_epoch` would have returned, {} if it failed.
        error: what it would have raised.
        remark: why the trial was trained alone although it could have been packed.
    """

    means: dict[str, float]
    error: Exception | None = None
    remark: str = ""


@dataclass(frozen=True)
class Replica:
    """A trial within a pack: the method's registered name, the method, how many epochs are behind it."""

    name: str
    method: Any
    epoch: int


def train_together(replicas: Sequence[Replica]) -> list[EpochOutcome]:
    """Train the next epoch of every trial and return each one's outcome, in the given order.

    Trials of equal `pack_key` share every operation; their ages, learning rates, radii and numbers of attack steps
    may differ. One whose loss is not finite fails alone: nothing flows between rows. If a group raises (out of memory,
    say), its trials are put back to the epoch's start and trained one by one, so that only the trial at fault fails.
    """
    outcomes: list[EpochOutcome | None] = [None] * len(replicas)
    for group in groups_of(replicas):
        trained = _train_group([replicas[k] for k in group])
        for k, outcome in zip(group, trained, strict=True):
            outcomes[k] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def groups_of(replicas: Sequence[Replica]) -> list[list[int]]:
    """Return the indices of the trials that can be stacked, by group, most attack steps first."""
    groups: dict[Any, list[int]] = {}
    for k, replica in enumerate(replicas):
        groups.setdefault(_group_key(k, replica), []).append(k)
    for group in groups.values():
        packed = METHODS[replicas[group[0]].name].packed
        if packed is not None and len(group) > 1:
            step = packed.load_step()
            group.sort(key=lambda k: -step.attack_steps(replicas[k].method.options))
    return list(groups.values())


def _group_key(k: int, replica: Replica) -> Any:
    method = replica.method
    loader = getattr(method, "loader", None)
    if unpackable(replica.name, method.options) or not isinstance(loader, DeviceLoader):
        return k  # alone
    # the same array on the device, not only an equal one: a batch is one lookup for all
    return (pack_key(replica.name, method.options), loader.images.data_ptr(), method.device)


def _train_group(replicas: Sequence[Replica]) -> list[EpochOutcome]:
    if len(replicas) == 1:
        return [_alone(replicas[0])]
    before = [_position(replica.method) for replica in replicas]
    try:
        return _stacked(replicas)
    except Exception as error:
        for replica, position in zip(replicas, before, strict=True):
            _put_back(replica.method, position)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        text = " ".join(str(error).split())[:200]
        remark = f"trained alone: its pack of {len(replicas)} raised {type(error).__name__}: {text}"
    return [_alone(replica, remark) for replica in replicas]


def _stacked(replicas: Sequence[Replica]) -> list[EpochOutcome]:
    trainer, steps = stacked_epoch(replicas)
    for _ in steps:
        pass
    trainer.finish()
    return [_ended(replica) for replica in replicas]


def stacked_epoch(replicas: Sequence[Replica]) -> tuple[StackedTrainer, Iterator[None]]:
    """Return the trainer of one group of `groups_of`, and the epoch's steps, each taken when it is asked for.

    The methods keep their weights until `StackedTrainer.finish`.

    Raises:
        InputError: the method or its attack has no packed form.
    """

    def steps() -> Iterator[None]:
        for losses, terms in packed_step.losses():
            trainer.step(losses, terms)
            yield

    methods = [replica.method for replica in replicas]
    network = stack([method.network for method in methods])
    packed = METHODS[replicas[0].name].packed
    if packed is None:
        raise InputError(f"method {replicas[0].name} has no packed form")
    packed_step = packed.load_step()(methods, network, [replica.epoch for replica in replicas])
    trainer = StackedTrainer(network, [method.trainer for method in methods], len(packed_step.loader))
    return trainer, steps()


def _ended(replica: Replica) -> EpochOutcome:
    try:
        return EpochOutcome(replica.method.end_epoch(replica.epoch))
    except TrainingFailed as error:
        return EpochOutcome({}, error)


def _alone(replica: Replica, remark: str = "") -> EpochOutcome:
    try:
        with replica.method.streams.in_charge():
            return EpochOutcome(replica.method.train_epoch(replica.epoch), remark=remark)
    except Exception as error:
        return EpochOutcome({}, error, remark)


def _position(method: Method) -> dict[str, Any]:
    """Return where a method's random streams and outliers are; the weights do not move before the epoch's end."""
    outliers = getattr(method, "outliers", None)
    return {
        "streams": method.streams.positions(),
        "outliers": None if outliers is None else outliers.state_dict(),
    }


def _put_back(method: Any, position: dict[str, Any]) -> None:
    method.streams.go_to(position["streams"])
    if position["outliers"] is not None:
        method.outliers.load_state_dict(position["outliers"])


__all__ = ["EpochOutcome", "Replica", "groups_of", "stacked_epoch", "train_together"]
