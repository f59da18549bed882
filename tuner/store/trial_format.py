"""How a trial is stored in Optuna's storage: read back as a record, each value checked against its checksum."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from tuner.base.checksums import MARK, Damaged, checked
from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole, trial_key
from tuner.base.typed_json import Mismatch, read
from tuner.search.sampler_study import constraint_attributes

TRIAL = "trial"  # the attribute with what a trial was created from; in runs of old an attribute for each
END = "end"  # the attribute with how it ended; in runs of old the reason alone, as "reason"
PRUNED = "pruned"  # constraint of a complete trial that was stopped early, where there are several objectives
STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAIL,
    TrialState.RUNNING: State.RUNNING,
}


def record_of(frozen: FrozenTrial, lane: str, role: TrialRole, with_checksums: bool = False) -> TrialRecord:
    """Return a stored trial as a value.

    Args:
        role: of the lane; a trial may say otherwise.
        with_checksums: of the lane, see `checksums.MARK`.

    Raises:
        Damaged: it is not what was written.
    """
    key = trial_key(lane, frozen.number)
    try:
        return _record_of(frozen, lane, role, with_checksums)
    except Damaged as error:
        raise Damaged(f"trial {key}: {error}") from error
    except Mismatch as error:
        raise Damaged(f"trial {key} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"trial {key} cannot be read: {type(error).__name__}: {error}") from error


def _record_of(frozen: FrozenTrial, lane: str, role: TrialRole, with_checksums: bool) -> TrialRecord:
    attrs = _attributes(frozen, lane, with_checksums)
    about = _read(Mapping[str, Any], attrs.get(TRIAL, attrs), TRIAL)
    starts = _read(tuple[str, ...], attrs.get("starts") or about.get("starts", []), "starts")
    history = {
        int(key.removeprefix("epoch/")): _epoch(value, key)
        for key, value in attrs.items()
        if key.startswith("epoch/")
    }
    stopped = frozen.state is TrialState.COMPLETE and frozen.constraints.get(PRUNED, 0.0) > 0
    state = State.PRUNED if stopped else STATES[frozen.state]
    ended = _read(Mapping[str, Any], attrs.get(END, attrs) if state is not State.RUNNING else {}, END)
    reason = _read(str, ended.get("reason", ""), "reason")
    if with_checksums:
        _check_whole(frozen, history, ended)
    return TrialRecord(
        lane=lane,
        number=frozen.number,
        role=TrialRole(about.get("role", role.value)),
        state=state,
        params=dict(frozen.params),
        configuration=_read(Mapping[str, Any], about.get("configuration", {}), "configuration"),
        seed=_read(int, about.get("seed", 0), "seed"),
        history=dict(sorted(history.items())),
        reason=stop_reason(max(history, default=0)) if state is State.PRUNED else reason,
        attempt=len(starts),
        method=_read(str, about.get("method", ""), "method"),
        arm=_read(str, about.get("arm", ""), "arm"),
        seed_index=_read(int, about.get("seed_index", -1), "seed_index"),
        starts=starts,
        judged_epoch=_judged_epoch(ended, history),
    )


def _epoch(value: Any, key: str) -> Epoch:
    entry = _read(Mapping[str, Any], value, key)
    metrics = _read(Mapping[str, float], entry["metrics"], f"{key}.metrics")
    return Epoch(
        {name: float(number) for name, number in metrics.items()},
        Decision(_read(str, entry["decision"], f"{key}.decision")),
        _read(str, entry["checkpoint"], f"{key}.checkpoint"),
        _read(tuple[int, int], entry["place"], f"{key}.place") if "place" in entry else None,
    )


def _judged_epoch(ended: Mapping[str, Any], history: Mapping[int, Epoch]) -> int:
    epoch: int = _read(int, ended.get("judged_epoch", 0), "judged_epoch")
    if epoch and epoch not in history:
        raise Damaged(f"it is judged by epoch {epoch}, which is not there")
    return epoch


def _attributes(frozen: FrozenTrial, lane: str, with_checksums: bool) -> dict[str, Any]:
    """Return a trial's attributes, checked; the checksum of `TRIAL` covers all that the trial was created with."""
    constraints = constraint_attributes(frozen.constraints)
    attributes = {k: v for k, v in frozen.system_attrs.items() if k not in constraints}
    created = created_with(frozen.params, frozen.distributions, attributes)
    return {
        key: checked(
            stored,
            key,
            lane,
            frozen.number,
            key,
            *(created if key == TRIAL else ()),
            required=with_checksums,
        )
        for key, stored in frozen.user_attrs.items()
    }


