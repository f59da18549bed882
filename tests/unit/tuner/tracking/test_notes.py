"""When a text on MLflow's pages may be replaced."""

from tuner.tracking.notes import may_replace, signed


def test_only_nothing_and_our_own_text_may_be_replaced() -> None:
    ours = signed("The answer.")
    assert may_replace("", first=False)
    assert may_replace("", first=True)
    assert may_replace(ours, first=False)
    assert not may_replace(ours, first=True)
    assert not may_replace("My own words.", first=False)
    assert ours.startswith("The answer.\n\n---\n*Written by robust-tuner")
