"""The rows of trials.csv and arms.csv: which metrics have a column."""

from tests.unit.study_results import record, result
from tuner.analysis.results import ArmResult
from tuner.report.csv_tables import arm_rows, trial_rows

TESTS = {"test/auroc/hflip": 0.7, "test/knn/auroc/near": 0.6, "test/knn/auroc/hflip": 0.5}


def test_other_scores_have_columns_for_means_alone() -> None:
    best = record()
    arms = (ArmResult("oe", "baseline", "", {}, {name: (value,) for name, value in TESTS.items()}),)
    made = result(records=(best,), best=best, tests={best.key: TESTS}, arms=arms)
    for table in (trial_rows(made), arm_rows(made)):
        (row,) = table.rows
        found = {name: row[name] for name in table.columns if name.startswith("test/")}
        assert found == {"test/auroc/hflip": 0.7, "test/knn/auroc/near": 0.6}
