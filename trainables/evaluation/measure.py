"""Measure a classifier under a protocol: `validate` during a search, `evaluate` after it.

Both return the metrics under the names that reports, MLflow and objectives use. A random stream is derived
for each part, so that a number does not depend on which other groups were asked for.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.base.errors import InputError
from trainables.base.own_specs import short_name
from trainables.base.seeds import derive_seed
from trainables.data.loading.device_loader import to_unit
from trainables.data.loading.stream_loader import in_order
from trainables.data.readers.corrupted_files import NOISES
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.lazy_images import LazyImages
from trainables.data.types.splits import Split
from trainables.evaluation.attacks.autoattack import auto_attack
from trainables.evaluation.attacks.image_batches import batch_size
from trainables.evaluation.attacks.noise_robustness import noise_robustness
from trainables.evaluation.attacks.robust_accuracy import robust_accuracy
from trainables.evaluation.attacks.robust_ood import ScoreAttacks, robust_aurocs, robust_rates
from trainables.evaluation.detectors.score_all import score_all
from trainables.evaluation.metrics import ood_metrics as ood
from trainables.evaluation.metrics.calibration import calibration
from trainables.evaluation.metrics.corruption_error import mce_metrics
from trainables.evaluation.metrics.metric_specs import check_registered
from trainables.evaluation.metrics.metrics_per_set import (
    Groups,
    Metrics,
    ScoresBySet,
    group_means,
    mean,
    metrics_per_set,
    named_by_score,
    ood_metrics_of_score,
)
from trainables.evaluation.metrics.needed import OOD_GROUPS, narrowed, needed_ood_groups
from trainables.evaluation.metrics.protocol import EvaluationProtocol, epsilon_name
from trainables.evaluation.metrics.score_specs import SCORES
from trainables.evaluation.result import Evaluation
from trainables.functional.attacks import attack_mode
from trainables.networks import Classifier

Sets = dict[str, LabelledImages]
TOP5_CLASSES = 100  # from so many on papers give the top-5 accuracy
VALIDATION_GROUPS = {Split.VAL_OOD_NEAR: "near", Split.VAL_OOD_FAR: "far"}
TEST_GROUPS = {Split.TEST_OOD_NEAR: "near", Split.TEST_OOD_FAR: "far", Split.TEST_OOD_OTHER: ""}


def validate(
    network: nn.Module,
    benchmark: Benchmark,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
    device: torch.device | str,
    only: Collection[str] = (),
) -> Metrics:
    """Measure on validation images only and return {"val/<metric>": value}.

    `near` and `far` are the means over the validation OOD sets of that kind, `all` is that over all of them. The
    benchmark may be sealed. What it lacks is left out.

    Args:
        network: (n, c, h, w) in [0, 1] -> logits (n, classes); run in eval mode, left as it was.
        generator: on the same device; advanced by one draw.
        only: the metrics that are wanted; the others are not measured. Empty: all. But for rounding, no value depends
            on it.

    Raises:
        InputError: the protocol names an unknown group or score.
        MetricInputError: a score is NaN, or a set is empty.
    """
    protocol, wanted = (narrowed(protocol, only), needed_ood_groups(only)) if only else (protocol, OOD_GROUPS)
    session = _Session(network, protocol, generator, device)
    inliers = session.first(benchmark.sets(Split.VAL_ID))["id"]
    metrics = session.on_inliers(inliers)
    found = {
        group: benchmark.sets(split)
        for split, group in VALIDATION_GROUPS.items()
        if group in wanted and benchmark.has(split)
    }
    if found:
        sets, groups = {"id": inliers}, {group: list(named) for group, named in found.items()}
        for named in found.values():
            sets |= session.first(named)
        groups["all"] = [name for name in sets if name != "id"]
        if "ood" in protocol.groups:
            by_set = metrics_per_set(_scores(session.logits(sets), protocol.score), ood.OOD_METRICS)
            metrics |= group_means(by_set, groups)
            metrics |= {name: value for name, value in by_set.items() if name.startswith("auroc/")}
        if "robust_ood" in protocol.groups:
            attacks = session.attacks(sets, (protocol.score,))
            for epsilon in protocol.ood_epsilons:
                by_set = robust_aurocs(
                    attacks.under_attack(protocol.score, epsilon), epsilon, protocol.ood_sides
                )
                metrics |= by_set | group_means(by_set, groups)
    if "corrupted" in protocol.groups and benchmark.has(Split.VAL_CORRUPTED):
        accuracies, _ = session.accuracies(benchmark.sets(Split.VAL_CORRUPTED))
        metrics["accuracy/corrupted"] = mean(accuracies.values())
    measured = check_registered({f"val/{name}": value for name, value in metrics.items()})
    return {name: value for name, value in measured.items() if not only or name in only}


def evaluate(
    network: nn.Module,
    benchmark: Benchmark,
    protocol: EvaluationProtocol,
    generator: torch.Generator,
    device: torch.device | str,
    state: Path | None = None,
) -> Evaluation:
    """Measure on the sealed test splits, once the search has ended.

    Means over near and far OOD are means over their sets, each set weighing the same; what the benchmark
    calls "other" is reported by set and is in no mean. Corrupted accuracy is the mean over corruptions and
    severities. Arguments and errors are those of `validate`.

    Args:
        network: a `networks.Classifier` where the protocol names detectors.
        state: folder in which AutoAttack keeps what it needs to go on after a kill; None keeps nothing.

    Raises:
        SealedSplitError: the benchmark is sealed.
        InputError: as for `validate`; detectors for a network without features.
    """
    session = _Session(network, protocol, generator, device)
    inliers = session.first(benchmark.sets(Split.TEST_ID))["id"]
    result = Evaluation(session.on_inliers(inliers))
    sets, groups = {"id": inliers}, {}
    for split, group in TEST_GROUPS.items():
        if benchmark.has(split):
            loaded = session.first(benchmark.sets(split))
            sets |= loaded
            if group:
                groups[group] = list(loaded)
    if len(sets) > 1 and "ood" in protocol.groups:
        logits = session.logits(sets)
        result.scores = _scores(logits, protocol.score)
        by_set = metrics_per_set(result.scores, ood.OOD_METRICS)
        result.metrics |= by_set | group_means(by_set, groups)
        for score in protocol.scores:
            result.metrics |= ood_metrics_of_score(score, _scores(logits, score), groups)
    if len(sets) > 1 and "robust_ood" in protocol.groups:
        _under_attack(session, sets, groups, result)
    if len(sets) > 1 and protocol.detectors:
        _by_detectors(session, benchmark, sets, groups, result)
    for epsilon in protocol.auto_attack_epsilons:
        _auto_attack(session, inliers, epsilon, state, result)
    if "corrupted" in protocol.groups and benchmark.has(Split.CORRUPTED):
        accuracies, top5 = session.accuracies(benchmark.sets(Split.CORRUPTED))
        result.metrics |= _corrupted(accuracies) | mce_metrics(benchmark, accuracies)
        result.metrics |= {"accuracy/corrupted/top5": mean(top5.values())} if top5 else {}
    if protocol.noise_rms:
        result.metrics |= session.learned_noise(benchmark.labelled(Split.TRAIN), inliers)
    result.metrics = check_registered({f"test/{name}": value for name, value in result.metrics.items()})
    return result


def _by_detectors(
    session: "_Session", benchmark: Benchmark, sets: Sets, groups: Groups, result: Evaluation
) -> None:
    """Measure OOD detection by the protocol's detectors, fitted on training images."""
    network = session.network
    if not isinstance(network, Classifier):
        raise InputError(
            f"detectors need a Classifier with features and a head, not {type(network).__name__}"
        )
    unsuited: dict[str, str] = {}
    images = {name: data.images for name, data in sets.items()}
    train, names = benchmark.labelled(Split.TRAIN), session.protocol.detectors
    scores = score_all(network, train, images, names, session.device, unsuited, benchmark.info.name)
    for name, by_name in scores.items():
        result.metrics |= ood_metrics_of_score(name, by_name, groups)
    result.remarks += [f"detector {short_name(name)} left out: {reason}" for name, reason in unsuited.items()]


