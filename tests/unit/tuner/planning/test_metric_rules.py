"""A study is refused if it contradicts what is known of its metrics."""

from dataclasses import replace

import pytest

import search_spaces
from search_spaces.study import Floor, Objective
from trainables.base.errors import InputError
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.metric_rules import check_metrics
from tuner.planning.resolve import resolve


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Objective("val/fpr95_id_pos/all"), "is to maximize; minimize it"),
        (Objective("val/accuracy/clean", "minimize"), "is to minimize; maximize it"),
        (Objective("val/attack_check_0.1/auroc_change"), "is a diagnostic"),
        (Objective("val/auorc/all"), r"unknown metric 'val/auorc/all'; did you mean val/auroc/<set>\?"),
    ],
)
def test_objectives(objective: Objective, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_metrics([objective], [], [])


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        (Floor("val/calibration/ece", 0.1), "only a metric of which more is better"),
        (Floor("val/accuracy/clean", 95), r"val/accuracy/clean >= 95: the metric is a fraction in \[0, 1\]"),
        (Floor("val/acuracy/clean", 0.9), "unknown metric"),
    ],
)
def test_floors(floor: Floor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_metrics([], [floor], [])


def test_headline() -> None:
    check_metrics([], [], ["test/mce", "test/auroc/near"])
    with pytest.raises(InputError, match="is a diagnostic"):
        check_metrics([], [], ["test/attack_check_0.1/auroc_change"])


def test_a_plan_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    study = search_spaces.get("energy_margins")
    wrong = replace(study, objectives=(Objective("val/fpr95_id_pos/near"),))
    monkeypatch.setattr(search_spaces, "get", lambda name: wrong)
    with pytest.raises(UsageError, match="objective val/fpr95_id_pos/near is to maximize; minimize it"):
        resolve(LaunchOptions(study="energy_margins"), "run")
