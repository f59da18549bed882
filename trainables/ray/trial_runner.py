"""Trains one trial of one method: an epoch per step, exact save and load, another trial in the same process."""

import functools
import gc
import tempfile
import time
import traceback
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from trainables.base.cache import cache_dir_of
from trainables.base.errors import CodeError, InputError, describe_error
from trainables.base.storage import Folder, is_full
from trainables.base.streams import Streams
from trainables.base.user_code import name_codes
from trainables.data.loading.open_dataset import load
from trainables.data.loading.stream_loader import set_decoders
from trainables.data.types.radii import radii_of
from trainables.data.types.splits import Split
from trainables.evaluation.measure import validate
from trainables.evaluation.metrics.protocol import from_fields
from trainables.options import build, flatten
from trainables.options.methods import METHODS
from trainables.options.networks import refuse_unapproved
from trainables.outliers.pretrained import pretrained_state
from trainables.outliers.sampling import sample_outliers
from trainables.ray.assets import Assets
from trainables.ray.device import choose_device, gpu_share
from trainables.training import checkpoints
from trainables.training.checkpoint_files import checkpoint_name, retain
from trainables.training.method import Context, Method
from trainables.training.trained_once import shared_start

#: every trial and epoch is validated with the same attack noise: common random numbers
VALIDATION_SEED = 20_260


