"""What a probe does with what it is told: shares, remembering, falling back, several kinds of GPU. No Ray."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import search_spaces
import trainables
from search_spaces.domain import Choice, Domain, Float, Int, Value
from trainables.options import build
from tuner.gpu import Gpu, Measured, Remembered
from tuner.largest import costliest, largest
from tuner.plan import Plan
from tuner.probe import Kind, Probe, ProbeFailed, Share
from tuner.resolve import Request, resolve
from tuner.resources import gpu_types
from tuner.sharing import Sharing, known_share

GIB = 2**30
FAST = Gpu("H200", 139 * GIB, "2.11", mps=True)
SMALL = Gpu("T4", 15 * GIB, "2.11", mps=False)


class Told:
    """Copies that were measured beforehand: {gpu: {copies: steps/s}}, 3 GiB each; None runs out of memory."""

    def __init__(self, rates: Mapping[Gpu, Mapping[int, float | Exception | None]], most: int = 8) -> None:
        self.rates, self.most = rates, most
        self.asked: list[tuple[str, str, int]] = []
        self.error: Exception | None = None

    def kinds(self) -> list[Kind]:
        if self.error:
            raise self.error
        return [Kind(gpu, "node", self.most) for gpu in self.rates]

    def types(self) -> list[str]:
        return ["A", "B"]

    def side_by_side(
        self, kind: Kind, method: str, configuration: Mapping[str, Any], copies: int
    ) -> Measured:
        self.asked.append((kind.gpu.name, method, copies))
        assert configuration["batch_size"] == 64
        assert configuration["validation"]
        rate = self.rates[kind.gpu][copies]
        if isinstance(rate, Exception):
            raise rate
        if rate is None:
            return Measured(copies, failure="out of memory")
        return Measured(copies, rate, 3 * GIB, GIB if copies == 1 else 0)


GROWING: dict[int, float | Exception | None] = {1: 10.0, 2: 19.0, 4: 30.0, 8: 44.0}


@pytest.fixture
def plan() -> Plan:
    plan = resolve(Request("aoe_sigma"), "r", "c")
    return replace(plan, lanes=plan.lanes[:1])


@pytest.fixture
def memory(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "gpu.json")


def test_the_measured_share(plan: Plan, memory: Remembered) -> None:
    told = Told({FAST: GROWING})
    found = Probe(plan, told, memory).run()
    assert found == Share(0.125, found.notes, True, ["A", "B"])
    assert found.notes == (
        "GPU share 0.125 for aoe (small_cnn) on H200 with MPS: 1 copy 10 steps/s, 2: 19, 4: 30, 8: 44; 3 GiB each",
    )
    assert [copies for *_, copies in told.asked] == [1, 2, 4, 8]


def test_what_was_measured_once_is_not_measured_again(plan: Plan, memory: Remembered) -> None:
    told = Told({FAST: GROWING})
    first = Probe(plan, told, memory).run()
    again = Probe(replace(plan, run_name="another"), told, Remembered(memory.path)).run()
    assert again == first
    assert len(told.asked) == 4
    Probe(replace(plan, validation={**plan.validation, "steps": 3}), told, memory).run()
    assert len(told.asked) == 8


def test_a_damaged_memory_is_said(plan: Plan, memory: Remembered) -> None:
    memory.path.write_text("{")
    told = Told({FAST: GROWING})
    found = Probe(plan, told, memory).run()
    assert found.value == 0.125
    assert [n for n in found.notes if "damaged" in n] == [found.notes[0]]
    assert Probe(plan, told, Remembered(memory.path)).run().notes == found.notes[1:]


def test_copies_that_run_out_of_memory_end_the_probe_and_are_remembered(
    plan: Plan, memory: Remembered
) -> None:
    told = Told({SMALL: {1: 10.0, 2: 19.0, 4: None}})
    found = Probe(plan, told, memory).run()
    assert (found.value, found.whole) == (0.5, True)
    assert "4 do not fit" in found.notes[0]
    assert [copies for *_, copies in told.asked] == [1, 2, 4]
    assert Probe(plan, told, memory).run() == found
    assert len(told.asked) == 3


def test_cpus_bound_the_copies(plan: Plan, memory: Remembered) -> None:
    told = Told({FAST: GROWING}, most=3)
    assert Probe(plan, told, memory).run().value == 0.5
    assert [copies for *_, copies in told.asked] == [1, 2]


def test_what_does_not_fit_alone_gets_a_whole_gpu_and_a_line(plan: Plan, memory: Remembered) -> None:
    found = Probe(plan, Told({SMALL: {1: None}}), memory).run()
    assert (found.value, found.whole) == (1.0, True)
    assert found.notes[0].startswith(
        "GPU share 1 for aoe (small_cnn) on T4: the largest configuration does not fit"
    )


@pytest.mark.parametrize("error", ["the GPUs are in use", "1 copy was not ready in time"])
def test_a_failed_probe_is_a_quarter_and_a_line(error: str, plan: Plan, memory: Remembered) -> None:
    told = Told({FAST: {1: ProbeFailed(error)}})
    if "use" in error:
        told.error = ProbeFailed(error)
    found = Probe(plan, told, memory).run()
    assert (found.value, found.whole) == (0.25, False)
    (line,) = found.notes
    assert line.startswith("GPU share 0.25")
    assert line.endswith(f"which could not be measured: {error}")
    assert not memory.path.exists()


def test_a_probe_that_fails_half_way_uses_what_it_has_and_is_not_remembered(
    plan: Plan, memory: Remembered
) -> None:
    late = ProbeFailed("4 copies were not ready in time")
    found = Probe(plan, Told({FAST: GROWING | {4: late}}), memory).run()
    assert (found.value, found.whole) == (0.5, False)
    assert found.notes[0] == "4 copies of aoe could not be measured: 4 copies were not ready in time"
    assert not memory.path.exists()


def test_packs_are_not_measured(plan: Plan, memory: Remembered) -> None:
    told = Told({FAST: GROWING})
    found = Probe(replace(plan, pack=8), told, memory).run()
    assert (found.value, found.whole, told.asked) == (0.25, False, [])
    assert "not packs" in found.notes[0]


def test_on_mixed_nodes_the_largest_share_counts(plan: Plan, memory: Remembered) -> None:
    """T4: 4 x (3 + 1) x 1.1 = 17.6 of 15 GiB; and more copies than two need not be measured after it."""
    told = Told({SMALL: GROWING, FAST: GROWING})
    found = Probe(plan, told, memory).run()
    assert found.value == 0.5
    assert found.notes[-1] == "2 kinds of GPU: every trial gets the largest share, 0.5"
    assert ("H200", "aoe", 2) in told.asked
    assert ("H200", "aoe", 4) not in told.asked
    told = Told({FAST: GROWING, SMALL: GROWING})
    assert Probe(plan, told, Remembered(memory.path.with_name("other"))).run().value == 0.5


def test_every_lane_is_measured_and_the_largest_share_counts(memory: Remembered) -> None:
    plan = resolve(Request("adversarial_baselines"), "r", "c")
    told = Told({FAST: {1: 10.0, 2: 10.0, 4: 10.0, 8: 44.0}})
    told.rates = {FAST: GROWING}
    found = Probe(plan, told, memory).run()
    assert [m for _, m, k in told.asked if k == 1] == [lane.method for lane in plan.lanes]
    assert found.value == 0.125
    assert len(found.notes) == len(plan.lanes)


# -- the largest configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "domain", "value"),
    [
        ("attack.steps", Int(2, 10), 10),
        ("batch_size", Choice((256, 32, 64)), 256),
        ("lr", Float(1e-4, 1e-2, log=True), pytest.approx(1e-3)),
        ("attack.epsilon", Float(0.1, 0.3), pytest.approx(0.2)),
        ("outliers.ratio", Float(0.5, 2.0), 2.0),
        ("outliers.ratio", Choice((2.0, 0.5)), 2.0),
        ("attack.name", Choice(("eba_pgd", "pgd", "gauss")), "eba_pgd"),
        ("inlier_attack.name", Choice(("energy", "none")), "energy"),
        ("network", Choice(("wrn_40_2", "small_cnn")), "wrn_40_2"),
        ("energy.trainable", Choice(("all", "head")), "all"),
        ("boundary.quality_filter", Choice((True, False)), True),
        ("attack.schedule", Choice(("constant", "up")), "up"),
    ],
)
def test_the_costliest_value(key: str, domain: Domain, value: Value) -> None:
    assert costliest(key, domain) == value


@pytest.mark.parametrize("name", search_spaces.NAMES)
def test_the_largest_configuration_of_every_study_is_one(name: str) -> None:
    plan = resolve(Request(name), "r", "c")
    for lane in plan.lanes:
        configuration = largest(lane, 7)
        options = build(trainables.get(lane.method).load_options(), configuration)
        assert options.seed == 7
        assert all(configuration[key] in domain for key, domain in lane.space.items())


# -- in a run ----------------------------------------------------------------------------------------------


def node(name: str = "", gpus: int = 1, alive: bool = True) -> dict[str, Any]:
    resources = {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}
    return {"Alive": alive, "Resources": resources | ({f"accelerator_type:{name}": 1.0} if name else {})}


def test_types_of_the_gpus_that_are_up() -> None:
    nodes = [node("T4"), node("H200"), node("T4"), node("A100", alive=False), node(gpus=0)]
    assert gpu_types(nodes) == ["H200", "T4"]
    assert gpu_types([node(), node("T4")]) == ["", "T4"]


@pytest.mark.parametrize(
    ("given", "recorded", "types", "share"),
    [
        (None, None, ["T4"], None),
        (0.2, {"share": 0.5, "types": ["T4"]}, ["T4"], 0.2),
        (0.0, None, ["T4"], 0.0),
        (None, {"share": 0.5, "types": ["T4"]}, ["T4"], 0.5),
        (None, {"share": 0.5, "types": ["H200", "T4"]}, ["T4"], 0.5),
        (None, {"share": 0.5, "types": ["H200"]}, [], 0.5),  # no GPU up yet
        (None, {"share": 0.5, "types": ["H200"]}, ["H200", "T4"], None),
    ],
)
def test_a_resume_takes_the_recorded_share(
    given: float | None, recorded: Any, types: list[str], share: float | None, plan: Plan
) -> None:
    assert known_share(replace(plan, gpus_per_trial=given), recorded, types) == share


class Folder:
    """A run folder of which only `plan.json` is asked."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def read(self) -> tuple[None, dict[str, Any]]:
        return None, self.facts


