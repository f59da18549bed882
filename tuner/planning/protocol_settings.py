"""Applies `--set KEY=VALUE` to the protocol of `--evaluate`: the fields of `EvaluationProtocol`, each in its type."""

import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trainables.base.errors import unknown
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from tuner.base.errors import UsageError
from tuner.planning.metric_values import number
from tuner.planning.space_overrides import key_values

#: {field: (what it acts on, does the protocol measure that?)}; set without it, it would change nothing
_ACTS_ON = {
    "robust_epsilons": ("group robust", lambda p: "robust" in p.groups),
    "ood_epsilons": ("group robust_ood", lambda p: "robust_ood" in p.groups),
    "ood_sides": ("group robust_ood", lambda p: "robust_ood" in p.groups),
    "robust_scores": ("group robust_ood", lambda p: "robust_ood" in p.groups),
    "scores": ("group ood", lambda p: "ood" in p.groups),
    "auto_attack_images": ("auto_attack_epsilons", lambda p: p.auto_attack_epsilons),
    "check_restarts": ("check_steps", lambda p: p.check_steps),
    "check_images": ("check_steps", lambda p: p.check_steps),
    "noise_steps": ("noise_rms", lambda p: p.noise_rms),
}


def with_settings(
    protocol: EvaluationProtocol, texts: Sequence[str], eval_epsilon: Sequence[float] = ()
) -> EvaluationProtocol:
    """Return the protocol, made with the radii of `--eval-epsilon`, with the KEY=VALUE of every `--set`.

    Lists are separated by commas, "none" is an empty one; a radius may be a fraction, as 8/255.

    Raises:
        UsageError: an unknown field (the nearest is named), a value of another type, a field that changes nothing.
        InputError: what `EvaluationProtocol.check` refuses.
    """
    hints = typing.get_type_hints(EvaluationProtocol)
    known = [key for key in hints if key != "name"]
    given: dict[str, Any] = {}
    for key, text in key_values(texts, "steps=50").items():
        if key not in known:
            raise UsageError(f"--set {key}: {unknown('field of a protocol', key, known)}")
        if eval_epsilon and key.endswith("_epsilons"):
            raise UsageError(f"--set {key} and --eval-epsilon both set radii; give one of them")
        try:
            given[key] = _read(text.strip(), hints[key])
        except ValueError as error:
            raise UsageError(f"--set {key}={text}: it must be {error}") from None
    if eval_epsilon:  # those alone: protocol full has a quarter and a half of the first too
        given["ood_epsilons"] = tuple(eval_epsilon)
    settled = replace(protocol, **given).with_full_names()
    settled.check()
    attacked = {"robust", "robust_ood"} & set(settled.groups) or settled.auto_attack_epsilons
    if eval_epsilon and not attacked:
        raise UsageError(
            f"--eval-epsilon changes nothing: protocol {protocol.name} attacks nothing; add --protocol standard"
        )
    for key in given.keys() - ({"ood_epsilons"} if eval_epsilon else set()):
        needs, acts = _ACTS_ON.get(key, ("", lambda p: True))
        if not acts(settled):
            raise UsageError(f"--set {key} changes nothing: protocol {protocol.name} measures no {needs}")
    return settled


def _read(text: str, hint: Any) -> Any:
    """Return a value of a field's type; ValueError with what it must be."""
    if typing.get_origin(hint) is tuple:
        parts = [] if text == "none" else [part.strip() for part in text.split(",")]
        return tuple(_read(part, typing.get_args(hint)[0]) for part in parts)
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError("true or false")
        return text == "true"
    if hint is str:
        return text
    if hint is not int:
        return number(text)
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None