class TrialRunner:
    """Trains one configuration of one method in this process: builds it, trains by epochs, validates, saves.

    Attributes:
        method_name: of `trainables.options.methods.METHODS`, unless the service names another.
    """

    method_name: ClassVar[str] = ""

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        """Build the method of a configuration; in a study at the first step, so that an exception is reported."""
        self._release()
        self._service: dict[str, Any] = config.get("_service", {})
        self._given = dict(config), assets
        if not self._service:
            self._build(*self._given)

    def _release(self) -> None:
        """Drop the last trial's tensors before the next is built in the same process."""
        self._method: Method | None = None
        collect_garbage()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _build(self, config: dict[str, Any], assets: Assets | None) -> None:
        service: dict[str, Any] = config.pop("_service", {})
        protocol = config.pop("validation", {})
        self._name = service.get("method", self.method_name)
        if not service:  # the user's own process made the configuration
            name_codes((self._name, *flatten(config).values()))
        entry = METHODS[self._name]
        options = build(entry.options, config)
        if service:  # the database named it
            refuse_unapproved(options.network)
        torch.set_num_threads(options.threads)
        device = choose_device(options.device)
        set_decoders(gpu_share(device), options.threads)
        self._folder = Folder(service["folder"]) if service else None
        if assets is not None:
            # own record of what was opened; the arrays stay shared
            self._data = replace(assets.benchmark, opened=set())
        else:
            self._data = load(options.dataset, options.data_dir, search_only=True).for_search()
        if (
            assets is None and not service
        ):  # no plan names the radii, and the protocol's own suit the digits alone
            radii = radii_of(options.dataset, self._data.info.shape)
            protocol = {"robust_epsilons": radii.accuracy, "ood_epsilons": radii.score, **protocol}
        self._protocol = from_fields("validation", protocol)
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

        def from_cache(wanted: Any, train: Any) -> dict[str, Any]:
            return shared_start(replace(wanted, seed=pretrain_seed), train, context, cache)

        streams = Streams(options.seed, device)
        context = Context(self._data, streams, device, pretrained, outliers, self._own_files(), from_cache)
        method = entry.load_method()(options, context)
        self._epoch = 0
        self._remarks: list[str] = []
        if service.get("checkpoint"):
            assert self._folder is not None
            content, self._remarks = checkpoints.load_latest(self._folder, service["checkpoint"], device)
            if content is not None:
                self._epoch = checkpoints.restore(method, content)
        self._method = method

    def _own_files(self) -> str | None:
        """Return the folder of a method's own files, not created yet; the driver sends the files to MLflow."""
        if self._folder is None:
            return None
        name = f"files/{self._service['key']}"
        self._files = self._folder.path(name) if self._folder.is_local else Path(tempfile.mkdtemp())
        self._mtimes = {path.name: path.stat().st_mtime_ns for path in self._files.glob("*")}
        return str(self._files)

    def _new_files(self) -> list[str]:
        """Return the names, relative to the run folder, of files written since the last call.

        A file that was written again counts as new: an epoch that was killed left files that were never reported.
        """
        assert self._folder is not None
        names = []
        for path in sorted(self._files.glob("*")):
            written = path.stat().st_mtime_ns
            if path.is_file() and self._mtimes.get(path.name) != written:
                self._mtimes[path.name] = written
                names.append(f"files/{self._service['key']}/{path.name}")
                if not self._folder.is_local:
                    self._folder.write(names[-1], path.read_bytes())
        return names

    def step(self) -> dict[str, Any]:
        """Train and validate one epoch and return its metrics.

        In a study the checkpoint is written before the metrics are reported, so that every recorded epoch can be
        continued from. An exception becomes the report {"failed": reason}, or {"halted": reason} for what is no
        fault of the trial (a full disk, code that was changed meanwhile), and the actor stays up for the next trial.
        """
        if not self._service:
            return self._step()
        try:
            if self._method is None:
                self._build(*self._given)
            return self._step()
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Return the report of an exception, and free the trial's tensors."""
        trace = "".join(traceback.format_exception(error))
        outcome, reason = "failed", describe_error(error)
        if is_full(error):
            outcome, reason = "halted", f"cannot write: {reason}; make room"
        elif isinstance(error, CodeError):
            outcome, reason = "halted", f"cannot go on without its code ({error}); restore it"
        self._release()
        return {outcome: reason, "trace": trace}

    def _step(self) -> dict[str, Any]:
        assert self._method is not None
        started = time.perf_counter()
        means = self._method.train_epoch(self._epoch)
        return self._report(means, time.perf_counter() - started)

    def _report(self, means: dict[str, float], seconds: float) -> dict[str, Any]:
        """Validate (unless the service needs no validation yet), save, and return the metrics of an epoch.

        Args:
            seconds: that its training took.
        """
        method = self._method
        assert method is not None
        if method.balance == "weights" and not method.weighed:
            raise InputError(
                f"balance is weights, but method {self._name} does not weigh its cross-entropy (Method.class_weights); "
                "use balance=sampling"
            )
        trained = time.perf_counter()
        self._epoch += 1
        metrics = {}
        if self._epoch in self._service.get("validated", [self._epoch]):
            compared = self._epoch in self._service.get("compared", ())
            metrics = self._validate(method, self._service["deciding"] if compared else ())
        validated = time.perf_counter()
        result: dict[str, Any] = {
            **metrics,
            **{f"train/{name}": value for name, value in means.items()},
            "epoch": self._epoch,
            "passes": method.passes,
            "seconds": seconds + validated - trained,
            "seconds_validation": validated - trained,
        }
        if self._folder is not None:
            key = self._service["key"]
            result["checkpoint"] = checkpoint_name(key, self._epoch)
            self._folder.write(
                result["checkpoint"], checkpoints.pack(self._name, method, self._epoch, self._data.info)
            )
            kept = self._service.get("kept", ())
            result["undeleted"] = "; ".join(retain(self._folder, key, self._epoch, kept))
            result["files"] = ",".join(self._new_files())
            result["remarks"] = "\n".join(self._remarks)
            self._remarks = []
            result["opened"] = ",".join(sorted(split.value for split in self._data.opened))
        else:
            result["done"] = self._epoch >= method.options.epochs
        return result

    def _validate(self, method: Method, only: Collection[str]) -> dict[str, float]:
        generator = torch.Generator(method.device).manual_seed(VALIDATION_SEED)
        return validate(method.classifier(), self._data, self._protocol, generator, method.device, only)

    def cleanup(self) -> None:
        self._release()


@functools.cache
def _freeze_modules() -> None:
    gc.collect()
    gc.freeze()


def collect_garbage() -> None:
    """Free objects in reference cycles, such as tensors of ended trials, in a millisecond.

    The first call freezes the half million objects of the imported modules: scanning them would take 0.2 s for every
    trial that begins or ends.
    """
    _freeze_modules()
    gc.collect()
