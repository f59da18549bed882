"""Plots of accuracy and OOD detection over the radius of the attack, a line for each arm (`--protocol curves`)."""

from collections.abc import Sequence
from typing import NamedTuple

from trainables.evaluation.metrics.metric_family import robust_ood_family
from trainables.evaluation.metrics.metric_specs import Metric, find_metric
from tuner.analysis.metric_text import interval_text, metric_label, value_text
from tuner.analysis.results import ArmResult, StudyResult
from tuner.report.axes import Axis, nice_ticks, span_axis, with_ticks
from tuner.report.blocks import Table
from tuner.report.markup import Markup
from tuner.report.svg import figure, legend, line, line_class, path, plot

LEAST = 3  # radii beside 0 that make a curve
AUROC_GUESS = 0.5


class _Curve(NamedTuple):
    """One metric over the radius.

    Attributes:
        metrics: {radius: its name}, in ascending order; at 0 that without attack.
        guess: the value of a classifier that guesses, None where it is not known.
    """

    label: str
    metrics: dict[float, str]
    guess: float | None


def radius_curves(result: StudyResult) -> list[tuple[Markup, Table]]:
    """Return accuracy and near and far AUROC over the radius, as far as enough radii were measured."""
    return [_drawn(curve, result.arms) for curve in _curves(result)]


def _curves(result: StudyResult) -> list[_Curve]:
    names = dict.fromkeys(name for arm in result.arms for name in arm.values)
    found: dict[tuple[str, str], dict[float, Metric]] = {}
    for metric in map(find_metric, names):
        if metric.split == "test" and set(metric.parameters) in ({"epsilon"}, {"epsilon", "set"}):
            key = metric.spec.name, metric.parameters.get("set", "")
            found.setdefault(key, {})[float(metric.parameters["epsilon"])] = metric
    classes = len(result.classes)
    wanted = (
        ("accuracy/robust_{epsilon}", "", "test/accuracy/clean", 1 / classes if classes else None),
        *(
            (robust_ood_family("auroc"), group, f"test/auroc/{group}", AUROC_GUESS)
            for group in ("near", "far")
        ),
    )
    curves = []
    for family, group, clean, guess in wanted:
        measured = {radius: metric.name for radius, metric in sorted(found.get((family, group), {}).items())}
        if len(measured) >= LEAST:
            label = metric_label(clean) if group else "Accuracy"
            curves.append(_Curve(label, {0.0: clean, **measured}, guess))
    return curves


def _drawn(curve: _Curve, arms: Sequence[ArmResult]) -> tuple[Markup, Table]:
    x = _radius_axis(max(curve.metrics))
    ends = [0.0 if curve.guess is None else curve.guess]
    ends += [
        arm.seed_interval(name).mean for arm in arms for name in curve.metrics.values() if name in arm.values
    ]
    y = span_axis(next(iter(curve.metrics.values())), min(ends), max(ends))
    marks, key, rows = [], [], []
    for i, arm in enumerate(arms):
        measured = {r: arm.seed_interval(name) for r, name in curve.metrics.items() if arm.values.get(name)}
        points = [(x.place(r) or 0.0, y.place(interval.mean) or 0.0) for r, interval in measured.items()]
        marks.append(path(line(points), line_class(i)))
        key.append((f"line {line_class(i)}", arm.label))
        rows.append(
            [
                arm.label,
                *(interval_text(n, measured[r]) if r in measured else "-" for r, n in curve.metrics.items()),
            ]
        )
    if curve.guess is not None:
        level = y.place(curve.guess) or 0.0
        marks.append(path(line([(0.0, level), (1.0, level)]), "guess"))
        key.append(("line guess", f"guessing, {value_text(curve.metrics[0.0], curve.guess)}"))
    header = ("configuration", *(f"ε {radius:.4g}" for radius in curve.metrics))
    title = f"{curve.label} over the radius of the attack"
    says = f"{title}: " + "; ".join(f"{row[0]} {row[1]} without attack" for row in rows)
    drawn = plot(x, y, marks, says, height=260, x_label=x.label, class_="lines")
    note = "Test data, mean over the fresh seeds; each radius has an attack of its own, 0 is without one."
    return figure(title, note, legend(*key), drawn), Table(header, rows, title=title)


def _radius_axis(largest: float) -> Axis:
    return with_ticks(
        Axis("radius ε (Linf, in [0, 1] pixel units)", 0.0, largest), nice_ticks(0.0, largest, 5)
    )
