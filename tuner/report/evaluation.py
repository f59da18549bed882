"""The report's sections on the evaluation: arms set by set, secondary metrics, other scores and detectors."""

from collections.abc import Iterable, Sequence

from trainables.evaluation.metrics.metric_family import MEANS, ood_family
from trainables.evaluation.metrics.metric_specs import METRICS, Metric, find_metric
from trainables.options.methods import UNTRAINED
from tuner.analysis.metric_text import interval_text
from tuner.analysis.ood_table import OodRow, ood_rows
from tuner.analysis.results import StudyResult, interval
from tuner.analysis.verdict import headline
from tuner.report.blocks import Block, Figure, Heading, Table, Text
from tuner.report.charts_arms import heat_legend, heat_maps
from tuner.report.charts_radii import radius_curves
from tuner.report.charts_scores import attack_images, histograms, roc
from tuner.report.data import ReportData

_OTHER_SCORES = tuple(ood_family(kind) for kind in ("auroc", "fpr95_id_pos"))
_MEANS = ("near", "far")


def by_set(result: StudyResult) -> list[Block]:
    """Return every arm on each OOD set, corruption or radius."""
    maps = [Figure(*made) for made in heat_maps(result)]
    curves = [Figure(*made) for made in radius_curves(result)]
    if not maps and not curves:
        return []
    seeds = max((len(values) for arm in result.arms for values in arm.values.values()), default=0)
    what = f"mean and 95 % interval over {seeds} fresh seeds" if seeds > 1 else "one fresh seed"
    words = Text(
        f"Test data, {what}. A colour: the 95 % interval of the paired difference excludes 0.", "note"
    )
    key = heat_legend(result)
    return [Heading("Set by set", "sets", "Sets"), words, *([Figure(key)] if key else []), *curves, *maps]


def scores(result: StudyResult, data: ReportData) -> list[Block]:
    """Return what was measured beside the headline: other metrics, other scores, the winner's outlier scores."""
    blocks = [*secondary_metrics(result), *other_scores(result), *scores_by_set(result)]
    if data.scores:
        rows = [
            (
                one.label,
                f"{100 * one.auroc:.1f} %",
                "-" if one.auroc_attacked is None else f"{100 * one.auroc_attacked:.1f} %",
            )
            for one in data.scores
        ]
        words = Table(
            ("OOD set", "AUROC", "attacked"),
            rows,
            title="The winner's outlier scores in its one run of the search",
        )
        blocks += [Figure(histograms(data.scores), words), Figure(roc(data.scores))]
    images = attack_images(result.attack_examples)
    blocks += [Figure(images)] if images else []
    return [Heading("Scores", "scores"), *blocks] if blocks else []


def secondary_metrics(result: StudyResult) -> list[Block]:
    """Return the metrics beside the headline that specs call a summary (calibration, AutoAttack, ...), by arm."""
    arms = result.measured_arms
    headlined = set(headline(result.plan))
    names = dict.fromkeys(name for arm in arms for name in arm.values)
    metrics = _summary([find_metric(name) for name in names if name not in headlined])
    if not metrics:
        return []
    rows = [[m.label, *(interval_text(m.name, arm.seed_interval(m.name)) for arm in arms)] for m in metrics]
    header = ("test metric", *(arm.label for arm in arms))
    return [
        Table(header, rows, title="Beside the headline"),
        Text(
            "Shown without a correction for looking at several; the claim is about the headline alone.",
            "note",
        ),
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
    winner = next((arm for arm in result.measured_arms if arm.name == "best"), None)
    values = winner.values if winner else {}
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
        rows.append(
            [score, *("-" if m is None else interval_text(m.name, interval(values[m.name])) for m in cells)]
        )
    header = [METRICS[family].label_of(set=where) for family, where in columns]
    return [
        Table(("score", *header), rows, title="Outlier scores and detectors on the winner"),
        Text(
            "Detectors are fitted on training images with their papers' settings; nothing was tuned. The study's own "
            "score was named beforehand, so a better one here is a hint and no result.",
            "note",
        ),
    ]


def scores_by_set(result: StudyResult) -> list[Block]:
    """Return every score and detector on every OOD set: of the winner, and of the classifier before any training."""
    shown = ("best", *(arm.name for arm in result.plan.arms if arm.method == UNTRAINED))
    rows = [row for row in ood_rows(result) if row.arm.name in shown and row.where not in MEANS]
    if len({row.score for row in rows}) < 2:
        return []
    return [table for family in _OTHER_SCORES if (table := _score_table(family, rows)) is not None]


def _score_table(family: str, rows: Sequence[OodRow]) -> Table | None:
    kind = family.rpartition("]")[2].removesuffix("/{set}")
    measured = [row for row in rows if kind in row.values]
    sets = list(dict.fromkeys(row.where for row in measured))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in measured:
        name = f"test/{kind}/{row.where}"
        lines.setdefault((row.arm.label, row.score), {})[row.where] = interval_text(name, row.values[kind])
    if not lines:
        return None
    cells = [(*key, *(line.get(where, "-") for where in sets)) for key, line in lines.items()]
    label = METRICS[family].label_of(set="near").removesuffix(", near OOD")
    title = f"{label} of every score and detector on every OOD set"
    return Table(
        ("arm", "score", *(where.replace("_", " ") for where in sets)),
        cells,
        title=title,
        words=frozenset({0, 1}),
    )
