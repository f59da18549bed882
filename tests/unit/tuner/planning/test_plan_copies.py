"""`--allow-duplicates` in a run's plan: kept by a resume, given with one, and of runs that began before it."""

import pytest

from tuner.planning.amend import amend
from tuner.planning.command_line import parse
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve


def plan(*flags: str) -> Plan:
    return resolve(parse(["--study", "aoe_sigma", *flags]), "r")


@pytest.mark.parametrize(
    ("started", "resumed", "allowed"),
    [([], [], False), (["--allow-duplicates"], [], True), ([], ["--allow-duplicates"], True)],
)
def test_a_resume_keeps_it_and_may_give_it(started: list[str], resumed: list[str], allowed: bool) -> None:
    stored = from_dict(to_dict(plan(*started)))
    amended = amend(stored, parse(["--resume", "r", *resumed]), "")
    assert amended.allow_duplicates is allowed
    assert amended.content_hash == plan().content_hash


def test_a_run_of_an_earlier_version_goes_on_with_a_note() -> None:
    data = to_dict(plan())
    del data["allow_duplicates"]
    assert from_dict(data).allow_duplicates is True
