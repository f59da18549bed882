"""What plots show: honest intervals, what controls show, differences by set, trials by shade, neighbourhoods."""

import re
from dataclasses import replace

import numpy as np
import pytest

from search_spaces.study import Objective
from tests.unit.study_results import CLAIM, CLEAN, OBJECTIVE, arm, plan, realistic, record, result
from tuner.analysis.results import ArmResult, StudyResult
from tuner.base.records import State
from tuner.report.blocks import Figure, Table
from tuner.report.charts_arms import decomposition, differences, forest, heat_maps
from tuner.report.charts_explore import CELLS, contour, curves, field, parallel, shades_of
from tuner.report.charts_scores import attack_images
from tuner.report.charts_search import agreement, points_of, progress, trend_path
from tuner.report.data import report_data
from tuner.report.markup import unbroken
from tuner.report.search import explore, ranges
from tuner.report.svg import BOX


def interval_of(markup: str, row: str) -> tuple[float, float]:
    """Return the ends of an arm's interval, as shares of the plot's width."""
    found = re.search(rf'x1="([\d.]+)%" x2="([\d.]+)%" y1="42%" y2="42%" class="interval {row}"', markup)
    assert found
    return float(found[1]) / 100, float(found[2]) / 100


def test_a_forest_has_every_interval_inside_of_the_metrics_range() -> None:
    made = forest(result(arms=(arm("best", (0.99, 1.0, 0.98)), arm("oe", (0.90, 0.91, 0.92)))), CLAIM)
    low, high = interval_of(made, "winner")
    assert 0 < low < high <= 1
    assert "99.0 (96.5–100.0) %" in made
    assert "91.0 ± 2.5 %" in made
    assert high == 1.0  # the axis ends where the range does
    assert 'class="base"' in made  # the strongest baseline


def test_a_forest_of_one_seed_has_no_interval() -> None:
    made = forest(result(arms=(arm("best", (0.99,)), arm("oe", (0.90,)))), CLAIM)
    assert "interval" not in made
    assert "99.0 %" in made


def test_decomposition() -> None:
    arms = (
        arm("best", (0.90, 0.91, 0.92)),
        arm("oe", (0.80, 0.81, 0.82)),
        arm("gauss", (0.82, 0.82, 0.85), about="<noise>"),
    )
    made = decomposition(result(arms=arms))
    assert made is not None
    markup, words = made
    assert list(words.header) == ["control", "what it is", "control minus oe", "winner minus control"]
    assert [list(row) for row in words.rows] == [
        ["gauss", "<noise>", "+2.0 ± 2.5 points", "+8.0 ± 2.5 points"]
    ]
    assert "from oe 81.0 % to winner 91.0 %" in markup
    assert "&lt;noise&gt;" in markup
    bars = {
        kind: float(width)
        for width, kind in re.findall(r'width="([\d.]+)%"[^>]*class="(shown|beyond)"', markup)
    }
    assert bars["beyond"] / bars["shown"] == pytest.approx(4, rel=0.01)
    assert decomposition(result(arms=arms[:2])) is None


def test_signs_of_differences_are_those_of_the_verdict() -> None:
    metric = "test/fpr95_id_pos/far"
    both = {
        name: ArmResult(name, "baseline", "", {}, {CLAIM: tuple(a), metric: tuple(b)})
        for name, a, b in (
            ("best", (0.90, 0.91, 0.92), (0.30, 0.31, 0.32)),
            ("oe", (0.80, 0.81, 0.82), (0.10, 0.11, 0.12)),
            ("same", (0.91, 0.90, 0.92), (0.31, 0.30, 0.32)),
        )
    }
    table = differences(result(arms=tuple(both.values())), [CLAIM, metric])
    assert table is not None
    assert [list(row) for row in table.rows] == [
        ["oe", "▲ +10.0 ± 0.0", "▼ +20.0 ± 0.0"],
        ["same", "+0.0 ± 2.5", "+0.0 ± 2.5"],
    ]


