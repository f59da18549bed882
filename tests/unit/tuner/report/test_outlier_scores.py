"""Histograms and ROC curves as numbers, by hand."""

import numpy as np
import pytest

from tuner.report.outlier_scores import BINS, auroc, roc_curve, score_plots


def test_auroc_golden() -> None:
    assert auroc(np.array([0.0, 1, 2]), np.array([1.0, 3])) == 0.75
    assert auroc(np.array([1.0, 1]), np.array([1.0])) == 0.5


def test_roc_curve_golden() -> None:
    flagged, detected = roc_curve(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    np.testing.assert_array_equal(flagged, [0, 0, 0.5, 1])
    np.testing.assert_array_equal(detected, [0, 0.5, 1, 1])
    area = np.trapezoid(detected, flagged)
    assert area == 3.5 / 4, "the AUROC of the same scores: a tie counts one half"


def test_plots_of_a_set_with_its_attack() -> None:
    rng = np.random.default_rng(0)
    scores = {"id": rng.normal(0, 1, 500), "x": rng.normal(3, 1, 400), "x attacked": rng.normal(1, 1, 400)}
    (one,) = score_plots({**scores, "id attacked": scores["id"]}, str.upper)
    assert (one.name, one.label) == ("x", "X")
    assert one.auroc == pytest.approx(auroc(scores["id"], scores["x"]), abs=1e-4)
    assert one.auroc_attacked == pytest.approx(auroc(scores["id"], scores["x attacked"]), abs=1e-4)
    for shares in (one.id, one.ood, one.attacked):
        assert len(shares) == BINS
        assert sum(shares) == pytest.approx(1, abs=0.01)  # what lies beyond is in the first and the last bin
    for flagged, detected in (one.roc, one.roc_attacked):
        assert (flagged[0], detected[0], flagged[-1], detected[-1]) == (0, 0, 1, 1)
        assert len(flagged) <= 62
        assert np.trapezoid(detected, flagged) == pytest.approx(
            one.auroc if detected is one.roc[1] else one.auroc_attacked, abs=0.01
        )
    flagged_share, detected_share = one.operating[0]
    assert flagged_share <= 0.05
    threshold = np.sort(scores["id"])[-round(500 * flagged_share)]
    assert detected_share == pytest.approx((scores["x"] >= threshold).mean(), abs=0.01)


def test_odd_scores() -> None:
    (flat,) = score_plots({"id": [0.0] * 5, "x": [0.0] * 5}, str)
    assert (flat.auroc, flat.auroc_attacked, flat.attacked) == (0.5, None, [])
    assert score_plots({"id": [0.0], "x": [np.inf]}, str) == []
    assert score_plots({"x": [1.0]}, str) == []
    assert score_plots({}, str) == []
