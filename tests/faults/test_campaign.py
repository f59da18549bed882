"""The campaign's cases, three random faults each: nothing is lost, whatever study, sampler or packing is under them."""

from pathlib import Path

import pytest

from tests.faults.campaign import CASES, Case, carry_out

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_nothing_is_lost(case: Case, tmp_path: Path) -> None:
    tally = carry_out(case, tmp_path, seed=2, faults=3)
    assert tally.faults
    assert tally.lost == []
    assert tally.tracebacks == 0
