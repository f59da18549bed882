"""The box above the report of a watched run: nothing in it is markup, and scripts find their places."""

from tuner.report.live import live_box


def test_the_box() -> None:
    box = live_box("Running <here>", ["to go on: `run --resume a<b`"], ["trial 0003"], moves=True, tag="t1")
    assert "Running &lt;here&gt;" in box
    assert "<code>run --resume a&lt;b</code>" in box
    assert "<li>trial 0003" in box
    assert 'class="live"' in box
    for place in ('id="live"', 'id="age"', 'id="news"', 'id="trouble"', 'data-tag="t1"'):
        assert place in box


def test_a_run_that_stands_still_looks_so_and_has_no_empty_list() -> None:
    box = live_box("Interrupted", [], [], moves=False, tag="")
    assert 'class="live still"' in box
    assert "<details" not in box
