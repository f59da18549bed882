"""The types of the keyword arguments, for editors and type checkers; a test compares them with the declared options.

`help(robust_tuner.run)` says what each one means.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

#: a name, or a class or function of the user's own that other processes can import
Code = str | Callable[..., Any]
Names = str | Sequence[str]
Place = str | Path
Settings = Mapping[str, Any]


class LaunchArguments(TypedDict, total=False):
    """What `run` and `resume` take."""

    method: Code
    arms: Names | None
    protocol: str
    stages: Names
    trials: int | None
    max_epochs: int | None
    time_budget: str | float | None
    epoch_budget: int | None
    gpu_budget: str | float | None
    confirm_seeds: int | None
    seed: int | None
    sampler: Code
    scheduler: str
    learning_curves: bool
    epoch: Literal["last", "best"] | None
    objective: Names
    floor: Names
    eval_epsilon: str | float | Sequence[float]
    warm_start: Names
    dataset: Code
    data_dir: Place
    settings: Settings
    allow_duplicates: bool
    champion: bool
    gpus_per_trial: float | Literal["auto"] | None
    cpus_per_trial: int | None
    epoch_timeout: str | float | None
    concurrency: int | None
    pack: int | Literal["auto", "off"] | None
    address: str | None
    storage: Place
    study_storage: str | None
    tracking_uri: str | None


class RunArguments(LaunchArguments, total=False):
    """What `run` takes."""

    train: bool
    preset: str | None
    run_name: str | None


class ResumeArguments(LaunchArguments, total=False):
    """What `resume` takes."""

    allow_changed_code: bool


class EvaluateArguments(TypedDict, total=False):
    """What `evaluate` takes."""

    protocol: str
    dataset: Code
    data_dir: Place
    settings: Settings
    network: Code
    eval_epsilon: str | float | Sequence[float]
    allow_changed_code: bool
    cpus_per_trial: int | None
    storage: Place
    tracking_uri: str | None