def sharing(plan: Plan, nodes: list[dict[str, Any]], **facts: Any) -> Sharing:
    return Sharing(plan, Folder(**facts), nodes, cluster=False)  # type: ignore[arg-type]


def test_only_a_share_of_a_gpu_that_is_there_is_measured(plan: Plan) -> None:
    recorded = {"share": 0.125, "types": [""]}
    assert sharing(plan, [node()]).unmeasured
    assert sharing(replace(plan, stages=("confirm",)), [node()]).unmeasured
    for settled in (
        sharing(plan, [node(gpus=0)]),
        sharing(plan, [node(gpus=0), node(alive=False)]),
        sharing(replace(plan, gpus_per_trial=0.5), [node()]),
        sharing(replace(plan, stages=("evaluate", "report")), [node()]),
        sharing(plan, [node()], gpu_share=recorded),
    ):
        assert not settled.unmeasured


def test_what_the_first_jobs_get(plan: Plan) -> None:
    """A whole GPU while the share is not known, and no word on that; else what the trials get."""
    crowd = replace(plan, concurrency=6)
    first = sharing(crowd, [node()]).first()
    assert (first.gpus_per_trial, first.concurrency, first.note) == (1.0, 1, "")
    recorded = {"share": 0.125, "types": [""]}
    first = sharing(crowd, [node()], gpu_share=recorded).first()
    assert (first.gpus_per_trial, first.concurrency) == (0.125, 6)
    first = sharing(plan, [node(gpus=0)]).first()
    assert (first.gpus_per_trial, first.concurrency, first.note) == (0.0, 8, "")
