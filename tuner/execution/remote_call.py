"""Calls a function of a worker by its name: what only workers need is not imported by the driver."""

from typing import Any

from trainables.base.registry import resolve_reference


def call(reference: str, *arguments: Any) -> Any:
    """Return what the function "module:name" returns."""
    return resolve_reference(reference)(*arguments)