def _under_attack(session: "_Session", sets: Sets, groups: Groups, result: Evaluation) -> None:
    """Measure OOD detection under attacks on the protocol's scores, and check the attack."""
    protocol, sides = session.protocol, session.protocol.ood_sides
    others = [name for name in protocol.robust_scores if name != protocol.score]
    attacks = session.attacks(sets, (protocol.score, *others))
    for epsilon in protocol.ood_epsilons:
        attack = attacks.under_attack(protocol.score, epsilon)
        result.attacked_scores[epsilon_name(epsilon)] = attack.for_plots()
        by_set = robust_aurocs(attack, epsilon, sides)
        result.metrics |= by_set | group_means(by_set | robust_rates(attack, epsilon, sides), groups)
        if protocol.score in protocol.robust_scores:
            result.metrics |= named_by_score(protocol.score, by_set, groups)
        for score in others:
            by_set = robust_aurocs(attacks.under_attack(score, epsilon), epsilon, sides)
            result.metrics |= named_by_score(score, by_set, groups)
        if protocol.check_steps and epsilon == max(protocol.ood_epsilons) and set(sides) != {"id"}:
            metrics, remarks = attacks.check(epsilon, attack)
            result.metrics |= metrics
            result.remarks += remarks


def _auto_attack(
    session: "_Session", inliers: LabelledImages, epsilon: float, state: Path | None, result: Evaluation
) -> None:
    """Measure the robust accuracy by AutoAttack; its warnings about the network become remarks."""
    name, n = epsilon_name(epsilon), session.protocol.auto_attack_images or None
    outcome = auto_attack(
        session.network,
        LabelledImages(inliers.images[:n], inliers.labels[:n]),
        epsilon,
        seed=derive_seed(session.seed, "autoattack", name) % 2**31,
        device=session.device,
        state=None if state is None else state / f"autoattack-{name}.npz",
    )
    result.metrics[f"accuracy/autoattack_{name}"] = outcome.accuracy
    result.remarks += [f"AutoAttack at {name}: {line}" for line in outcome.warnings]
    if outcome.version != "standard":
        result.remarks.append(
            f"AutoAttack at {name} is its {outcome.version} version ({', '.join(outcome.attacks)}), "
            "not the standard one"
        )


