"""`launch.py --export RUN[/TRIAL]`: writes a trained classifier as files that need no part of this program."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.base.storage import Folder
from trainables.base.user_code import approve
from trainables.data.types.dataset_info import dataset_info
from trainables.data.types.datasets import DATASETS
from trainables.data.types.file_check import check_dataset_files
from trainables.data.types.splits import DatasetInfo
from trainables.inference.format_specs import FORMATS
from trainables.options.methods import METHODS
from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.known_list import known
from tuner.base.records import State
from tuner.commands.evaluate import Target, checkpoint_of_trial, find_checkpoint
from tuner.commands.explain import find_trial
from tuner.commands.run_state import RunSnapshot, read_run
from tuner.commands.written_files import told_if_unwritable
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.user_code import LIST
from tuner.store.run_folder import find_by_id
from tuner.tracking.mlflow_uris import DEFAULT_URI
from tuner.tracking.run_lookup import looks_like_run, trial_of_run

if TYPE_CHECKING:
    from trainables.inference.robust_predictor import Predictor

METADATA = "model.json"


@dataclass(frozen=True)
class Exported:
    """What is to be exported.

    Attributes:
        target: the checkpoint.
        plan: of its run; None for a checkpoint file alone.
        key: of the trial, "" for a file alone.
    """

    target: Target
    plan: Plan | None = None
    key: str = ""

    @property
    def name(self) -> str:
        """Return the name of the default folder."""
        return f"{self.plan.run_name}-{self.key}" if self.plan else Path(self.target.name).stem


def export(options: LaunchOptions) -> str:
    """Write the files that the options ask for and return what to print; see `write`."""
    return "\n".join(write(options)[1])


def write(options: LaunchOptions) -> tuple[Path, list[str]]:
    """Write the files that the options ask for, with model.json beside them; return their folder and lines about them.

    Raises:
        UsageError: a run, trial or checkpoint that is not there, or a folder that cannot be written to.
        InputError: a checkpoint or data that do not suit, a format that cannot be written.
    """
    assert options.export is not None
    chosen = _find(options)
    folder = Path(options.output) if options.output else Path("exports") / chosen.name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder")
    from trainables.inference import formats

    formats.check_installed(options.formats)
    network, facts = _predictor(chosen, options)
    with told_if_unwritable(folder):
        written = {**_kept(folder, facts), **formats.Export(network, facts).write(options.formats, folder)}
        text = json.dumps({**facts, "formats": written}, indent=2, ensure_ascii=False)
        Folder(folder).write(METADATA, f"{text}\n".encode())
    return folder, _lines(chosen, folder, facts, written)


def predictor(options: LaunchOptions) -> "Predictor":
    """Return the predictor that `write` would write.

    Raises:
        As `write`.
    """
    chosen = _find(options)
    from trainables.inference import model_file

    return model_file.predictor(model_file.model_bytes(*_predictor(chosen, options)))


def _find(options: LaunchOptions) -> Exported:
    """Return the winner of a run, a trial of one, or a checkpoint file."""
    text = options.export or ""
    name, slash, trial = text.partition("/")
    storage, key = options.storage, ""
    if looks_like_run(text):
        uri = options.tracking_uri or environment.variable("MLFLOW_TRACKING_URI") or DEFAULT_URI
        found = trial_of_run(uri, text)
        name, key = find_by_id(found.run_id, found.run, storage).name, found.key
    elif "://" in text or Path(text).exists() or (slash and "/" in trial):
        return Exported(find_checkpoint(text, storage, options.tracking_uri, flag="--export"))
    run = read_run(name, storage, options.study_storage)
    if not key:
        key = find_trial(run, trial).key if slash else _winner(run)
    return Exported(checkpoint_of_trial(storage, name, key), run.plan, key)


def _winner(run: RunSnapshot) -> str:
    if run.best is not None:
        return run.best.key
    name = run.folder.name
    complete = [r for r in run.lane("search") if r.state is State.COMPLETE]
    help_ = (
        f"name one of its trials, as --export {name}/{complete[0].number}"
        if complete
        else "no trial is complete"
    )
    raise UsageError(f"run {name} has no winner; {help_}")


def _predictor(chosen: Exported, options: LaunchOptions) -> tuple[Any, dict[str, Any]]:
    from trainables.training import checkpoints
    from tuner.execution import remote_tasks

    environment.apply_defaults()
    approve(known(LIST))
    target, plan = chosen.target, chosen.plan
    try:
        content = checkpoints.unpack(Folder(target.folder).read(target.name), str(target))
    except OSError as error:
        raise UsageError(f"{target} cannot be read: {error.strerror or error}") from error
    trained, info = checkpoints.options_of(content, str(target)), checkpoints.info_of(content)
    data_dir = options.data_dir or (plan.data_dir if plan else trained.data_dir)
    dataset = DATASETS[options.dataset or info.name].name
    _check_data(info, dataset, data_dir, str(target))
    benchmark = remote_tasks.load_benchmark(dataset, data_dir, "search")
    score = plan.test_protocol().score if plan else METHODS[content["method"]].score
    source = source_of(plan, chosen.key) if plan else {"file": target.name, "program": _program()}
    return remote_tasks.predictor_of(target.folder, target.name, benchmark, score, source)


def _check_data(trained: DatasetInfo, dataset: str, data_dir: str, target: str) -> None:
    """Raise UsageError if data are not there, or are not those that a classifier was trained on."""
    if data_dir and "://" not in data_dir and not Path(data_dir).expanduser().is_dir():
        raise UsageError(f"--data-dir {data_dir} is not a folder; its validation images set the threshold")
    check_dataset_files(dataset, data_dir)
    present = dataset_info(dataset, data_dir)
    differ = f"--dataset {dataset} is not what {target} was trained on ({trained.name}): "
    if (present.num_classes, present.shape) != (trained.num_classes, trained.shape):
        raise UsageError(
            f"{differ}{present.num_classes} classes and images {present.shape}, not {trained.num_classes} and "
            f"{trained.shape}"
        )
    if trained.classes and present.classes != trained.classes:
        wrong = next(i for i, name in enumerate(trained.class_names) if present.class_names[i] != name)
        raise UsageError(
            f"{differ}class {wrong} is {present.class_names[wrong]!r}, not {trained.classes[wrong]!r}"
        )


def _kept(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the formats of the same model that are in the folder; files of another model are removed."""
    try:
        before = json.loads((folder / METADATA).read_text())
        written = dict(before["formats"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    if {key: before.get(key) for key in facts} == facts:
        return written
    for name in FORMATS.names:
        for file in FORMATS[name].files:
            (folder / file).unlink(missing_ok=True)
    return {}


def source_of(plan: Plan, key: str) -> dict[str, Any]:
    """Return where a trial's model comes from, as the predictor's facts say it."""
    return {
        "study": plan.study,
        "run": plan.run_name,
        "run_id": plan.run_id,
        "trial": key,
        "content_hash": plan.content_hash,
        "program": _program(),
    }


def _program() -> str:
    return f"robust-tuner {environment.version('robust-tuner', absent='unknown')}"


def _lines(chosen: Exported, folder: Path, facts: dict[str, Any], written: dict[str, Any]) -> list[str]:
    where = f"trial {chosen.key} of run {chosen.plan.run_name}" if chosen.plan else str(chosen.target)
    classes = facts["classes"]
    shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
    lines = [
        f"exported {where} to {folder}",
        f"  {len(classes)} classes: {shown}",
        f"  outlier score {facts['score']}, threshold {facts['threshold']:.6g}: it accepts "
        f"{facts['accepted']:.0%} of {facts['validation_images']} validation images",
        f"  temperature {facts['temperature']:.4g}, fitted on the same images",
    ]
    for name, entry in written.items():
        same = f"equal to the network within {entry['largest_difference']:.1g}"
        lines += [f"{name}: {', '.join(entry['files'])} ({same})", f"  {FORMATS[name].loads}"]
    return [*lines, f"all of this: {folder / METADATA}"]
