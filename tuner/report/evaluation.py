"""The report's sections on what the evaluation measured beside the headline, and how far it can be trusted."""

import re
from collections.abc import Iterable, Mapping

from tuner.analysis.metric_text import interval_text, plain
from tuner.analysis.results import ArmResult, Interval, StudyResult, interval
from tuner.analysis.verdict import headline, over_seeds
from tuner.report import plots_search, plots_winner
from tuner.report.blocks import Block, Heading, Picture, Table, Text

#: What is shown beside the headline, in this order.
_BESIDE = (
    r"calibration/ece",
    r"accuracy/autoattack_[\d.]+",
    r"accuracy/robust_[\d.]+",
    r"robust_auroc_[\d.]+/(near|far|unknown)",
    r"robust_auroc_(id|both)_[\d.]+/(near|far)",
    r"accuracy/corrupted(/off_noise)?",
    r"mce(/off_noise)?",
    r"attack_check_[\d.]+/auroc_change",
)
_COLUMNS = ("auroc/near", "auroc/far", "fpr95_id_pos/near", "fpr95_id_pos/far")
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
    """Return what must be known before a number is believed: attacks that do not hold, detectors left out."""
    trials: dict[str, list[str]] = {}
    for key, lines in result.remarks.items():
        for line in lines:
            trials.setdefault(line, []).append(key)
    if not trials:
        return []
    shown = [Text(f"{line} (trial {', '.join(keys)})", "warning") for line, keys in trials.items()]
    return [Heading("Can the measurement be trusted?"), *shown]


def beside(result: StudyResult) -> list[Block]:
    """Return calibration, AutoAttack, the other sides of the attack and the like, by arm."""
    arms = result.arms or _winner_alone(result)
    known = list(dict.fromkeys(metric for arm in arms for metric in arm.values))
    shown = set(headline(result.plan))
    metrics = [
        metric
        for pattern in _BESIDE
        for metric in known
        if metric not in shown and re.fullmatch(f"test/{pattern}", metric)
    ]
    if not metrics:
        return []
    rows = [[plain(metric), *(_text(metric, over_seeds(arm, metric)) for arm in arms)] for metric in metrics]
    header = ("test metric", *("winner" if arm.name == "best" else arm.name for arm in arms))
    return [
        Heading("Beside the headline"),
        Text("Shown without a correction for looking at several; the claim is about the headline alone."),
        Table(header, rows),
    ]


def other_scores(result: StudyResult) -> list[Block]:
    """Return how the winner's outliers are detected by every score and detector that was measured."""
    winner = result.arm("best")
    values = winner.values if winner else _values(result)
    scores = dict.fromkeys(m.split("/")[1] for m in values if re.fullmatch(r"test/\w+/auroc/(near|far)", m))
    columns = [c for c in _COLUMNS if any(f"test/{score}/{c}" in values for score in scores)]
    if not scores or not columns:
        return []
    rows = [
        [score, *(_text(c, interval(values.get(f"test/{score}/{c}", ()))) for c in columns)]
        for score in scores
    ]
    return [
        Heading("Outlier scores and detectors on the winner"),
        Text(
            "Detectors are fitted on training images with their papers' settings; nothing was tuned. The study's own "
            "score was named beforehand, so a better one here is a hint and no result."
        ),
        Table(("score", *(plain(f"test/{c}") for c in columns)), rows),
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


def _text(metric: str, found: Interval) -> str:
    return interval_text(metric, found) if found.n else "-"