def test_a_heat_map_colours_what_the_pairs_show_and_nothing_else() -> None:
    sets = [f"test/robust_auroc_0.1/{name}" for name in ("a", "b")]

    def own(name: str, role: str, a: tuple[float, ...], b: tuple[float, ...]) -> ArmResult:
        return ArmResult(name, role, "", {}, {CLAIM: a, sets[0]: a, sets[1]: b})

    arms = (
        own("best", "confirm", (0.90, 0.91, 0.92), (0.80, 0.81, 0.82)),
        own("oe", "baseline", (0.80, 0.81, 0.82), (0.85, 0.86, 0.87)),
        own("gauss", "control", (0.60, 0.99, 0.85), (0.85, 0.86, 0.87)),
    )
    ((markup, table),) = heat_maps(result(arms=arms))
    assert table.title == "robust AUROC (ε 0.1)"
    rows = dict(zip(("best", "oe", "gauss"), markup.split("<tr")[2:], strict=True))
    classes = {name: re.findall(r'<td(?: class="(\w+)")?>', row) for name, row in rows.items()}
    assert classes == {"best": ["b3", "w2"], "oe": ["", ""], "gauss": ["", ""]}
    assert heat_maps(result(arms=(arm("best", (0.9,)),))) == []


def test_shades_go_by_rank_in_the_direction_of_the_objective() -> None:
    values = (0.5, 0.9, 0.7, 0.6, 0.8)
    records = tuple(record(n, (v,)) for n, v in enumerate(values))
    made = report_data(result(records=(*records, record(5, (), State.FAIL))))
    assert shades_of(made) == [0, 4, 2, 1, 3, None]
    down = plan(objectives=(Objective("val/calibration/ece", "minimize"),))
    lower = tuple(
        replace(r, history={1: replace(r.history[1], metrics={"val/calibration/ece": v})})
        for r, v in zip(records, values, strict=True)
    )
    assert shades_of(report_data(result(plan=down, records=lower))) == [4, 0, 2, 3, 1]


def test_a_field_over_two_parameters_needs_trials_to_average() -> None:
    """Of four the winner's own cell was the shade of its neighbours' mean."""
    records = [
        record(n, (0.5 + n / 100,), params={"outliers.sigma": 0.5 + n / 4, "outliers.weight": 0.2 + n / 50})
        for n in range(8)
    ]
    assert contour(report_data(result(records=tuple(records[:7])))) is None
    assert contour(report_data(result(records=tuple(records)))) is not None


def trend_of(params: list[dict[str, object]], key: str) -> str:
    """Return the trend of trials whose objective rises by a hundredth from one to the next."""
    records = tuple(record(k, (0.5 + k / 100,), params=p) for k, p in enumerate(params))
    made = report_data(result(records=records))
    return trend_path(made, made.axes[key], points_of(made, key, OBJECTIVE))


def test_a_line_of_medians_needs_ten_complete_trials() -> None:
    rates = [{"lr": 3e-4 * 1.2**k} for k in range(12)]
    assert trend_of(rates[:9], "lr") == ""
    corners = list(map(int, re.findall(r"\d+", trend_of(rates, "lr"))))
    assert len(corners) == 6  # bins of four
    assert corners[::2] == sorted(corners[::2])
    assert corners[1::2] == sorted(corners[1::2], reverse=True)  # up, from the top


def test_medians_of_options_stand_in_their_places() -> None:
    names = [{"attack.name": name} for name in ("pgd", "pgd", "fgsm", "pgd", "fgsm")]
    # options fgsm, pgd, ...: the second fifth of the axis; the median of .50, .51, .53 in [.4984, .5416]
    assert trend_of(names, "attack.name") == "M240 731h120"


def test_a_field_is_the_mean_of_neighbours_and_blank_far_away() -> None:
    paths = field([(0.1, 0.1), (0.12, 0.1)], [1.0, 1.0])
    assert [bool(d) for d in paths] == [False] * 6 + [True]
    area = sum(int(w) * int(h) for w, h in re.findall(r"h(\d+)v(\d+)h-", paths[6])) / BOX**2
    assert 0.02 < area < 0.25
    everywhere = field([(x, y) for x in np.linspace(0, 1, 12) for y in np.linspace(0, 1, 12)], [0.0] * 144)
    assert everywhere[0].count("M") == CELLS  # one run a row
    assert not any(everywhere[1:])


def test_best_so_far_counts_feasible_complete_trials_alone() -> None:
    records = (record(0, (0.6,)), record(1, (0.9,), State.PRUNED), record(2, (0.8,)), record(3, (0.7,)))
    made = report_data(result(records=records, feasible=frozenset({"0000", "0003"})))
    markup = progress(made)
    assert markup is not None
    steps = re.search(r'<path d="([^"]+)" class="best"', markup)
    assert steps
    assert (
        steps[1].count("V") == 2
    )  # up at trial 3, level to the end: trial 1 was stopped, trial 2 is below a floor
    assert progress(report_data(result(records=records))) is None


