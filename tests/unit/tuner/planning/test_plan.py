"""`plan.json` as it is read back: every study's plan unchanged, and one line for an entry that cannot be right."""

import contextlib
import copy
import json
from typing import Any

import pytest

import search_spaces
from tuner.base.checksums import file_with_checksum
from tuner.base.errors import UsageError
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan, from_dict, to_dict
from tuner.planning.resolve import resolve
from tuner.store.plan_file import parse


def plan(study: str = "aoe_sigma") -> Plan:
    return resolve(LaunchOptions(study, trials=3, time_budget_s=60.0), "one", "python launch.py")


@pytest.mark.parametrize("study", search_spaces.NAMES)
def test_a_stored_plan_is_read_as_it_was(study: str) -> None:
    before = plan(study)
    stored = json.loads(json.dumps(to_dict(before)))
    assert from_dict(stored) == before
    assert to_dict(from_dict(stored)) == stored
    assert from_dict(stored).content_hash == before.content_hash


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("lanes", 0, "trials"), "3", "lanes[0].trials is '3'; it must be a whole number"),
        (("lanes", 0, "trials"), True, "lanes[0].trials is True; it must be a whole number"),
        (("lanes", 0, "trials"), 0, "lanes[0].trials is 0; it must be from 1 to 1000000000"),
        (("lanes", 1, "trials"), 10**30, f"lanes[1].trials is {10**30}; it must be from 1 to 1000000000"),
        (
            ("lanes", 0, "space", "lr"),
            "loguniform(0, 1)",
            "lanes[0].space.lr: a logarithmic range must start above 0",
        ),
        (("lanes", 0, "space", "lr"), 0.1, "lanes[0].space.lr: 0.1 is no domain"),
        (("lanes", 1, "name"), "../../etc", "lane '../../etc' is no name"),
        (("lanes", 0, "name"), "oe", "lanes are oe, oe; the first must be search, and no two the same"),
        (("lanes",), [], "lanes are missing; the first must be search"),
        (("lanes", 0, "role"), "king", "unknown role 'king'"),
        (("reduction",), 1, "reduction is 1; it must be from 2"),
        (("first_rung",), 0, "first_rung is 0; it must be from 1"),
        (("max_epochs",), None, "max_epochs is None; it must be a whole number"),
        (("time_budget_s",), "1h", "time_budget_s is '1h'; it must be a finite number"),
        (("time_budget_s",), float("inf"), "time_budget_s is inf; it must be a finite number"),
        (
            ("objectives", 0, "direction"),
            "up",
            "objectives[0]: direction is 'up'; it must be maximize or minimize",
        ),
        (("objectives", 0, "metric"), "val/luck", "unknown metric 'val/luck'"),
        (("objectives",), [], "objectives is empty"),
        (("floors", 0, "below_reference"), [], "floors[0].below_reference is []; it must be a finite number"),
        (("stages",), ["serach"], "unknown stage 'serach'; did you mean search?"),
        (("scheduler",), "ahsa", "unknown scheduler 'ahsa'; did you mean asha?"),
        (("protocol",), [], "protocol is []; it must be an object"),
        (
            ("protocol", "ood_epsilons"),
            {"a": 1},
            "protocol: ood_epsilons of the protocol is {'a': 1}; it must be a list of numbers",
        ),
        (
            ("closer", "detectors"),
            [1],
            "closer: detectors of the protocol is [1]; it must be a list of names",
        ),
        (("validation", "score"), {}, "validation: score of the protocol is {}; it must be a name"),
        (
            ("confirm", "check_steps"),
            "x",
            "confirm: check_steps of the protocol is 'x'; it must be a whole number",
        ),
        (
            ("protocol", "ood_sides"),
            [None],
            "protocol: ood_sides of the protocol is [None]; it must be a list of names",
        ),
        (("protocol", "ood_side"), [], "protocol: unknown field of a protocol 'ood_side'; did you mean ood"),
        (("question",), 1, "question is 1; it must be a text"),
        (("maxepochs",), 1, "maxepochs is unknown; did you mean max_epochs?"),
    ],
)
def test_an_entry_that_cannot_be_right_is_named(path: tuple[Any, ...], value: Any, says: str) -> None:
    stored = to_dict(plan())
    inner: Any = stored
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UsageError) as told:
        from_dict(stored)
    assert str(told.value).startswith(f"plan.json cannot be read: {says}")
    assert "\n" not in str(told.value)


