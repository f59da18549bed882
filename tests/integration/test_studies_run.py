"""Each study once, small: every lane trains, every arm is confirmed, the report is written."""

import pytest

import search_spaces
from tests.integration.conftest import Launcher
from tests.integration.test_main_job import rows

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", [n for n in search_spaces.NAMES if n != "aoe_sigma"])
def test_a_study_ends_with_its_report(launcher: Launcher, name: str) -> None:
    """Two epochs may be too few for an absolute floor; then the study must say so, and that is all it may say."""
    done = launcher.run(
        "--study",
        name,
        "--run-name",
        "small",
        "--trials",
        "2",
        "--max-epochs",
        "2",
        "--confirm-seeds",
        "1",
        timeout=800,
    )
    assert done.code == 0 or (done.code == 1 and "meets the floor" in done.err), done.out + done.err
    assert "Traceback" not in done.out + done.err
    found = rows(launcher, "small") + rows(launcher, "small", "arms.csv")
    assert {row["state"] for row in found} <= {"COMPLETE", "PRUNED"}, [row["reason"] for row in found]
    assert (launcher.folder / "runs" / "small" / "report.html").stat().st_size > 10_000


def test_the_main_job_with_its_defaults_gives_a_verdict(launcher: Launcher) -> None:
    done = launcher.run("--study", "aoe_sigma", "--run-name", "whole", timeout=850)
    assert done.code == 0, done.out + done.err
    assert "over 5 fresh seeds" in done.out
    levels = ("supported", "partly supported", "not shown, a control may do as well", "not supported")
    assert any(f"\nclaim {level}: " in done.out for level in levels), done.out
    assert len(rows(launcher, "whole")) == 20
    assert len(done.out.splitlines()) < 150