class _Session:
    """One network under one protocol on one device, with a random stream for each purpose."""

    def __init__(
        self,
        network: nn.Module,
        protocol: EvaluationProtocol,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        protocol.check()
        self.network = network
        self.protocol = protocol
        self.device = torch.device(device)
        self.seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))

    def stream(self, *keys: str) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, *keys))

    def first(self, sets: Mapping[str, LabelledImages]) -> Sets:
        """Return the first `max_images` images of each set.

        Raises:
            MetricInputError: a set is empty.
        """
        n = self.protocol.max_images or None
        for name, data in sets.items():
            if not len(data):
                raise ood.MetricInputError(f"set {name} has no images")
        return {name: LabelledImages(data.images[:n], data.labels[:n]) for name, data in sets.items()}

    def on_inliers(self, inliers: LabelledImages) -> Metrics:
        """Return accuracy, calibration error and robust accuracy, as far as the protocol asks for them."""
        metrics = {}
        if {"clean", "calibration"} & set(self.protocol.groups):
            logits = self.logits({"id": inliers})["id"]
            if "clean" in self.protocol.groups:
                metrics["accuracy/clean"] = ood.accuracy(logits.argmax(1), inliers.labels, "id")
                if logits.shape[1] >= TOP5_CLASSES:
                    metrics["accuracy/top5"] = top5_accuracy(logits, inliers.labels)
            if "calibration" in self.protocol.groups:
                metrics["calibration/ece"] = calibration(logits, inliers.labels, name="id").ece
        if "robust" in self.protocol.groups:
            for epsilon in self.protocol.robust_epsilons:
                name = f"accuracy/robust_{epsilon_name(epsilon)}"
                stream = self.stream(name)
                metrics[name] = robust_accuracy(
                    self.network, inliers, epsilon, self.protocol, stream, self.device
                )
        return metrics

    def attacks(self, sets: Sets, scores: tuple[str, ...]) -> ScoreAttacks:
        """Return the attacks on some scores, with the clean ones they are compared with."""
        logits = self.logits(sets)
        return ScoreAttacks(
            self.network,
            self.protocol,
            {name: data.images for name, data in sets.items()},
            {score: _scores(logits, score) for score in scores},
            self.stream,
            self.device,
        )

    def accuracies(self, sets: Mapping[str, LabelledImages]) -> tuple[Metrics, Metrics]:
        """Return {set: accuracy} and {set: top-5 accuracy}, the latter empty for fewer than TOP5_CLASSES classes."""
        sets = self.first(sets)
        logits = self.logits(sets)
        top1 = {name: ood.accuracy(logits[name].argmax(1), sets[name].labels, name) for name in sets}
        if any(values.shape[1] < TOP5_CLASSES for values in logits.values()):
            return top1, {}
        return top1, {name: top5_accuracy(logits[name], sets[name].labels) for name in sets}

    def learned_noise(self, train: LabelledImages, inliers: LabelledImages) -> Metrics:
        """Return how strong the noise of a generator trained anew must be, and the accuracy at its own strength."""
        values = float(np.prod(inliers.images.shape[1:])) ** 0.5  # an L2 norm over its root mean square
        found = noise_robustness(
            self.network,
            train,
            inliers,
            self.protocol.noise_rms * values,
            iterations=self.protocol.noise_steps,
            generator=self.stream("learned_noise"),
            device=self.device,
        )
        return {
            "learned_noise/median_rms": min(1.0, found.median_l2 / values),
            "learned_noise/accuracy": found.accuracy,
        }

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


