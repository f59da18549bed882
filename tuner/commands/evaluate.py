"""`launch.py --evaluate CHECKPOINT`: scores one checkpoint by one protocol, without a study and without Ray."""

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainables.base.storage import Folder
from trainables.base.user_code import approve, name_code, name_codes
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.data.types.radii import Radii, radii_of
from trainables.evaluation.metrics import presets
from trainables.options.methods import METHODS
from trainables.options.networks import NETWORKS
from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.known_list import known, remember
from tuner.base.text import listed, show
from tuner.commands.json_file import only_json_on_stdout, write_json
from tuner.console.evaluation_text import as_text
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.option_values import check_name
from tuner.planning.protocol_settings import with_settings
from tuner.planning.space_overrides import key_values
from tuner.planning.task_options import STDOUT
from tuner.planning.user_code import LIST, name_own_code
from tuner.store.run_folder import RunFolder, find_by_id
from tuner.tracking.mlflow_uris import DEFAULT_URI
from tuner.tracking.run_lookup import looks_like_run, trial_key_of, trial_of_run

_CHECKPOINT = re.compile(r"epoch-(\d+)\.pt")


@dataclass(frozen=True)
class Target:
    """A checkpoint file: folder (path or URI) and the file's name in it."""

    folder: str
    name: str

    def __str__(self) -> str:
        return self.name if self.folder == "." else f"{self.folder.rstrip('/')}/{self.name}"


def evaluate(options: LaunchOptions) -> str:
    """Score the checkpoint that the options name and return what to print; see `measured`."""
    to_file = options.json if options.json != STDOUT else None
    if to_file and not Path(to_file).resolve().parent.is_dir():
        raise UsageError(f"--json {to_file}: there is no folder {Path(to_file).parent}")
    with only_json_on_stdout(options.json):
        scores = measured(options)
    if options.json == STDOUT:
        return json.dumps(scores, indent=2)
    text = as_text(scores)
    if to_file:
        try:
            write_json(to_file, json.dumps(scores, indent=2))
        except UsageError:
            show(text)  # what was measured took minutes
            raise
    return text


def measured(options: LaunchOptions) -> dict[str, Any]:
    """Score the checkpoint that the options name and return the evaluation as JSON values.

    Raises:
        UsageError: a checkpoint that is not there.
        InputError: a file, a data set or a protocol that does not suit.
    """
    name = presets.PRESETS[options.protocol or presets.DEFAULT].name  # before anything is imported or read
    assert options.evaluate is not None
    target = find_checkpoint(options.evaluate, options.storage, options.tracking_uri)
    environment.apply_defaults()
    name_own_code(options)
    if options.dataset is not None:
        remember(LIST, DATASETS.digests(options.dataset).values())
    if options.network is None:
        approve(known(LIST))
        return score(target, name, options)
    with tempfile.TemporaryDirectory(prefix="robust-tune-") as folder:
        converted, rest = _with_weights(target, options, folder)
        return {**score(converted, name, rest), "checkpoint": str(target)}


def _with_weights(target: Target, options: LaunchOptions, folder: str) -> tuple[Target, LaunchOptions]:
    """Return a checkpoint made of a file of weights alone, and the options that are left for its evaluation.

    Raises:
        UsageError: no data set is named.
        InputError: the weights do not fit the network.
    """
    from trainables.training.foreign import checkpoint_of_weights

    assert options.network is not None
    if options.dataset is None:
        raise UsageError("--network needs --dataset: what the weights were trained on")
    settings = key_values(options.settings, "steps=50")
    normalize = settings.pop("normalize", "dataset")
    info = dataset_info(options.dataset, options.data_dir or "")
    if (own := NETWORKS.code(options.network)) is not None:
        remember(LIST, name_code(str(own)).digests().values())
    content = checkpoint_of_weights(
        Path(target.folder) / target.name, options.network, normalize, info, options.data_dir or ""
    )
    (Path(folder) / "weights.pt").write_bytes(content)
    rest = tuple(f"{key}={value}" for key, value in settings.items())
    return Target(folder, "weights.pt"), replace(options, settings=rest)


