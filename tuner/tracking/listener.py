"""Turns events of trials into MLflow runs: parameters, tags, data sets, metrics by epoch, files."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.data.loading.open_dataset import fingerprint_images
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import SEARCH_SPLITS, Split
from tuner.analysis.verdict import headline
from tuner.base.records import State, TrialRecord
from tuner.base.trial_listener import TrialListener
from tuner.planning.plan import Plan
from tuner.tracking.run_names import judged_name, run_name
from tuner.tracking.tracker import Tracker

EVALUATION = "evaluation.json"  #: artifact of an evaluated trial's run: every test metric


class TrackingListener(TrialListener):
    """Passes every event of a trial to the tracker.

    The metrics that trials are judged by are sent first: MLflow's comparison of runs opens with the first it was given.

    Attributes:
        datasets: the data sets that the trials read, see `describe_datasets`; empty until the data are loaded.
    """

    def __init__(self, tracker: Tracker, plan: Plan, facts: Mapping[str, str]) -> None:
        self.tracker, self.plan, self.commit = tracker, plan, facts["commit"]
        self.searched = {key for lane in plan.lanes for key in lane.space}
        self.datasets: Sequence[Mapping[str, str]] = ()

    def started(self, record: TrialRecord) -> None:
        self._declare(record, new=record.attempt == 1)

    def _declare(self, record: TrialRecord, new: bool) -> None:
        params = {k: v for k, v in record.configuration.items() if k in self.searched}
        tags = {
            "trial": record.label,
            "role": record.role.value,
            "state": State.RUNNING.value,
            "study": self.plan.study,
            "method": record.method,
            "dataset": self.plan.dataset,
            "seed": str(record.seed),
            "commit": self.commit,
            "lane": record.lane,
        }
        if record.arm:
            tags |= {"arm": record.arm, "seed_index": str(record.seed_index)}
        self.tracker.child(
            record.key,
            name=run_name(record, self.plan),
            params=params,
            tags=tags,
            inputs=self.datasets if new else (),
            texts={"configuration.json": json.dumps(dict(record.configuration), indent=2)} if new else None,
        )

    def epoch(self, record: TrialRecord, epoch: int) -> None:
        metrics = record.history[epoch].metrics
        judged = self.plan.judged_metrics
        first = {name: metrics[name] for name in judged if name in metrics}
        if self.plan.epoch == "best":
            first = {
                judged_name(self.plan, m): record.judged[m] for m in judged if m in record.judged
            } | first
        self.tracker.metrics(record.key, epoch, {**first, **metrics})

    def ended(self, record: TrialRecord) -> None:
        self.tracker.close_child(record.key, record.state.value, record.reason)

    def artifact_written(self, key: str, path: Path) -> None:
        self.tracker.artifact(key, path, "files")

    def evaluated(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        """Send the headline metrics as metrics and all of them as `evaluation.json`, where none bury the curves."""
        finite = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
        # before the metrics: once those are there, a resume takes both for sent
        self.tracker.text(record.key, json.dumps(finite, indent=2), EVALUATION)
        self.tracker.final(record.key, {m: metrics[m] for m in headline(self.plan) if m in metrics})

    def add_missing(self, records: Iterable[TrialRecord], tests: Mapping[str, Mapping[str, float]]) -> None:
        """Add the events that the storage has and the spool lacks: after a kill between the two, or a deleted spool.

        Every ended trial's run gets the status of its stored state, whatever MLflow has.
        """
        records = list(records)
        spooled = self.tracker.spooled()
        for record in records:
            known = spooled.get(record.key)
            if known is None:
                self._declare(record, new=True)
            for epoch in record.history:
                if known is None or epoch > known.step:
                    self.epoch(record, epoch)
            if record.state is not State.RUNNING and (known is None or known.state != record.state.value):
                self.ended(record)
            if record.key in tests and (known is None or not known.final):
                self.evaluated(record, tests[record.key])
        self.tracker.settle({r.key: r.state.value for r in records if r.state is not State.RUNNING})


def describe_datasets(benchmark: Benchmark, source: str) -> list[dict[str, str]]:
    """Return the data sets that the search reads, one entry per split, for `Tracker.inputs`.

    A split of several sets (the OOD sources, the corruptions) is one data set; its digest is over all of them.

    Args:
        source: the folder of the files, "" for a built-in data set.
    """
    found = []
    for split in sorted(SEARCH_SPLITS & set(benchmark.parts), key=list(Split).index):
        sets = sorted(benchmark.parts[split].items())
        digests = [fingerprint_images(images) for _, images in sets]
        digest = digests[0] if len(digests) == 1 else _hash(digests)
        spec: dict[str, Any] = {"dtype": str(sets[0][1].images.dtype), "shape": [-1, *benchmark.info.shape]}
        features = json.dumps([{"type": "tensor", "tensor-spec": spec}])
        found.append(
            {
                "name": f"{benchmark.info.name}/{split.value}",
                "digest": digest[:16],
                "source_type": "local" if source else "code",
                "source": json.dumps(
                    {"uri": source} if source else {"tags": {"data set": benchmark.info.name}}
                ),
                "schema": json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}}),
                "profile": json.dumps({"images": {name: len(images) for name, images in sets}}),
                "context": "training" if split is Split.TRAIN else "validation",
            }
        )
    return found


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
