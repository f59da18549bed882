"""Plots of the winner's outlier scores, and the images before and after its attack."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.report.axes import Axis
from tuner.report.markup import Markup, element
from tuner.report.outlier_scores import ScorePlot
from tuner.report.svg import BOX, NARROW, figure, legend, line, path, per_cent, plot

MOST_IMAGES = 12
_UNIT = Axis("", 0, 1, ticks=((0.0, "0"), (0.5, "50 %"), (1.0, "100 %")))
_ENDS = Axis("", 0, 1, ticks=((0.0, "0"), (1.0, "100 %")))
_BLANK = Axis("", 0, 1)


def histograms(scores: Sequence[ScorePlot]) -> Markup:
    """Return the outlier scores of the ID images beside those of each OOD set, without and with the attack."""
    panels = []
    for one in scores:
        top = max((*one.id, *one.ood, *one.attacked, 1e-9))
        marks = [
            path(_bars(one.id, top), "id"),
            path(_bars(one.ood, top), "ood"),
            path(_outline(one.attacked, top), "attacked"),
        ]
        x = Axis("", one.low, one.high, ticks=((0.0, f"{one.low:.2g}"), (1.0, f"{one.high:.2g}")))
        panels.append(
            _panel(
                one,
                plot(
                    x, _BLANK, marks, f"Outlier scores on {one.label}: {_says(one)}", height=84, width=NARROW
                ),
            )
        )
    keys = legend(
        ("block id", "ID images"), ("block ood", "OOD images"), ("line attacked", "OOD images attacked")
    )
    note = "Share of the images by outlier score, higher to the right. The less the two overlap, the larger the AUROC."
    return figure("Outlier scores", note, keys, element("div", *panels, class_="panels small"))


def roc(scores: Sequence[ScorePlot]) -> Markup:
    """Return the ROC curve on each OOD set, without and with the attack."""
    panels = []
    for one in scores:
        marks = [
            element("path", d=f"M0 {BOX}L{BOX} 0", class_="chance"),
            path(line(list(zip(*one.roc, strict=True))), "ood"),
            path(line(list(zip(*one.roc_attacked, strict=True))), "attacked"),
        ]
        over = [
            element("circle", cx=per_cent(x), cy=per_cent(1 - y), r=3.5, class_=name)
            for (x, y), name in zip(one.operating, ("ood", "attacked"), strict=False)
        ]
        says = f"ROC curve on {one.label}: {_says(one)}"
        panels.append(_panel(one, plot(_ENDS, _UNIT, marks, says, height=120, over=over, width=NARROW)))
    keys = legend(("line ood", "OOD images"), ("line attacked", "OOD images attacked"))
    note = (
        "Share of OOD images detected (upright) against share of ID images flagged. Dot: where 95 % of the ID images "
        "are accepted."
    )
    return figure("ROC curves", note, keys, element("div", *panels, class_="panels small"))


def _says(one: ScorePlot) -> str:
    attacked = f", attacked {100 * one.auroc_attacked:.1f} %" if one.auroc_attacked is not None else ""
    return f"AUROC {100 * one.auroc:.1f} %{attacked}"


def _panel(one: ScorePlot, made: Markup) -> Markup:
    return element("div", element("p", one.label, element("small", _says(one)), class_="name"), made)


def _bars(shares: Sequence[float], top: float) -> str:
    """Return the filled path of a histogram."""
    return f"M0 {BOX}{_tops(shares, top)}V{BOX}z" if shares else ""


def _outline(shares: Sequence[float], top: float) -> str:
    return f"M0 {BOX}{_tops(shares, top)}V{BOX}" if shares else ""


def _tops(shares: Sequence[float], top: float) -> str:
    width = BOX / max(1, len(shares))
    return "".join(f"V{BOX * (1 - s / top):.0f}H{width * (i + 1):.0f}" for i, s in enumerate(shares))


def attack_images(examples: Mapping[str, Any] | None) -> Markup | None:
    """Return outliers before and after the attack, and their difference stretched to full contrast."""
    if not examples or "before" not in examples or "after" not in examples:
        return None
    before, after = (np.asarray(examples[key], dtype=float)[:MOST_IMAGES] for key in ("before", "after"))
    if not before.size or before.shape != after.shape:
        return None
    change = after - before
    largest = float(np.abs(change).max()) or 1.0
    rows = [
        element(
            "tr",
            element("th", label, scope="row"),
            element("td", _picture(images, f"{label}: {len(images)} outliers")),
        )
        for label, images in (
            ("before", before),
            ("after", after),
            (f"change, ± {largest:.2g}", 0.5 + change / (2 * largest)),
        )
    ]
    label = str(examples.get("label", ""))
    note = f"{label}. " if label else ""
    note += "Grey in the last row: no change."
    return figure(
        "Outliers before and after the attack",
        note,
        element("table", element("tbody", *rows), class_="images"),
    )


def _picture(images: np.ndarray, says: str) -> Markup:
    """Return images (k, h, w, c) in [0, 1] side by side as one PNG, a pixel per pixel."""
    from PIL import Image

    k, h, w, channels = images.shape
    gap = max(1, w // 16)
    sheet = np.ones((h, k * (w + gap) - gap, channels))
    for i, image in enumerate(images):
        sheet[:, i * (w + gap) : i * (w + gap) + w] = image
    values = (np.clip(sheet, 0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if channels == 1 else values).save(buffer, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return element("img", src=source, alt=says, width=sheet.shape[1], height=h, class_="pixels")
