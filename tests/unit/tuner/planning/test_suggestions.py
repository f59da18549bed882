"""What the completion of a shell offers, by what was typed before."""

import os
from pathlib import Path

import pytest

import search_spaces
from trainables.data.types.datasets import DATASETS
from trainables.options.attacks import OUTLIER_ATTACKS
from trainables.options.methods import METHODS
from tuner.planning import suggestions
from tuner.planning.launch_options import launch_options
from tuner.planning.plan import STAGES


def offered(option: str, prefix: str = "", **given: str) -> list[str]:
    suggest = launch_options()[option].suggests
    assert suggest is not None
    return list(suggest(prefix, given))


def test_names_are_those_of_the_registries() -> None:
    assert offered("study") == list(search_spaces.NAMES)
    assert offered("dataset") == list(DATASETS.names)
    assert offered("method") == list(METHODS.names)
    assert offered("stages") == list(STAGES)
    assert offered("new") == ["study", "method"]


def test_each_place_of_a_list() -> None:
    assert offered("stages", "search,ev") == ["search,evaluate", "search,confirm", "search,report"]
    assert offered("arms", "oe,", study="aoe_sigma") == [
        "oe,none",
        "oe,no_attack",
        "oe,signnoise",
        "oe,gauss",
    ]
    assert offered("arms") == offered("arms", study="nope") == ["none"]


def test_runs_are_those_of_the_storage_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("new", "old", "no-run")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        if name != "no-run":
            (tmp_path / "runs" / name / "plan.json").write_text("{}")
            os.utime(tmp_path / "runs" / name / "plan.json", (1000 - age, 1000 - age))
    for option in ("resume", "status", "stop", "why", "warm_start"):
        assert offered(option, storage=str(tmp_path / "runs")) == ["new", "old"]
    monkeypatch.chdir(tmp_path)
    assert offered("status") == ["new", "old"]
    assert offered("status", storage="elsewhere") == offered("status", storage="s3://bucket/runs") == []


def test_settings_are_options_of_the_study_or_the_method() -> None:
    of_study = offered("settings", "attack.", study="aoe_sigma")
    assert "attack.epsilon=" in of_study
    assert "boundary.steps=" not in of_study
    assert "boundary.steps=" in offered("settings", study="dyart_margin")
    assert "attack.epsilon=" in offered("settings", study="dyart_margin")  # of its baselines
    assert "attack.epsilon=" not in offered("settings", method="standard")
    for strange in (
        {"study": "nope"},
        {"study": "./mine.py"},
        {"method": "./mine.py:Mixup"},
        {"method": "nope"},
    ):
        assert "boundary.steps=" in offered("settings", **strange)
    assert offered("settings", "attack.name=p", study="aoe_sigma") == [
        f"attack.name={name}" for name in OUTLIER_ATTACKS.names
    ]
    assert offered("settings", "pretrained=", method="standard") == ["pretrained=true", "pretrained=false"]
    assert offered("settings", "lr=", method="standard") == []
    assert offered("settings", "nope=", method="standard") == []


def test_the_value_that_has_no_names_is_a_file_or_nothing() -> None:
    assert suggestions.any_of("a", "b")("", {}) == ("a", "b")
    for name in ("trials", "seed", "data_dir", "storage", "study_storage"):
        assert launch_options()[name].suggests is None
