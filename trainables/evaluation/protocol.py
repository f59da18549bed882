"""The whole measurement of one classifier: `validate` while searching, `evaluate` once it has ended.

Both return the metrics under the names that reports, MLflow and objectives use. A random stream is derived
for each part, so that a number does not depend on which other groups were asked for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks import attack_mode
from trainables.data.benchmark import Benchmark, LabelledImages
from trainables.data.lazy import LazyImages
from trainables.data.loader import to_device, to_unit
from trainables.data.splits import Split
from trainables.data.streaming import in_order
from trainables.errors import InputError
from trainables.evaluation import metrics as ood
from trainables.evaluation.robust import attacked_scores, batch_size, robust_accuracy
from trainables.evaluation.scores import SCORES
from trainables.evaluation.spec import GROUPS, Protocol, epsilon_name
from trainables.options.schema import unknown
from trainables.seeds import derive_seed

Metrics = dict[str, float]
ScoresBySet = dict[str, np.ndarray]
Sets = dict[str, LabelledImages]


@dataclass
class Evaluation:
    """What the final evaluation of one classifier found.

    Attributes:
        metrics: {"test/<metric>": value}; percentages as fractions.
        scores: {OOD set name, or "id" for the test images: (n,) float64 primary outlier scores}.
        attacked_scores: {epsilon as metric names write it: {OOD set name: (n,) primary scores under attack,
            and "id": the clean scores they are compared with}}.
    """

    metrics: Metrics
    scores: ScoresBySet = field(default_factory=dict)
    attacked_scores: dict[str, ScoresBySet] = field(default_factory=dict)


def validate(
    network: nn.Module,
    benchmark: Benchmark,
    protocol: Protocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> Metrics:
    """Measure on validation images only and return {"val/<metric>": value}.

    `all` is the mean over the validation OOD sets. The benchmark may be sealed. What it lacks is left out.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits (n, classes); run in eval mode, left as it was.
        generator: on the same device; advanced by one draw.

    Raises:
        InputError: the protocol names an unknown group or score.
        MetricInputError: a score is NaN, or a set is empty.
    """
    session = _Session(network, protocol, generator, device)
    inliers = session.first(benchmark.sets(Split.VAL_ID))["id"]
    found = session.on_inliers(inliers)
    if benchmark.has(Split.VAL_OOD):
        outliers = session.first(benchmark.sets(Split.VAL_OOD))
        everything = {"all": list(outliers)}
        if "ood" in protocol.groups:
            logits = session.logits({"id": inliers, **outliers})
            per_set = _per_set(_scores(logits, protocol.score), ood.OOD_METRICS)
            found |= _group_means(per_set, everything)
            found |= {name: value for name, value in per_set.items() if name.startswith("auroc/")}
        if "robust_ood" in protocol.groups:
            for epsilon, scores in session.under_attack(inliers, outliers).items():
                per_set = _per_set(scores, {f"robust_auroc_{epsilon}": ood.auroc})
                found |= per_set | _group_means(per_set, everything)
    if "corrupted" in protocol.groups and benchmark.has(Split.VAL_CORRUPTED):
        found["accuracy/corrupted"] = _mean(session.accuracies(benchmark.sets(Split.VAL_CORRUPTED)).values())
    return {f"val/{name}": value for name, value in found.items()}


def evaluate(
    network: nn.Module,
    benchmark: Benchmark,
    protocol: Protocol,
    generator: torch.Generator,
    device: torch.device | str,
) -> Evaluation:
    """Measure on the sealed test splits, once the search has ended.

    Means over near and far OOD are means over their sets, each set weighing the same; what the benchmark
    calls "other" is reported by set and is in no mean. Corrupted accuracy is the mean over corruptions and
    severities. Arguments and errors are those of `validate`.

    Raises:
        SealedSplitError: the benchmark is sealed.
    """
    session = _Session(network, protocol, generator, device)
    inliers = session.first(benchmark.sets(Split.TEST_ID))["id"]
    result = Evaluation(session.on_inliers(inliers))
    groups: dict[str, list[str]] = {}
    outliers: Sets = {}
    for split, group in (
        (Split.TEST_OOD_NEAR, "near"),
        (Split.TEST_OOD_FAR, "far"),
        (Split.TEST_OOD_OTHER, ""),
    ):
        if benchmark.has(split):
            sets = session.first(benchmark.sets(split))
            outliers |= sets
            if group:
                groups[group] = list(sets)
    if outliers and "ood" in protocol.groups:
        logits = session.logits({"id": inliers, **outliers})
        result.scores = _scores(logits, protocol.score)
        per_set = _per_set(result.scores, ood.OOD_METRICS)
        result.metrics |= per_set | _group_means(per_set, groups)
        for score in protocol.scores:
            result.metrics |= _beside(score, _scores(logits, score), groups)
    if outliers and "robust_ood" in protocol.groups:
        result.attacked_scores = session.under_attack(inliers, outliers)
        for epsilon, scores in result.attacked_scores.items():
            per_set = _per_set(scores, {f"robust_auroc_{epsilon}": ood.auroc})
            result.metrics |= per_set | _group_means(per_set, groups)
    if "corrupted" in protocol.groups and benchmark.has(Split.CORRUPTED):
        result.metrics |= _corrupted(session.accuracies(benchmark.sets(Split.CORRUPTED)))
    result.metrics = {f"test/{name}": value for name, value in result.metrics.items()}
    return result


class _Session:
    """One network under one protocol on one device, with a random stream for each purpose."""

    def __init__(
        self, network: nn.Module, protocol: Protocol, generator: torch.Generator, device: torch.device | str
    ) -> None:
        for kind, names, known in (
            ("outlier score", (protocol.score, *protocol.scores), SCORES),
            ("metric group", protocol.groups, GROUPS),
        ):
            for name in names:
                if name not in known:
                    raise InputError(unknown(kind, name, known))
        self.network = network
        self.protocol = protocol
        self.device = torch.device(device)
        self.seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))

    def stream(self, *keys: str) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, *keys))

    def first(self, sets: Mapping[str, LabelledImages]) -> Sets:
        """Return the first `max_images` images of each set."""
        n = self.protocol.max_images or None
        return {name: LabelledImages(data.images[:n], data.labels[:n]) for name, data in sets.items()}

    def on_inliers(self, inliers: LabelledImages) -> Metrics:
        """Return clean and robust accuracy, as far as the protocol asks for them."""
        found = {}
        if "clean" in self.protocol.groups:
            found["accuracy/clean"] = self.accuracies({"id": inliers})["id"]
        if "robust" in self.protocol.groups:
            for epsilon in self.protocol.robust_epsilons:
                name = f"accuracy/robust_{epsilon_name(epsilon)}"
                stream = self.stream(name)
                found[name] = robust_accuracy(
                    self.network, inliers, epsilon, self.protocol, stream, self.device
                )
        return found

    def accuracies(self, sets: Mapping[str, LabelledImages]) -> Metrics:
        sets = self.first(sets)
        logits = self.logits(sets)
        return {name: ood.accuracy(logits[name].argmax(1), sets[name].labels, name) for name in sets}

    def logits(self, sets: Mapping[str, LabelledImages]) -> dict[str, Tensor]:
        """Return the float64 logits (n, classes) of each set, on the CPU."""
        size = batch_size(self.device)
        with (
            torch.no_grad(),
            attack_mode(self.network),
            torch.autocast(self.device.type, enabled=False),
        ):
            if any(isinstance(data.images, LazyImages) for data in sets.values()):
                # files are decoded batch by batch, never all at once
                return {name: self._in_order(data.images, size) for name, data in sets.items()}
            logits = self._in_order(_concatenate(sets), size)
        return dict(zip(sets, torch.split(logits, [len(data) for data in sets.values()]), strict=True))

    def _in_order(self, images: Any, size: int) -> Tensor:
        return (
            torch.cat([self.network(to_unit(x)) for x in in_order(images, size, self.device)]).double().cpu()
        )

    def under_attack(self, inliers: LabelledImages, outliers: Sets) -> dict[str, ScoresBySet]:
        """Return {epsilon: {set: scores of the attacked OOD images, "id": clean scores}}."""
        clean = _scores(self.logits({"id": inliers}), self.protocol.score)["id"]
        pool = to_device(_concatenate(outliers), self.device)
        ends = np.cumsum([len(data) for data in outliers.values()])[:-1]
        found = {}
        for epsilon in self.protocol.ood_epsilons:
            attacked = attacked_scores(
                self.network,
                pool,
                self.protocol.score,
                epsilon,
                steps=self.protocol.steps,
                restarts=self.protocol.restarts,
                generator=self.stream("robust_ood", epsilon_name(epsilon)),
                device=self.device,
            )
            by_set = dict(zip(outliers, np.split(attacked, ends), strict=True))
            found[epsilon_name(epsilon)] = {"id": clean, **by_set}
        return found


def _concatenate(sets: Mapping[str, LabelledImages]) -> np.ndarray:
    """Return all images in one array: as uint8 if every set is, else as float32 in [0, 1]."""
    arrays = [data.images for data in sets.values()]
    if len({a.dtype for a in arrays}) > 1:
        arrays = [a.astype(np.float32) / 255 if a.dtype == np.uint8 else a.astype(np.float32) for a in arrays]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _scores(logits: Mapping[str, Tensor], score: str) -> ScoresBySet:
    return {name: SCORES[score](values).numpy() for name, values in logits.items()}


def _per_set(scores: ScoresBySet, functions: Mapping[str, Callable[..., float]]) -> Metrics:
    """Return {"<metric>/<OOD set>": value}."""
    return {
        f"{metric}/{name}": function(scores["id"], values, name)
        for name, values in scores.items()
        if name != "id"
        for metric, function in functions.items()
    }


def _group_means(per_set: Metrics, groups: Mapping[str, list[str]]) -> Metrics:
    """Return {"<metric>/<group>": mean over the sets of the group}."""
    kinds = dict.fromkeys(name.split("/")[0] for name in per_set)
    return {
        f"{metric}/{group}": _mean(per_set[f"{metric}/{name}"] for name in names)
        for metric in kinds
        for group, names in groups.items()
        if names
    }


def _beside(score: str, scores: ScoresBySet, groups: Mapping[str, list[str]]) -> Metrics:
    """Return the group means (and the unknown classes, where there are any) of one more score."""
    per_set = _per_set(scores, ood.OOD_METRICS)
    found = _group_means(per_set, groups)
    found |= {name: value for name, value in per_set.items() if name.endswith("/unknown")}
    return {f"{score}/{name}": value for name, value in found.items()}


def _corrupted(accuracies: Metrics) -> Metrics:
    """Return the mean over all sets "<corruption>/<severity>" and over the severities of each corruption."""
    by_corruption: dict[str, list[float]] = {}
    for name, value in accuracies.items():
        by_corruption.setdefault(name.split("/")[0], []).append(value)
    found = {f"accuracy/corrupted/{name}": _mean(values) for name, values in by_corruption.items()}
    return {"accuracy/corrupted": _mean(accuracies.values()), **found}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