def score(target: Target, protocol_name: str, options: LaunchOptions) -> dict[str, Any]:
    """Return the evaluation of a checkpoint as JSON values.

    Raises:
        InputError: the checkpoint or the data cannot be read, or do not belong together.
    """
    from trainables.data.loading.leakage import leakage_notes
    from trainables.training import checkpoints
    from tuner.execution import remote_tasks

    started = time.monotonic()
    try:
        content = checkpoints.unpack(_read(target), str(target))
    except checkpoints.ForeignCheckpoint as error:
        raise UsageError(f"{error}; for weights of another one add --network NAME --dataset NAME") from error
    if options.allow_changed_code:
        name_codes([content["method"], *content["options"].values()])
    known, trained = content["dataset"], checkpoints.options_of(content, str(target))
    dataset = DATASETS[options.dataset or known["name"]].name
    data_dir = options.data_dir or trained.data_dir
    if options.data_dir and "://" not in options.data_dir and not Path(options.data_dir).is_dir():
        raise UsageError(f"--data-dir {options.data_dir} is not a folder")
    info = dataset_info(dataset, data_dir)
    if (info.num_classes, tuple(info.shape)) != (known["num_classes"], tuple(known["shape"])):
        raise UsageError(
            f"{dataset} has {info.num_classes} classes and images {tuple(info.shape)}, the classifier in {target} was "
            f"made for {known['num_classes']} and {tuple(known['shape'])} ({known['name']})"
        )
    check_dataset_files(dataset, data_dir)
    names = _note_on_classes(dataset, info.classes, known.get("classes", ()), target)
    radii = radii_of(dataset, info.shape)
    if options.eval_epsilon:
        radii = Radii(options.eval_epsilon, options.eval_epsilon)
    own = presets.named(protocol_name, radii, METHODS[content["method"]].score)
    protocol = with_settings(own, options.settings, options.eval_epsilon)
    checkpoints.classifier_of(content, name=str(target))  # what cannot be scored, before the data are loaded
    # the user's own caches: a checkpoint may come from anybody, and so may the evaluations in a folder that it names
    benchmark, notes = remote_tasks.load_tests(dataset, data_dir, protocol.groups, cache_dir="")
    if DATASETS[dataset].users_own:
        notes += leakage_notes(dataset, data_dir, (), allowed=True)
    version = remote_tasks.data_version(benchmark)
    measured = remote_tasks.evaluate_checkpoint(
        target.folder,
        target.name,
        benchmark,
        protocol,
        min(options.cpus_per_trial or trained.threads, os.cpu_count() or 1),
        version,
    )
    return {
        "checkpoint": str(target),
        "method": content["method"],
        "network": str(getattr(trained, "network", "")),
        "epoch": int(content["epoch"]),
        "dataset": dataset,
        "data_version": version,
        "protocol": asdict(protocol),
        # JSON has no NaN
        "metrics": {k: v if math.isfinite(v) else None for k, v in measured.metrics.items()},
        "remarks": [*names, *notes, *measured.remarks],
        "seconds": round(time.monotonic() - started, 3),
    }


def _note_on_classes(dataset: str, here: Sequence[str], trained: Sequence[str], target: Target) -> list[str]:
    """Return a note where the data set's classes have other names than those that the classifier was trained on.

    Raises:
        UsageError: they are the same in another order, so that every label would be wrong.
    """
    if not here or not trained or list(here) == list(trained):
        return []
    lists = f"{dataset} has the classes {listed(here)}, the classifier in {target} was trained on {listed(trained)}"
    if sorted(here) == sorted(trained):
        raise UsageError(f"{lists}: their order differs, and with it every label")
    return [f"{lists}; they are taken for the same, in this order"]


def _read(target: Target) -> bytes:
    try:
        return Folder(target.folder).read(target.name)
    except OSError as error:
        raise UsageError(f"{target} cannot be read: {error.strerror or error}") from error


# -- which file --------------------------------------------------------------------------------------------


def find_checkpoint(text: str, storage: str, tracking_uri: str | None, flag: str = "--evaluate") -> Target:
    """Return the checkpoint that a user names.

    Args:
        text: a file (path or URI), the folder of a trial's checkpoints, RUN/TRIAL below `storage`, or the id of an
            MLflow run: a trial's, or a study's, whose winner is meant.
        flag: the option that names it.

    Raises:
        UsageError: it is none of these, or has no checkpoint.
    """
    if "://" in text:
        folder, _, name = text.rpartition("/")
        return Target(folder, name)
    path = Path(text)
    if path.is_file():
        return Target(str(path.parent), path.name)
    if path.is_dir() and (name := newest_checkpoint([p.name for p in path.iterdir()])):
        return Target(text, name)
    if looks_like_run(text):
        uri = tracking_uri or environment.variable("MLFLOW_TRACKING_URI") or DEFAULT_URI
        trial = trial_of_run(uri, text)
        return checkpoint_of_trial(storage, find_by_id(trial.run_id, trial.run, storage).name, trial.key)
    run, slash, trial_name = text.partition("/")
    if slash and trial_name and "/" not in trial_name:
        return checkpoint_of_trial(storage, run, trial_key_of(trial_name))
    raise UsageError(
        f"{flag} {text!r} is no file; name a checkpoint file, RUN/TRIAL of a run in {storage}, or an MLflow run id"
    )


def checkpoint_of_trial(storage: str, run: str, key: str) -> Target:
    """Return the newest checkpoint of a trial.

    Raises:
        UsageError: there is none.
    """
    check_name(run)
    check_name(key)
    folder = f"{storage.rstrip('/')}/{run}"
    name = newest_checkpoint(Folder(folder).names(f"checkpoints/{key}"))
    if not name:
        _check_trial(RunFolder(storage, run), key)
        raise UsageError(
            f"trial {key} of run {run!r} has no checkpoint in {storage}; name the root of its run folder with --storage"
        )
    return Target(folder, f"checkpoints/{key}/{name}")


def _check_trial(run: RunFolder, key: str) -> None:
    """Raise UsageError if there is no such run, or its own database has no such trial."""
    from tuner.commands.explain import find_trial
    from tuner.commands.run_state import read_run

    if run.name not in Folder(run.root).folders():
        run.read()
    if run.exists() and (run.local / "study.db").exists():
        find_trial(read_run(run.name, run.root), key)


def newest_checkpoint(names: Sequence[str]) -> str:
    """Return the checkpoint of the latest epoch among file names, "" if there is none."""
    epochs = [(int(match[1]), name) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    return max(epochs)[1] if epochs else ""
