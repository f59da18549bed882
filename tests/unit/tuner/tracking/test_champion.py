"""Who has the alias `champion`, and what a registered model is called."""

import math

import pytest

from tuner.tracking.champion import Standing, reason_to_stay, standing_of
from tuner.tracking.model_registry import loading_lines, registered_name


def standing(
    mean: float, half: float, metric: str = "test/auroc/near", data: str = "d", protocol: str = "p"
) -> Standing:
    return Standing(metric, mean, half, 5, data, protocol)


UNCONFIRMED = standing(0.99, math.nan)


@pytest.mark.parametrize(
    ("new", "holder", "reason"),
    [
        (standing(0.90, 0.01), standing(0.87, 0.01), ""),
        (
            standing(0.90, 0.01),
            standing(0.88, 0.011),
            "near OOD 90.0 ± 1.0 % is not clearly better than its 88.0",
        ),
        (standing(0.80, 0.01), standing(0.88, 0.01), "is not clearly better"),
        (standing(0.20, 0.01, "test/fpr95_id_pos/near"), standing(0.30, 0.01, "test/fpr95_id_pos/near"), ""),
        (
            standing(0.30, 0.01, "test/fpr95_id_pos/near"),
            standing(0.20, 0.01, "test/fpr95_id_pos/near"),
            "is not clearly better",
        ),
        (standing(0.50, 0.01), UNCONFIRMED, ""),
        (UNCONFIRMED, standing(0.50, 0.01), "has no confidence interval"),
        (UNCONFIRMED, UNCONFIRMED, "has no confidence interval"),
        (standing(0.90, 0.01), None, "is not known"),
        (standing(0.99, 0.01), standing(0.5, 0.01, data="other"), "other data"),
        (standing(0.99, 0.01, data=""), standing(0.5, 0.01, data=""), "other data"),
        (standing(0.99, 0.01), standing(0.5, 0.01, protocol="q"), "another protocol"),
        (
            standing(0.99, 0.01),
            standing(0.5, 0.01, "test/auroc/far"),
            "chosen by AUROC, far OOD, this one by AUROC",
        ),
    ],
)
def test_only_a_clearly_better_confirmed_result_moves_it(
    new: Standing, holder: Standing | None, reason: str
) -> None:
    found = reason_to_stay(new, holder)
    assert (found == "") == (reason == "")
    assert reason in found


def test_a_standing_comes_back_from_its_tags() -> None:
    one = standing(0.9, 0.0125)
    assert standing_of({**one.as_tags(), "trial": "7"}) == one
    assert not (standing_of(UNCONFIRMED.as_tags()) or one).confirmed
    assert standing_of({"trial": "7"}) is None
    assert standing_of(one.as_tags() | {"confirmed_mean": "high"}) is None


@pytest.mark.parametrize(
    ("study", "dataset", "data_dir", "name"),
    [
        ("aoe_sigma", "digits-open", "", "aoe_sigma.digits-open"),
        ("aoe_sigma", "imagefolder", "/data/my flowers/", "aoe_sigma.imagefolder-my-flowers"),
        ("method-oe", "npz:/data/cells.npz", "", "method-oe.npz-cells.npz"),
        ("mine", "/home/me/sets.py:make", "", "mine.sets.py-make"),
        ("mine", "package.sets:make", "", "mine.package.sets-make"),
    ],
)
def test_one_name_for_a_study_and_its_data(study: str, dataset: str, data_dir: str, name: str) -> None:
    assert registered_name(study, dataset, data_dir) == name
    assert not set("/:") & set(name)  # MLflow takes every other character


def test_the_two_lines_that_load_a_model() -> None:
    assert loading_lines("http://host:5000", "a.b", "3") == (
        'import mlflow; mlflow.set_tracking_uri("http://host:5000")',
        'model = mlflow.pyfunc.load_model("models:/a.b/3")',
    )
    first, second = loading_lines("postgresql://me:secret@host/db", "a.b", "3")
    assert first.startswith("import mlflow  #")
    assert "secret" not in first + second
    for line in (first, second):
        compile(line, "line", "exec")
