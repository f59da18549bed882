"""The searches that `core_hours.py` compares: one space, one method, one rule of stopping, on Ray Tune and on ours."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from packed import narrowed
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from search_spaces.domain import Domain, Float, Int
from search_spaces.study import Objective
from trainables.base.seeds import derive_seed
from trainables.base.streams import Streams
from trainables.data.types.benchmark import Benchmark
from trainables.evaluation.measure import validate
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.methods.adversarial import PGDAT
from trainables.networks.small_cnn import SmallCNN
from trainables.options import build
from trainables.options.adversarial import PGDATOptions
from trainables.options.networks import NETWORKS
from trainables.ray.assets import Assets
from trainables.ray.study_trainable import PackedTrainable, StudyTrainable
from trainables.ray.trial_runner import VALIDATION_SEED, TrialRunner
from trainables.training import checkpoints
from trainables.training.method import Context
from tuner.base.records import Decision, State, TrialRole
from tuner.execution import ray_tune_adapter
from tuner.execution.trial_queue import Lane, TrialQueue
from tuner.search.schedulers import schedule
from tuner.store.database import open_storage
from tuner.store.trial_store import TrialStore

FOLDER = "CORE_HOURS_FOLDER"  # the variable that tells workers where to leave what their start has cost
NARROW = f"{__name__}:narrow_cnn"
WORKERS, EPOCHS, FIRST_RUNG, REDUCTION = 2, 9, 1, 3
OBJECTIVE = Objective("val/accuracy/robust_0.15")
VALIDATION: dict[str, Any] = {"groups": ("robust",), "robust_epsilons": (0.15,), "steps": 10}
FIXED = {"dataset": "digits", "epochs": EPOCHS, "batch_size": 8, "threads": 1, "device": "cpu"}
SPACE: dict[str, Domain] = {
    "lr": Float(3e-4, 3e-2, log=True),
    "weight_decay": Float(1e-6, 1e-2, log=True),
    "attack.epsilon": Float(0.05, 0.3),
    "attack.steps": Int(1, 6),
}


@dataclass(frozen=True)
class Ended:
    """A trial that has ended: its epochs, its last validation and its last checkpoint."""

    epochs: int
    value: float
    checkpoint: Path


def use_narrow() -> None:
    """Let `small_cnn` be the narrow network in this process."""
    usual = NETWORKS["small_cnn"]
    if usual.build != NARROW:
        NETWORKS.unregister("small_cnn")
        NETWORKS.register(replace(usual, build=NARROW))


def narrow_cnn(*arguments: Any) -> SmallCNN:
    """Return `small_cnn` with fewer channels."""
    return narrowed(SmallCNN(*arguments))


def begin_worker() -> None:
    """Prepare a worker for its first trial, and leave what it has cost so far."""
    use_narrow()
    path = Path(os.environ[FOLDER]) / f"start-{os.getpid()}"
    if not path.exists():
        path.write_text(str(time.process_time()))


# -- plain Ray Tune ----------------------------------------------------------------------------------------


class RawTrial(tune.Trainable):
    """What one would write for plain Tune: the same method, validation and checkpoint, an epoch per step."""

    def setup(self, config: dict[str, Any], data: Benchmark, seed: int) -> None:  # type: ignore[override]
        begin_worker()
        torch.set_num_threads(1)
        self.data, self.seed = data, seed
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        seed = derive_seed(self.seed, "trial", self.trial_id)
        options = build(PGDATOptions, {**FIXED, **new_config, "seed": seed})
        context = Context(self.data, Streams(seed), torch.device("cpu"), dict, lambda *_: None)
        self.method, self.epoch = PGDAT(options, context), 0
        return True

    def step(self) -> dict[str, Any]:
        found = self.method.train_epoch(self.epoch)
        self.epoch += 1
        protocol, noise = (
            EvaluationProtocol("validation", **VALIDATION),
            torch.Generator().manual_seed(VALIDATION_SEED),
        )
        return found | validate(self.method.classifier(), self.data, protocol, noise, "cpu")

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        content = checkpoints.pack("pgd_at", self.method, self.epoch, self.data.info)
        Path(checkpoint_dir, "trial.pt").write_bytes(content)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        content = checkpoints.unpack(Path(checkpoint_dir, "trial.pt").read_bytes(), "trial.pt")
        self.epoch = checkpoints.restore(self.method, content)


def raw(assets: Assets, seed: int, trials: int, pack: int) -> list[Ended]:
    """Search with Ray Tune alone."""
    trainable = tune.with_parameters(RawTrial, data=assets.benchmark, seed=seed)
    halving = AsyncHyperBandScheduler(max_t=EPOCHS, grace_period=FIRST_RUNG, reduction_factor=REDUCTION)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={name: to_tune(domain) for name, domain in SPACE.items()},
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE.metric, mode="max", num_samples=trials, max_concurrent_trials=WORKERS,
            search_alg=OptunaSearch(seed=seed), scheduler=halving, reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=os.getcwd(), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        ),
    ).fit()  # fmt: skip
    if results.errors:
        raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")
    found: list[Any] = [results[k] for k in range(len(results))]
    return [
        Ended(
            r.metrics["training_iteration"], r.metrics[OBJECTIVE.metric], Path(r.checkpoint.path, "trial.pt")
        )
        for r in found
    ]


def to_tune(domain: Domain) -> Any:
    """Return one of ours as Tune's."""
    if isinstance(domain, Int):
        return tune.randint(domain.low, domain.high + 1)
    assert isinstance(domain, Float)
    return (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)


