"""The report's sections on remarks of the evaluation, secondary metrics, other scores and detectors, score plots."""

from collections.abc import Iterable, Mapping

from trainables.evaluation.metrics.metric_specs import METRICS, Metric, find_metric, ood_family
from tuner.analysis.metric_text import interval_text
from tuner.analysis.results import ArmResult, Interval, StudyResult, interval
from tuner.analysis.verdict import headline
from tuner.report import plots_search, plots_winner
from tuner.report.blocks import Block, Heading, Picture, Table, Text

_OTHER_SCORES = tuple(ood_family(kind) for kind in ("auroc", "fpr95_id_pos"))
_MEANS = ("near", "far")
#: {file: (figure, caption)} of the winner's outlier scores.
FIGURES = {
    "outlier-scores.png": (
        plots_winner.histograms,
        "Outlier scores of the ID test images (grey) and of each OOD set, without attack (blue) and with the OOD "
        "images attacked (red line).",
    ),
    "roc.png": (
        plots_winner.roc,
        "ROC of each OOD set: share of OOD images detected against share of ID images flagged, without attack (blue) "
        "and with the OOD images attacked (red); the dot is where 95 % of the ID images are accepted.",
    ),
}


def remarks(result: StudyResult) -> list[Block]:
    """Return the evaluation's remarks (attacks that do not hold, detectors left out) and the trials they concern."""
    trials: dict[str, list[str]] = {}
    for key, lines in result.remarks.items():
        for line in lines:
            trials.setdefault(line, []).append(key)
    if not trials:
        return []
    shown = [Text(f"{line} (trial {', '.join(keys)})", "warning") for line, keys in trials.items()]
    return [Heading("Can the measurement be trusted?"), *shown]


def secondary_metrics(result: StudyResult) -> list[Block]:
    """Return the metrics beside the headline that specs call a summary (calibration, AutoAttack, ...), by arm."""
    arms = result.arms or _winner_alone(result)
    headlined = set(headline(result.plan))
    names = dict.fromkeys(name for arm in arms for name in arm.values)
    metrics = _summary([find_metric(name) for name in names if name not in headlined])
    if not metrics:
        return []
    rows = [[m.label, *(_text(m.name, arm.seed_interval(m.name)) for arm in arms)] for m in metrics]
    header = ("test metric", *(arm.label for arm in arms))
    return [
        Heading("Beside the headline"),
        Text("Shown without a correction for looking at several; the claim is about the headline alone."),
        Table(header, rows),
    ]


def _summary(metrics: Iterable[Metric]) -> list[Metric]:
    """Return those that specs call a summary, in the order of the specs, the attack on the OOD images first."""
    order = METRICS.names
    chosen = [
        m
        for m in metrics
        if m.spec.summary
        and "score" not in m.parameters
        and m.parameters.get("set", "near") in _shown_sets(m)
    ]
    return sorted(chosen, key=lambda m: (order.index(m.spec.name), "side" in m.parameters))


def _shown_sets(metric: Metric) -> tuple[str, ...]:
    return _MEANS if "side" in metric.parameters else (*_MEANS, "unknown")


def other_scores(result: StudyResult) -> list[Block]:
    """Return how the winner's outliers are detected by every score and detector that was measured."""
    winner = result.arm("best")
    values = winner.values if winner else _values(result)
    measured = {
        (m.parameters["score"], m.spec.name, m.parameters["set"]): m
        for m in map(find_metric, values)
        if m.spec.name in _OTHER_SCORES and "score" in m.parameters and m.parameters["set"] in _MEANS
    }
    if not measured:
        return []
    columns = [(f, s) for f in _OTHER_SCORES for s in _MEANS if any(key[1:] == (f, s) for key in measured)]
    rows = []
    for score in dict.fromkeys(score for score, _, _ in measured):
        cells = [measured.get((score, *column)) for column in columns]
        rows.append([score, *("-" if m is None else _text(m.name, interval(values[m.name])) for m in cells)])
    header = [METRICS[family].label_of(set=where) for family, where in columns]
    return [
        Heading("Outlier scores and detectors on the winner"),
        Text(
            "Detectors are fitted on training images with their papers' settings; nothing was tuned. The study's own "
            "score was named beforehand, so a better one here is a hint and no result."
        ),
        Table(("score", *header), rows),
    ]


def scores(result: StudyResult) -> list[Block]:
    """Return the histograms and ROC curves of the winner's outlier scores, also as files of their own."""
    drawn = [(name, draw(result), caption) for name, (draw, caption) in FIGURES.items()]
    pictures = [Picture(plots_search.png(figure), caption, name) for name, figure, caption in drawn if figure]
    return [Heading("Outlier scores of the winner"), *pictures] if pictures else []


def _values(result: StudyResult) -> Mapping[str, tuple[float, ...]]:
    """Return the winner's test metrics of its one run in the search."""
    tests = result.tests.get(result.best.key, {}) if result.best else {}
    return {metric: (value,) for metric, value in tests.items()}


def _winner_alone(result: StudyResult) -> Iterable[ArmResult]:
    values = _values(result)
    return [ArmResult("best", "search", "", {}, values)] if values else []


def _text(metric: str, value: Interval) -> str:
    return interval_text(metric, value) if value.n else "-"
