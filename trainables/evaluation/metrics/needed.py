"""What a validation has to measure for some metrics alone. No torch."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from trainables.evaluation.metrics.metric_specs import find_metric
from trainables.evaluation.metrics.protocol import EvaluationProtocol, epsilon_name

OOD_GROUPS = ("near", "far")  #: the groups of validation OOD sets that can be measured one without the other


def narrowed(protocol: EvaluationProtocol, metrics: Collection[str]) -> EvaluationProtocol:
    """Return a protocol that measures no group and no radius of the accuracy that none of the metrics needs.

    Example:
        ("val/accuracy/clean", "val/robust_auroc_0.1/near") of the groups clean, ood, robust_ood -> clean, robust_ood

    Raises:
        InputError: no family has metrics of one of the names.
    """
    found = [find_metric(name) for name in metrics]
    groups = {metric.spec.group for metric in found}
    radii = {metric.parameters["epsilon"] for metric in found if metric.spec.group == "robust"}
    return replace(
        protocol,
        groups=tuple(group for group in protocol.groups if group in groups),
        robust_epsilons=tuple(e for e in protocol.robust_epsilons if epsilon_name(e) in radii),
    )


def needed_ood_groups(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the groups of OOD sets that the metrics are means over; both for single sets and means over all."""
    sets = {find_metric(name).parameters.get("set", "") for name in metrics} - {""}
    return tuple(group for group in OOD_GROUPS if group in sets) if sets <= set(OOD_GROUPS) else OOD_GROUPS