def created_with(
    params: Mapping[str, Any], space: Mapping[str, BaseDistribution], attributes: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return what the checksum of `TRIAL` covers beside its own value.

    Args:
        attributes: of the system, those of constraints left out.
    """
    return params, {name: distribution_to_json(domain) for name, domain in space.items()}, attributes


def end_of(
    state: TrialState,
    reason: str,
    epochs: int,
    values: Sequence[float] | None,
    constraints: Mapping[str, float],
    judged_epoch: int = 0,
) -> dict[str, Any]:
    """Return the attribute `END`: what the storage holds of a trial's end outside of its attributes, and the reason.

    Args:
        judged_epoch: see `TrialRecord`; left out if it is the last, as before there was a choice.
    """
    return {
        **({"judged_epoch": judged_epoch} if judged_epoch else {}),
        "state": state.name,
        "reason": reason,
        "epochs": epochs,
        "values": None if values is None else list(values),
        "constraints": dict(constraints),
    }


def _check_whole(frozen: FrozenTrial, history: Mapping[int, Epoch], ended: Mapping[str, Any]) -> None:
    """Raise Damaged if something is missing, or if what has no checksum of its own differs from what has."""
    if TRIAL not in frozen.user_attrs:
        raise Damaged(f"{TRIAL} is missing")
    if sorted(history) != list(range(1, len(history) + 1)):
        raise Damaged(f"of its epochs only {', '.join(map(str, sorted(history)))} are there")
    if frozen.state is TrialState.RUNNING:
        if frozen.datetime_complete is not None:  # its values may be there: they are read after the state
            raise Damaged("its state is RUNNING, but it has ended")
        return
    found = end_of(frozen.state, ended.get("reason", ""), len(history), frozen.values, frozen.constraints)
    wrong = [name for name, value in found.items() if ended.get(name) != value]
    if wrong:
        raise Damaged(f"its {wrong[0]} is {found[wrong[0]]}, but {ended.get(wrong[0])} when it ended")


def facts_of(attributes: Mapping[str, Any], lane: str) -> dict[str, Any]:
    """Return the facts that are stored under a lane, checked.

    Raises:
        Damaged: one is not what was written, or is nothing that could have been.
    """
    required = MARK in attributes
    facts = {k: checked(v, k, lane, k, required=required) for k, v in attributes.items() if k != MARK}
    for key, value in facts.items():
        try:
            _check_fact(key, value)
        except Mismatch as error:
            raise Damaged(f"a note of {lane} cannot be read: {error}") from error
    return facts


#: {what comes before the slash of a fact's key: its type}
_FACTS: dict[str, Any] = {
    "evaluation": Mapping[str, float],
    "evaluated": Mapping[str, Any],
    "last_epoch": Mapping[str, Any],
    "reference": Mapping[str, float],
    "superseded": tuple[str, ...],
}
_CAME_LATER = "scores_sha256"
#: {such a fact: {its entry: type}}
_ENTRIES: dict[str, dict[str, Any]] = {
    "evaluated": {"protocol": str, "remarks": tuple[str, ...], _CAME_LATER: str},
    "last_epoch": {"protocol": str, "metrics": Mapping[str, float]},
}


def _check_fact(key: str, value: Any) -> None:
    """Raise Mismatch for a fact of another type than its readers rest on."""
    kind = key.partition("/")[0]
    if kind in _FACTS:
        _read(_FACTS[kind], value, key)
    for name, hint in _ENTRIES.get(kind, {}).items():
        if name in value:
            _read(hint, value[name], f"{key}.{name}")
        elif name != _CAME_LATER:
            raise Mismatch(f"{key}.{name} is missing")


def _read(hint: Any, value: Any, place: str) -> Any:
    """Return a JSON value as a type, or raise Mismatch; a number need not be finite: a metric may have no value."""
    return read(hint, value, place, {float: _number})


def _number(value: Any) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            float(value)
            return value
    raise ValueError(f"{repr(value)[:40]} is no number")


def stop_reason(epoch: int) -> str:
    """Return the reason of a trial that a scheduler stopped after an epoch."""
    return f"stopped at epoch {epoch}"
