"""The Ray Trainable around a training method: one epoch per step, exact save and load, reusable actors."""

import gc
import tempfile
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from ray import tune

import trainables
from trainables import checkpoints
from trainables.data.benchmark import Benchmark
from trainables.data.cache import cache_dir_of
from trainables.data.load import load
from trainables.data.outliers import sample_outliers
from trainables.data.splits import Split
from trainables.errors import InputError, TrainingFailed
from trainables.evaluation.protocol import validate
from trainables.evaluation.spec import Protocol
from trainables.method import Context, Method
from trainables.options import build
from trainables.pretrained import pretrained_state
from trainables.storage import Folder
from trainables.streams import Streams

VALIDATION_SEED = (
    20_260  # every trial and epoch is validated with the same attack noise: common random numbers
)


@dataclass
class Assets:
    """What the driver prepares once and every trial shares through Ray's object store, zero-copy.

    Attributes:
        benchmark: the sealed benchmark of the study.
        pretrained: {seed: state dict} of the classifiers that fine-tuning starts from.
    """

    benchmark: Benchmark
    pretrained: dict[int, dict[str, Any]] = field(default_factory=dict)


class MethodTrainable(tune.Trainable):
    """Trains one configuration of one method.

    With plain Ray Tune: `Tuner(AOETrainable, param_space={"dataset": "digits-open", "attack.epsilon":
    tune.uniform(.02, .2)})`; options may be nested or dotted, `validation` may hold fields of
    `evaluation.spec.Protocol`. It then reports "val/..." and "train/..." metrics after every epoch, and
    "done" after the last.

    Attributes:
        method_name: of `trainables.METHODS`.
    """

    method_name: ClassVar[str] = ""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Ask for as many CPUs as the trial has threads; GPUs only by `tune.with_resources`."""
        return tune.PlacementGroupFactory([{"CPU": int(config.get("threads", 1))}])

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        """Build the method of a configuration; a problem here ends the trial at its first step, with its reason."""
        self._release()
        self._problem = ""
        try:
            self._build(dict(config), assets)
        except Exception as error:
            if "_service" not in config:
                raise
            self._problem = describe(error)
            self._trace = traceback.format_exc()

    def _release(self) -> None:
        """Drop the last trial's tensors before the next is built in the same process."""
        self._method: Method | None = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _build(self, config: dict[str, Any], assets: Assets | None) -> None:
        service: dict[str, Any] = config.pop("_service", {})
        protocol = config.pop("validation", {})
        self._service = service
        self._name = service.get("method", self.method_name)
        entry = trainables.get(self._name)
        options = build(entry.load_options(), config)
        torch.set_num_threads(options.threads)
        device = choose_device(options.device)
        self._folder = Folder(service["folder"]) if service else None
        if assets is not None:
            # own record of what was opened; the arrays stay shared
            self._data = replace(assets.benchmark, opened=set())
        else:
            self._data = load(options.dataset, options.data_dir, search_only=True).for_search()
        self._protocol = Protocol("validation", **protocol)
        pretrain_seed = service.get("pretrain_seed", options.seed)
        given = assets.pretrained.get(pretrain_seed) if assets is not None else None
        cache = cache_dir_of(options.cache_dir)

        def pretrained() -> Any:
            if given is not None:
                return {name: torch.tensor(array) for name, array in given.items()}
            return pretrained_state(
                replace(options, seed=pretrain_seed), options.pretrain, self._data, cache, device
            )

        def outliers(wanted: Any, seed: int) -> Any:
            return sample_outliers(wanted, self._data.labelled(Split.TRAIN), seed, cache)

        context = Context(
            self._data, Streams(options.seed, device), device, pretrained, outliers, self._own_files()
        )
        self._method = entry.load_method()(options, context)
        self._epoch = 0
        if service.get("checkpoint"):
            assert self._folder is not None
            content, _ = checkpoints.load_latest(self._folder, service["checkpoint"], device)
            self._epoch = checkpoints.restore(self._method, content)

    def _own_files(self) -> str | None:
        """Return the folder in which a method of a study may leave files; the driver hands them to MLflow."""
        if self._folder is None:
            return None
        name = f"files/{self._service['key']}"
        self._left = set(self._folder.names(name))
        self._files = self._folder.path(name) if self._folder.is_local else Path(tempfile.mkdtemp())
        self._files.mkdir(parents=True, exist_ok=True)
        return str(self._files)

    def _new_files(self) -> list[str]:
        """Return the names, relative to the run folder, of files that appeared since the last call."""
        assert self._folder is not None
        found = []
        for path in sorted(self._files.iterdir()):
            if path.is_file() and path.name not in self._left:
                self._left.add(path.name)
                found.append(f"files/{self._service['key']}/{path.name}")
                if not self._folder.is_local:
                    self._folder.write(found[-1], path.read_bytes())
        return found

    def step(self) -> dict[str, Any]:
        """Train and validate one epoch and return its metrics.

        In a study the checkpoint is written before the metrics are reported, so that what the driver
        records can always be continued; an exception becomes a report with "failed" as its reason, and
        the actor lives on for the next trial.
        """
        if self._problem:
            return {"failed": self._problem, "trace": self._trace}
        try:
            return self._step()
        except Exception as error:
            if not self._service:
                raise
            trace = traceback.format_exc()
            reason = describe(error)
            self._release()
            return {"failed": reason, "trace": trace}

    def _step(self) -> dict[str, Any]:
        method = self._method
        assert method is not None
        started = time.perf_counter()
        means = method.train_epoch(self._epoch)
        trained = time.perf_counter()
        generator = torch.Generator(method.device).manual_seed(VALIDATION_SEED)
        metrics = validate(method.classifier(), self._data, self._protocol, generator, method.device)
        validated = time.perf_counter()
        self._epoch += 1
        result: dict[str, Any] = {
            **metrics,
            **{f"train/{name}": value for name, value in means.items()},
            "epoch": self._epoch,
            "passes": method.passes,
            "seconds": validated - started,
            "seconds_validation": validated - trained,
        }
        if self._folder is not None:
            key = self._service["key"]
            result["checkpoint"] = checkpoints.checkpoint_name(key, self._epoch)
            self._folder.write(
                result["checkpoint"], checkpoints.pack(self._name, method, self._epoch, self._data.info)
            )
            checkpoints.retain(self._folder, key, self._epoch)
            result["files"] = ",".join(self._new_files())
            result["opened"] = ",".join(sorted(split.value for split in self._data.opened))
        else:
            result["done"] = self._epoch >= method.options.epochs
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial into a folder (plain Ray Tune); the service writes its own, see `step`."""
        assert self._method is not None
        data = checkpoints.pack(self._name, self._method, self._epoch, self._data.info)
        Folder(checkpoint_dir).write("trial.pt", data)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue from `save_checkpoint`'s folder, bit for bit on the CPU."""
        assert self._method is not None
        content = checkpoints.unpack(
            Folder(checkpoint).read("trial.pt"), f"{checkpoint}/trial.pt", self._method.device
        )
        self._epoch = checkpoints.restore(self._method, content)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process: everything is rebuilt and reseeded."""
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._release()


def choose_device(wanted: str) -> torch.device:
    """Return the trial's device: a GPU only if Ray gave the trial one (or Ray is not there at all).

    Raises:
        InputError: device=cuda without a GPU.
    """
    if wanted == "cpu" or not torch.cuda.is_available():
        if wanted == "cuda":
            raise InputError("device is cuda but no GPU is visible here; use device=auto or cpu")
        return torch.device("cpu")
    import ray

    if ray.is_initialized() and not ray.get_gpu_ids() and wanted == "auto":
        return torch.device("cpu")
    return torch.device("cuda")


def describe(error: BaseException) -> str:
    """Return one line for an exception: the reason alone where it was raised on purpose, else with its type."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    if isinstance(error, TrainingFailed):
        return text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}"[:500]
