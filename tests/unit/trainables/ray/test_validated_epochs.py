"""Validation changes nothing in a trial: one that is validated after its last epoch alone ends as any other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.trainables.evaluation.test_measure import benchmark
from trainables.ray.assets import Assets
from trainables.ray.trial_runner import TrialRunner

EPOCHS = 3
TIMES = ("seconds", "seconds_validation")
VALIDATION = {"groups": ("clean", "ood", "robust"), "robust_epsilons": (0.1,), "steps": 2, "max_images": 32}
OPTIONS: dict[str, dict[str, Any]] = {
    "standard": {"dropout": 0.3, "ema": 0.5},
    "pgd_at": {"attack.steps": 1},
    "robgan": {"nz": 4, "ngf": 4, "ndf": 4, "judged": False, "guards.enabled": False},
}


def trained(
    folder: Path, method: str, validated: list[int], compared: tuple[int, ...] = ()
) -> tuple[list[dict[str, Any]], bytes]:
    """Return the reports of a trial and its last checkpoint."""
    service = {"key": "0000", "method": method, "folder": str(folder), "checkpoint": ""}
    service |= {"compared": compared, "deciding": ["val/accuracy/clean"]}
    config = {"dataset": "digits-open", "epochs": EPOCHS, "validation": VALIDATION, **OPTIONS[method]}
    trial = TrialRunner()
    trial.setup({**config, "_service": service | {"validated": validated}}, Assets(benchmark().for_search()))
    reports = [trial.step() for _ in range(EPOCHS)]
    return reports, (folder / reports[-1]["checkpoint"]).read_bytes()


@pytest.mark.parametrize("method", OPTIONS)
def test_a_trial_ends_the_same_however_often_it_was_validated(method: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    always, state = trained(tmp_path / "always", method, [1, 2, 3])
    at_end, same_state = trained(tmp_path / "at_end", method, [EPOCHS])
    torch.set_num_threads(threads)
    assert state == same_state
    validations = [[name for name in report if name.startswith("val/")] for report in at_end]
    assert validations[:-1] == [[], []]
    assert "val/accuracy/robust_0.1" in validations[-1]
    for report in (always[-1], at_end[-1]):
        for name in TIMES:
            del report[name]
        report["opened"] = sorted(report["opened"])
    assert always[-1] == at_end[-1]


def test_where_trials_are_compared_only_what_decides_is_measured(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    whole, state = trained(tmp_path / "whole", "standard", [1, 3])
    compared, same_state = trained(tmp_path / "compared", "standard", [1, 3], compared=(1,))
    torch.set_num_threads(threads)
    assert state == same_state
    validations = [{k: v for k, v in report.items() if k.startswith("val/")} for report in compared]
    assert validations[0] == {"val/accuracy/clean": whole[0]["val/accuracy/clean"]}
    assert validations[1] == {}
    assert validations[2] == {k: v for k, v in whole[2].items() if k.startswith("val/")}
