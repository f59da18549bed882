"""Figures of the winner: arms with intervals, outlier scores, ROC, attacked images; None where data are missing."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainables.evaluation.metrics.metric_specs import ood_set_label
from tuner.analysis.metric_text import metric_label
from tuner.analysis.results import StudyResult
from tuner.analysis.verdict import measured_headline
from tuner.report.plots_search import BLUE, GREEN, GREY, PANELS, VERMILION, grid, percent, safe


def forest(result: StudyResult) -> Figure | None:
    """Return every arm's seeds, mean and interval in each headline metric."""
    metrics = measured_headline(result)[:PANELS]
    if not metrics:
        return None
    columns = min(3, len(metrics))
    figure, panels = grid(len(metrics), height=0.9 + 0.3 * len(result.arms), columns=columns, width=3.2)
    colours = {"baseline": VERMILION, "control": GREY, "confirm": GREEN}
    names = [arm.label for arm in result.arms]
    for i, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        for row, arm in enumerate(result.arms):
            interval = arm.seed_interval(metric)
            colour = BLUE if arm.name == "best" else colours[arm.role]
            seeds = [v for v in arm.values.get(metric, ()) if math.isfinite(v)]
            axes.plot(seeds, [row + 0.22] * len(seeds), "|", color=colour, alpha=0.6, markersize=5)
            if interval.n:
                half = interval.half if math.isfinite(interval.half) else 0.0
                axes.errorbar(interval.mean, row, xerr=half, fmt="o", color=colour, capsize=3, markersize=5)
        axes.set_yticks(
            range(len(names)), [safe(n) for n in names] if i % columns == 0 else [""] * len(names)
        )
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(safe(metric_label(metric)), fontsize=8.5)
        axes.grid(axis="x", lw=0.4, alpha=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        percent(axes, metric, "x")
    return figure


def histograms(result: StudyResult) -> Figure | None:
    """Return the winner's outlier scores of ID images beside those of each OOD set, clean and attacked."""
    inliers, scores, sets = _shown(result)
    if not sets:
        return None
    figure, panels = grid(len(sets), height=2.0)
    shown = np.concatenate([inliers, *(scores[name] for name in sets)])
    low, high = np.percentile(shown, (0.2, 99.8))
    bins = np.linspace(low, high if high > low else low + 1, 36).tolist()
    for i, (axes, name) in enumerate(zip(panels, sets, strict=True)):
        title = f"{ood_set_label(name)}\nAUROC {100 * auroc(inliers, scores[name]):.1f} %"
        for values, colour, filled, label in (
            (inliers, GREY, True, "ID"),
            (scores[name], BLUE, True, "OOD"),
            (scores.get(f"{name} attacked", np.empty(0)), VERMILION, False, "OOD attacked"),
        ):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axes.hist(
                    np.clip(values, low, high),
                    bins=bins,
                    weights=weights,
                    histtype="stepfilled" if filled else "step",
                    color=colour,
                    alpha=0.55 if filled else 1.0,
                    lw=1.3,
                    label=label,
                )
                title += f", attacked {100 * auroc(inliers, values):.1f} %" if not filled else ""
        axes.set_title(safe(title), fontsize=8.5)
        axes.set_yticks([])
        if i == 0:
            axes.legend(fontsize=7, frameon=False)
    figure.supxlabel("outlier score (higher: more OOD)", fontsize=10)
    figure.supylabel("share of images", fontsize=10)
    return figure


def roc(result: StudyResult) -> Figure | None:
    """Return the winner's ROC curve on each OOD set, clean and attacked."""
    inliers, scores, sets = _shown(result)
    if not sets:
        return None
    figure, panels = grid(len(sets), height=2.0)
    for i, (axes, name) in enumerate(zip(panels, sets, strict=True)):
        axes.plot((0, 1), (0, 1), color=GREY, lw=0.7, ls=(0, (2, 3)))
        for outliers, colour, label in (
            (scores[name], BLUE, "OOD"),
            (scores.get(f"{name} attacked", np.empty(0)), VERMILION, "OOD attacked"),
        ):
            if len(outliers):
                flagged, detected = roc_curve(inliers, outliers)
                axes.plot(flagged, detected, color=colour, lw=1.3, label=label)
                at = np.searchsorted(flagged, 0.05, side="right") - 1  # the last that accepts 95 % of ID
                axes.plot(flagged[at], detected[at], "o", color=colour, markersize=3.5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(safe(ood_set_label(name)), fontsize=8.5)
        if i == 0:
            axes.legend(fontsize=7, frameon=False)
    figure.supxlabel("share of ID images flagged", fontsize=10)
    figure.supylabel("share of OOD images detected", fontsize=10)
    return figure


def roc_curve(inliers: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (share of inliers, share of outliers) at or above each threshold, from none to all.

    Example:
        inliers 1, 2 and outliers 2, 3: thresholds 3, 2, 1 give (0, 1/2), (1/2, 1), (1, 1), after (0, 0).
    """
    thresholds = np.unique(np.concatenate([inliers, outliers]))[::-1]
    shares = [
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(side), thresholds, "left") / len(side)])
        for side in (inliers, outliers)
    ]
    return shares[0], shares[1]


def auroc(inliers: np.ndarray, outliers: np.ndarray) -> float:
    """Return the chance that an outlier scores above an inlier, ties half.

    Example:
        inliers 0, 1, 2 and outliers 1, 3: (1.5 + 3) / 6 = 0.75
    """
    ranked = np.sort(inliers)
    below = np.searchsorted(ranked, outliers, "left") + np.searchsorted(ranked, outliers, "right")
    return float(below.mean() / 2 / len(ranked))


def attack_examples(result: StudyResult) -> Figure | None:
    """Return outliers before and after the attack, and their difference stretched to full contrast."""
    if (
        not result.attack_examples
        or "before" not in result.attack_examples
        or "after" not in result.attack_examples
    ):
        return None
    before, after = (
        np.asarray(result.attack_examples[key], dtype=float)[:PANELS] for key in ("before", "after")
    )
    if not before.size or before.shape != after.shape:
        return None
    change = after - before
    largest = float(np.abs(change).max()) or 1.0
    rows = (("before", before), ("after", after), (f"change\n(±{largest:.2g})", 0.5 + change / (2 * largest)))
    k = max(len(before), 4)
    figure = Figure(figsize=(0.75 * k + 1.0, 2.7), layout="constrained")
    panels = figure.subplots(3, len(before), squeeze=False)
    for row, (label, images) in enumerate(rows):
        for axes, image in zip(panels[row], images, strict=True):
            grey = image.ndim == 3 and image.shape[-1] == 1
            shown = np.clip(image[..., 0] if grey else image, 0, 1)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        panels[row][0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    return figure


def _shown(result: StudyResult) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Return the scores of ID images, those of each OOD set and "SET attacked", and the sets to draw, [] for none."""
    scores = {name: _finite(values) for name, values in result.scores.items()}
    inliers = scores.pop("id", np.empty(0))
    sets = [n for n, values in scores.items() if not n.endswith(" attacked") and len(values)][:PANELS]
    return inliers, scores, sets if len(inliers) else []


def _finite(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    kept: np.ndarray = array[np.isfinite(array)]
    return kept