def test_a_plan_is_read_without_the_code_that_its_protocol_names() -> None:
    stored = to_dict(plan())
    stored["closer"] = {"detectors": ["./gone.py:mine"]}
    assert from_dict(stored).closer == stored["closer"]


def test_a_missing_entry_is_named() -> None:
    stored = to_dict(plan())
    del stored["max_epochs"]
    with pytest.raises(UsageError, match=r"^plan\.json cannot be read: max_epochs is missing"):
        from_dict(stored)
    for broken in (None, [], "x", {}):
        with pytest.raises(UsageError, match=r"^plan\.json cannot be read: "):
            from_dict(broken)


FACTS: dict[str, Any] = {"created": "2026-01-01T00:00:00+00:00", "plan": {}, "commands": ["python launch.py"]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"created": "yesterday"}, "created is 'yesterday'; it must be a time"),
        ({"created": None}, "created is None; it must be a text"),
        ({"commands": "python"}, "commands is 'python'; it must be a list"),
        ({"commands": [1]}, "commands[0] is 1; it must be a text"),
        ({"links": {"report": 1}}, "links.report is 1; it must be a text"),
        ({"ended": "done"}, "ended is 'done'; it must be an object"),
    ],
)
def test_facts_of_a_wrong_type_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as told:
        parse(json.dumps({**FACTS, **changes}).encode(), "runs/one/plan.json")
    assert str(told.value) == f"runs/one/plan.json is damaged: {says}; restore it from a copy"


def test_every_flipped_bit_of_a_file_is_told() -> None:
    """Or it changes nothing: an indent that is a tab now, the name of the checksum itself."""
    data = file_with_checksum(FACTS)
    assert parse(data, "plan.json") == FACTS
    found: list[Any] = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(UsageError):
            found.append(parse(bytes(flipped), "plan.json"))
    assert all({k: entries[k] for k in FACTS} == FACTS for entries in found)
    assert len(found) < 0.2 * 8 * len(data)


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": 1e999}', '{"a": -Infinity}', "[", "[]", "", "\x00", "[" * 100_000]
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(UsageError, match=r"^plan\.json is damaged: .*; restore it from a copy$"):
        parse(text.encode(), "plan.json")


def test_a_file_of_an_earlier_version_has_no_checksum() -> None:
    entries = copy.deepcopy(FACTS)
    assert parse(json.dumps(entries).encode(), "plan.json") == FACTS


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        (LaunchOptions("aoe_sigma"), (1, 3)),  # of 9 epochs
        (LaunchOptions("aoe_sigma", max_epochs=3), (1,)),
        (LaunchOptions("aoe_sigma", max_epochs=30), (4, 12)),  # 30 / 9 rounded up
        (LaunchOptions("dyart_margin"), (2, 6)),  # of 12
        (LaunchOptions("dyart_margin", dataset="cifar10", data_dir="."), (67,)),  # of 200, after the warm-up
        (LaunchOptions("dyart_margin", dataset="cifar10", data_dir=".", max_epochs=100), (34,)),
        (LaunchOptions("energy_margins", dataset="food101", data_dir="."), (4,)),  # 2 of 5, so 4 of 10
        (LaunchOptions("compare_methods", max_epochs=30), ()),  # 9 of 9: no rung, whatever the length
    ],
)
def test_rungs_are_the_same_share_of_any_schedule(options: LaunchOptions, rungs: tuple[int, ...]) -> None:
    assert resolve(options, "one").rungs == rungs


def test_the_winner_and_the_untrained_classifier_are_measured_by_the_detectors_too() -> None:
    made = plan("energy_margins")
    measured = {arm.name: made.test_protocol("confirm", arm.name).detectors for arm in made.arms}
    closer = made.test_protocol("confirm", "best").detectors
    assert "cores" in closer
    assert {name for name, detectors in measured.items() if detectors == closer} == {"pretrained"}
