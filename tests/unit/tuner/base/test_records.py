"""What a trial's last values are when not every epoch was validated."""

from typing import Any

from tuner.base.records import Decision, Epoch, State, TrialRecord, TrialRole


def trial(*epochs: dict[str, float]) -> TrialRecord:
    history: dict[int, Epoch] = {
        n: Epoch(metrics, Decision.CONTINUE, "") for n, metrics in enumerate(epochs, 1)
    }
    nothing: dict[str, Any] = {}
    return TrialRecord("search", 0, TrialRole.SEARCH, State.RUNNING, nothing, nothing, 0, history)


def test_between_two_validations_the_last_one_counts() -> None:
    first = {"val/a": 0.5, "train/loss": 2.0, "seconds": 9.0}
    assert trial().judged == {}
    assert trial({"train/loss": 3.0}).judged == {"train/loss": 3.0}
    assert trial(first, {"train/loss": 1.0}).judged == {"val/a": 0.5, "train/loss": 1.0}
    assert trial(first, {"train/loss": 1.0}, {"val/a": 0.7}).judged == {"val/a": 0.7}
