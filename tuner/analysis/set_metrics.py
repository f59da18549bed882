"""Which test metrics show a result set by set: by OOD set, corruption or radius, the claim's kind of metric first."""

from collections.abc import Iterable

from trainables.base.errors import InputError
from trainables.evaluation.metrics.metric_family import MEANS, ood_family, robust_ood_family
from trainables.evaluation.metrics.metric_specs import find_metric
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import claim_metric

_CORRUPTION = "accuracy/corrupted/{corruption}"
_RADII = "accuracy/robust_{epsilon}"


def set_metrics(result: StudyResult) -> list[str]:
    """Return the measured test metrics of single sets, of the claim's family if it has any.

    Else robust AUROC, AUROC, accuracy by corruption, accuracy by radius, whichever was measured first of these.
    """
    names = dict.fromkeys(name for tests in result.tests.values() for name in tests)
    names |= dict.fromkeys(name for arm in result.arms for name in arm.values)
    return next((found for found in families(result, names) if found), [])


def families(result: StudyResult, names: Iterable[str]) -> list[list[str]]:
    """Return measured test metrics by family, the claim's family first; means over several sets are left out."""
    measured = [find_metric(name) for name in dict.fromkeys(names)]
    measured = [m for m in measured if not {"score", "side"} & set(m.parameters)]
    claimed = find_metric(claim_metric(result.plan))
    claim_family = _CORRUPTION if claimed.spec.name == "accuracy/corrupted" else claimed.spec.name
    radius = claimed.parameters.get("epsilon")
    order = dict.fromkeys(
        (claim_family, robust_ood_family("auroc"), ood_family("auroc"), _CORRUPTION, _RADII)
    )
    found = []
    for family in order:
        own = [m for m in measured if m.spec.name == family and m.parameters.get("set") not in MEANS]
        at_radius = [m for m in own if "set" in m.parameters and m.parameters.get("epsilon") == radius]
        found.append([m.name for m in at_radius or own if m.parameters])
    return found


def is_detail(metric: str) -> bool:
    """Return whether a metric is that of a score named beside the study's own on a single set.

    There are hundreds: they have tables by set, and no column or curve of their own.

    Example:
        "test/knn/auroc/hflip": True; "test/knn/auroc/near", "test/knn/auroc/unknown" and "test/auroc/hflip": False
    """
    try:
        parameters = find_metric(metric).parameters
    except InputError:  # of another version, whose names are not known here
        return False
    return "score" in parameters and parameters.get("set", "all") not in (*MEANS, "unknown")


def set_label(metric: str) -> str:
    """Return the set, corruption or radius of a metric in words; all of its label where it has none.

    Example:
        "test/robust_auroc_0.1/china_stretched" -> "china stretched"; "test/accuracy/robust_0.2" -> "ε 0.2"
    """
    known = find_metric(metric)
    for parameter in ("set", "corruption"):
        if parameter in known.parameters:
            return known.parameter_label(parameter)
    return f"ε {known.parameters['epsilon']}" if known.parameters.get("epsilon") else known.label


def family_label(metric: str) -> str:
    """Return a metric's label without its set: "robust AUROC (ε 0.1)"; accuracies by corruption or radius in words."""
    known = find_metric(metric)
    if "set" in known.parameters:
        return known.label.removesuffix(f", {known.parameter_label('set')}")
    return {_CORRUPTION: "accuracy by corruption", _RADII: "accuracy under attack by radius"}.get(
        known.spec.name, known.label
    )