def _concatenate(sets: Mapping[str, LabelledImages]) -> np.ndarray:
    """Return all images in one array: as uint8 if every set is, else as float32 in [0, 1]."""
    arrays = [data.images for data in sets.values()]
    if len({a.dtype for a in arrays}) > 1:
        arrays = [a.astype(np.float32) / 255 if a.dtype == np.uint8 else a.astype(np.float32) for a in arrays]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _scores(logits: Mapping[str, Tensor], score: str) -> ScoresBySet:
    function = SCORES[score].load()
    return {name: function(values).numpy() for name, values in logits.items()}


def top5_accuracy(logits: Tensor, labels: np.ndarray) -> float:
    """Return the share of images whose class is among the five with the largest logits, (n, classes) and (n,)."""
    five = logits.topk(5, dim=1).indices
    return float((five == torch.as_tensor(labels, dtype=torch.long)[:, None]).any(1).double().mean())


def _corrupted(accuracies: Metrics) -> Metrics:
    """Return the mean over all sets "<corruption>/<severity>", over those that are no noise, and of each corruption."""
    by_corruption: dict[str, list[float]] = {}
    for name, value in accuracies.items():
        by_corruption.setdefault(name.split("/")[0], []).append(value)
    means = {f"accuracy/corrupted/{name}": mean(values) for name, values in by_corruption.items()}
    quiet = [mean(values) for name, values in by_corruption.items() if name not in NOISES]
    off_noise = {"accuracy/corrupted/off_noise": mean(quiet)} if quiet else {}
    return {"accuracy/corrupted": mean(accuracies.values()), **off_noise, **means}
