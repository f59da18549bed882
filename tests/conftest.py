"""The order of the suite: quick unit tests first, then everything that takes longer or starts processes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

# tensors here are tiny: threads would cost more than they bring, above all beside other work
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a shell's background job starts with SIGINT ignored, one under nohup with SIGHUP; so would every launch of a test
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

UNIT = Path(__file__).parent / "unit"
QUICK_S = 2.0  # longest time of a test without the mark `slow` in tests/unit, on an idle machine


#: files whose tests share what a session makes once, at a cost of minutes
TOGETHER = {"tests/faults/test_supervisor.py": "tests/faults/test_exactness.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, let one process run all tests of a file: what they share, whole studies some, is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return TOGETHER.get(file, file)

    config.option.loadscopereorder = False  # our order: quick files first, small ones last
    return ByFile(config, log)


def is_quick(item: pytest.Item) -> bool:
    return item.path.is_relative_to(UNIT) and not any(map(item.get_closest_marker, ("slow", "long")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not is_quick(item))  # stable: the order within both parts stays
    for item in items:
        if is_quick(item):
            item.user_properties.append(("quick", True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the unit tests that took too long for the quick part; told, not asserted, for machines differ."""
    late = [
        report
        for report in terminalreporter.getreports("passed")
        if ("quick", True) in report.user_properties and report.duration > QUICK_S
    ]
    if late:
        terminalreporter.section(f"unit tests over {QUICK_S:g} s: mark them slow, or make them faster")
    for report in sorted(late, key=lambda report: -report.duration):
        terminalreporter.line(f"{report.duration:6.1f} s  {report.nodeid}")
