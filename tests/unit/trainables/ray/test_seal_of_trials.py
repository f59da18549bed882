"""The seal, as a trial meets it."""

from pathlib import Path

import pytest

from tests.unit.trainables.evaluation.test_measure import benchmark
from trainables.data.types.splits import Split
from trainables.methods.standard import Standard
from trainables.ray.assets import Assets
from trainables.ray.trial_runner import TrialRunner


class Peeking(Standard):
    """A method that looks at a test split while it trains."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.context.data.labelled(Split.TEST_ID)
        return super().train_epoch(epoch)


@pytest.mark.parametrize("sealed", ["shared", "own"])
def test_a_trial_that_opens_a_test_split_fails_with_that_reason(
    sealed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the benchmark that a study shares, and with the one that a trial of plain Ray Tune opens itself."""
    monkeypatch.setattr("trainables.methods.standard.Standard", Peeking)
    service = {"key": "0000", "method": "standard", "folder": str(tmp_path), "checkpoint": ""}
    config = {"dataset": "digits-open", "epochs": 1, "_service": service}
    trial = TrialRunner()
    trial.setup(config, Assets(benchmark().for_search()) if sealed == "shared" else None)
    found = trial.step()
    assert found["failed"] == (
        "SealedSplitError: split test_id of digits-open is sealed during search; "
        "only train and validation splits may be read"
    )


def test_a_trial_reports_which_splits_it_opened(tmp_path: Path) -> None:
    """The driver puts this into `plan.json`."""
    service = {"key": "0000", "method": "standard", "folder": str(tmp_path), "checkpoint": ""}
    protocol = {"groups": ("clean", "ood")}
    config = {"dataset": "digits-open", "epochs": 1, "validation": protocol, "_service": service}
    trial = TrialRunner()
    trial.setup(config, Assets(benchmark().for_search()))
    assert trial.step()["opened"] == "train,val_id,val_ood_far,val_ood_near"
