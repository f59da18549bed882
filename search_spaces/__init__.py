"""The shipped studies by name, one file each; a study is pure data."""

import difflib
from importlib import import_module

from search_spaces.domain import SpaceError
from search_spaces.study import Study

NAMES = (
    "aoe_sigma",
    "aoe_attacks",
    "energy_margins",
    "ant_strength",
    "robgan",
    "robgan_finetune",
    "dyart_margin",
    "adversarial_baselines",
    "compare_methods",
)


def get(name: str) -> Study:
    """Return a study by name, or raise SpaceError with the nearest known name."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(NAMES)}"
        raise SpaceError(f"unknown study {name!r}; {hint}")
    study: Study = import_module(f"search_spaces.{name}").STUDY
    return study
