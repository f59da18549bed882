"""Options of the methods: plain frozen dataclasses, readable without torch."""

from trainables.base.schema import build, fields_of, flatten, to_flat

__all__ = ["build", "fields_of", "flatten", "to_flat"]
