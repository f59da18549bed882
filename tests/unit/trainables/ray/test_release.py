"""Between two trials of a process: what the last one held is freed, and that costs no walk through every module."""

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from trainables.ray.trial_runner import TrialRunner

ROOT = Path(__file__).parents[4]


class Knot:
    """Holds itself, as a method does whose context leads back to its trial."""

    def __init__(self) -> None:
        self.own = self


def test_what_a_trial_held_in_a_cycle_is_freed() -> None:
    trial: Any = TrialRunner()
    trial._release()
    for _ in range(2):
        trial._method = Knot()
        held = weakref.ref(trial._method)
        trial._release()
        assert held() is None


@pytest.mark.slow
def test_the_modules_are_set_aside_once() -> None:
    code = """
import gc
from trainables.ray.trial_runner import TrialRunner
trial = TrialRunner()
assert gc.get_freeze_count() == 0
trial._release()
modules, left = gc.get_freeze_count(), len(gc.get_objects())
trial._release()
assert gc.get_freeze_count() == modules
print(modules, left)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules, left = map(int, done.stdout.split())
    assert left < modules / 20