def test_validation_against_test_has_the_interval_of_fresh_seeds() -> None:
    records = (record(0, (0.8,)), record(1, (0.9,)), record(2, (0.5,), State.PRUNED))
    tests = {"0000": {CLAIM: 0.7}, "0001": {CLAIM: 0.8}}
    made = result(records=records, tests=tests, best=records[1], arms=(arm("best", (0.74, 0.75, 0.76)),))
    data = report_data(made)
    assert data.repeated == pytest.approx((0.7252, 0.7748), abs=1e-4)
    assert data.axes[f"{OBJECTIVE}@tested"].low > 0.79  # not down to the trial that was stopped
    markup = agreement(data, "")
    assert markup is not None
    assert 'class="again"' in markup
    assert agreement(report_data(replace(made, tests={})), "") is None


def test_choices_are_counted_and_the_winners_is_marked() -> None:
    params = [{"attack.name": name} for name in ("pgd", "pgd", "fgsm")]
    records = tuple(record(n, params=p) for n, p in enumerate(params))
    figure = ranges(made := result(records=records, best=records[0]), report_data(made))[1]
    assert isinstance(figure, Figure)
    assert '<li class="chosen">pgd<small>2</small>' in figure.markup
    assert "<li>fgsm<small>1</small>" in figure.markup
    assert isinstance(figure.words, Table)
    assert ("`attack.name`", "fgsm, pgd, mifgsm, eba, eba_pgd", "pgd", "-") in figure.words.rows


def test_curves_end_where_trials_ended() -> None:
    made = report_data(result(records=(record(0, (0.5, 0.6, 0.7)), record(1, (0.4,), State.PRUNED))))
    assert made.trials.curve(0) == [(1, 0.5), (2, 0.6), (3, 0.7)]
    assert made.trials.curve(1) == [(1, 0.4)]
    long = replace(plan(), max_epochs=300, first_rung=7)
    ended = report_data(
        result(plan=long, records=(record(0, tuple(n / 300 for n in range(1, 18)), State.PRUNED),))
    )
    assert ended.trials.curve(0)[-1] == (17, pytest.approx(17 / 300, abs=1e-6))
    assert {7, 21, 63} <= set(ended.trials.curve_epochs)
    assert len(ended.trials.curve_epochs) < 50
    assert curves(ended) is not None


def test_several_objectives_have_a_front() -> None:
    two = plan(objectives=(Objective(OBJECTIVE), Objective(CLEAN)))
    made = result(plan=two, records=(record(0), record(1, (0.9,))), pareto=("0001",))
    tables = [block for block in explore(made, report_data(made)) if isinstance(block, Table)]
    assert [(table.title, table.rows[0][0]) for table in tables] == [("The Pareto front: 1 trial", "1")]


@pytest.mark.parametrize(
    "examples",
    [
        None,
        {},
        {"before": np.zeros((0, 8, 8, 1)), "after": np.zeros((0, 8, 8, 1))},
        {"before": np.zeros((1, 8, 8, 3))},
    ],
)
def test_no_images_no_picture(examples: dict[str, np.ndarray] | None) -> None:
    assert attack_images(examples) is None


def test_images_of_grey_and_of_colour() -> None:
    for channels in (1, 3):
        image = np.zeros((2, 8, 8, channels))
        made = attack_images({"before": image, "after": image + 0.1, "label": "pgd"})
        assert made is not None
        assert made.count("data:image/png;base64,") == 3
        assert 'width="17" height="8"' in made  # two of eight pixels and a gap


def test_parallel_leaves_out_trials_without_an_objective() -> None:
    made: StudyResult = realistic(20)
    assert parallel(report_data(made)) is not None
    assert parallel(report_data(result(records=(record(0, (), State.FAIL),)))) is None


def test_a_value_stays_together_with_its_interval_and_unit() -> None:
    made = unbroken("by 10.9 ± 0.8 points in robust AUROC (ε 0.1): 5 seeds, 98 %, 3 %x, a % b")
    assert made.replace("\N{NO-BREAK SPACE}", "_") == (
        "by 10.9_±_0.8_points in robust AUROC (ε_0.1): 5 seeds, 98_%, 3_%x, a % b"
    )