# -- the service -------------------------------------------------------------------------------------------


class NarrowTrial(StudyTrainable):
    """The service's trainable with the narrow network."""

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        begin_worker()
        super().setup(config, assets)


class NarrowPack(PackedTrainable):
    """The service's packed trainable with the narrow network."""

    def setup(self, config: dict[str, Any], assets: Assets | None = None) -> None:
        begin_worker()
        super().setup(config, assets)


def queue_of(seed: int, trials: int) -> tuple[TrialStore, TrialQueue]:
    """Return the service's queue of one search over a new database."""
    storage = open_storage("sqlite:///study.db")
    store = TrialStore(storage, "core-hours", "search", TrialRole.SEARCH, SPACE, [OBJECTIVE], seed)
    halving = schedule("asha", FIRST_RUNG, REDUCTION, EPOCHS)
    lanes = [Lane(store, "pgd_at", FIXED, trials, seed)]
    return store, TrialQueue(lanes, [OBJECTIVE], seed=seed, max_epochs=EPOCHS, schedule=halving)


def ended_of(store: TrialStore) -> list[Ended]:
    """Return the trials of a queue that has run to its end."""
    failed = [record.reason for record in store.records() if record.state is State.FAIL]
    if failed:
        raise SystemExit(f"{len(failed)} trials failed: {failed[0]}")
    return [Ended(r.epochs, r.judged[OBJECTIVE.metric], Path(r.checkpoint)) for r in store.records()]


def packed(assets: Assets, seed: int, trials: int, pack: int) -> list[Ended]:
    """Search with the service's queue on Ray: one worker that trains up to `pack` trials, or two with a trial each."""
    ray_tune_adapter.StudyTrainable, ray_tune_adapter.PackedTrainable = NarrowTrial, NarrowPack  # type: ignore[attr-defined]
    store, queue = queue_of(seed, trials)
    ray_tune_adapter.run_queue(
        queue, assets=assets, run_uri=os.getcwd(), validation=VALIDATION, resources={"cpu": 1},
        concurrency=WORKERS if pack == 1 else 1, log=lambda key, text: None, file_written=lambda key, name: None,
        splits_opened=lambda names: None, asked_to_stop=lambda: False, pack=pack,
    )  # fmt: skip
    return ended_of(store)


def single(assets: Assets, seed: int, trials: int, pack: int) -> list[Ended]:
    """Search with the service's queue on Ray, one trial in a worker."""
    return packed(assets, seed, trials, 1)


def sequential(assets: Assets, seed: int, trials: int, pack: int) -> list[Ended]:
    """Search with the service's queue in this process, one trial after the other."""
    use_narrow()
    store, queue = queue_of(seed, trials)
    trial = TrialRunner()
    while (assignment := queue.next()) is not None:
        trial.setup(ray_tune_adapter.configuration(assignment, os.getcwd(), VALIDATION, 1), assets)
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE:
            result = trial.step()
            if "failed" in result:
                raise SystemExit(result["failed"])
            metrics = {
                name: value for name, value in result.items() if ray_tune_adapter.is_metric(name, value)
            }
            decision = queue.report(assignment.key, result["epoch"], metrics, result["checkpoint"])
    return ended_of(store)


ARMS: dict[str, Callable[[Assets, int, int, int], list[Ended]]] = {
    "raw": raw,
    "packed": packed,
    "single": single,
    "sequential": sequential,
}
