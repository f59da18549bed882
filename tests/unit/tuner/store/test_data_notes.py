"""What plan.json keeps of a run's data between its launches."""

from typing import Any

from tuner.store.plan_file import CHANGED, data_notes, of_test_data


def test_that_the_test_data_changed_between_two_launches_is_said_for_good() -> None:
    stored: dict[str, Any] = {}

    def launch(version: str) -> tuple[str, ...]:
        stored.update(of_test_data(stored, version))
        return data_notes(stored)

    assert launch("a") == launch("a") == ()
    assert launch("b") == (CHANGED,)
    assert stored["data_version"] == "b"
    assert launch("b") == (CHANGED,)  # once, and for good
    assert launch("a") == (CHANGED,)
