"""What a probe does with what it is told: shares, remembering, falling back, several kinds of GPU. No Ray."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuner.devices.allocation import GpuAllocation, known_share
from tuner.devices.resources import gpu_types
from tuner.devices.sharing_policy import COPIES, Gpu, Measurement, MeasurementCache, SharingLayout
from tuner.devices.sharing_probe import GpuGroup, Probe, ProbeFailed, ProbeResult
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.plan import Plan
from tuner.planning.resolve import resolve

GIB = 2**30
FAST = Gpu("H200", 139 * GIB, "2.11", mps=True)
SMALL = Gpu("T4", 15 * GIB, "2.11", mps=False)


Rate = float | Exception | None


class Told:
    """Copies that were measured beforehand: {gpu: {copies: steps/s}}, 3 GiB each; None runs out of memory.

    Args:
        packs: {pack: steps/s} of a process with so many trials, or {method: {pack: steps/s}}.
    """

    def __init__(
        self, rates: Mapping[Gpu, Mapping[int, Rate]], most: int = 8, packs: Mapping[Any, Any] | None = None
    ) -> None:
        self.rates, self.most, self.packs = rates, most, packs or {}
        self.asked: list[tuple[str, str, int]] = []
        self.packed: list[tuple[str, str, SharingLayout]] = []
        self.error: Exception | None = None

    def gpu_groups(self) -> list[GpuGroup]:
        if self.error:
            raise self.error
        return [GpuGroup(gpu, "node", self.most) for gpu in self.rates]

    def gpu_types(self) -> list[str]:
        return ["A", "B"]

    def measure(
        self, group: GpuGroup, method: str, configuration: Mapping[str, Any], layout: SharingLayout
    ) -> Measurement:
        copies = layout.copies
        assert configuration["batch_size"] == 64
        assert configuration["validation"]
        if layout.pack == 1:
            self.asked.append((group.gpu.name, method, copies))
            rate = self.rates[group.gpu][copies]
        else:
            self.packed.append((group.gpu.name, method, layout))
            rate = self.packs.get(method, self.packs)[layout.pack]
            rate = rate * copies if isinstance(rate, float) else rate
        if isinstance(rate, Exception):
            raise rate
        if rate is None:
            return Measurement(copies, failure="out of memory", pack=layout.pack)
        return Measurement(copies, rate, 3 * GIB, GIB if copies == 1 else 0, pack=layout.pack)


GROWING: dict[int, Rate] = {1: 10.0, 2: 19.0, 4: 30.0, 8: 44.0}


@pytest.fixture
def plan() -> Plan:
    """Return a plan with too few trials for packs."""
    plan = resolve(LaunchOptions("aoe_sigma", trials=8), "r", "c")
    return replace(plan, lanes=plan.lanes[:1])


@pytest.fixture
def cache(tmp_path: Path) -> MeasurementCache:
    return MeasurementCache(tmp_path / "gpu.json")


def test_the_measured_share(plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: GROWING})
    found = Probe(plan, told, cache).run()
    assert found == ProbeResult(0.125, found.notes, True, ["A", "B"])
    assert found.notes == (
        "GPU share 0.125 for aoe (small_cnn) on H200 with MPS: 1 copy 10 steps/s, 2: 19, 4: 30, 8: 44; 3 GiB each",
    )
    assert [copies for *_, copies in told.asked] == [1, 2, 4, 8]


def test_what_was_measured_once_is_not_measured_again(plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: GROWING})
    first = Probe(plan, told, cache).run()
    again = Probe(replace(plan, run_name="another"), told, MeasurementCache(cache.path)).run()
    assert again == first
    assert len(told.asked) == 4
    Probe(replace(plan, validation={**plan.validation, "steps": 3}), told, cache).run()
    assert len(told.asked) == 8


def test_a_damaged_memory_is_said(plan: Plan, cache: MeasurementCache) -> None:
    cache.path.write_text("{")
    told = Told({FAST: GROWING})
    found = Probe(plan, told, cache).run()
    assert found.gpu_share == 0.125
    assert [n for n in found.notes if "damaged" in n] == [found.notes[0]]
    assert Probe(plan, told, MeasurementCache(cache.path)).run().notes == found.notes[1:]


def test_copies_that_run_out_of_memory_end_the_probe_and_are_remembered(
    plan: Plan, cache: MeasurementCache
) -> None:
    told = Told({SMALL: {1: 10.0, 2: 19.0, 4: None}})
    found = Probe(plan, told, cache).run()
    assert (found.gpu_share, found.complete) == (0.5, True)
    assert "4 copies do not fit" in found.notes[0]
    assert [copies for *_, copies in told.asked] == [1, 2, 4]
    assert Probe(plan, told, cache).run() == found
    assert len(told.asked) == 3


def test_cpus_bound_the_copies(plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: GROWING}, most=3)
    assert Probe(plan, told, cache).run().gpu_share == 0.5
    assert [copies for *_, copies in told.asked] == [1, 2]


def test_what_does_not_fit_alone_gets_a_whole_gpu_and_a_line(plan: Plan, cache: MeasurementCache) -> None:
    found = Probe(plan, Told({SMALL: {1: None}}), cache).run()
    assert (found.gpu_share, found.complete) == (1.0, True)
    assert found.notes[0].startswith(
        "GPU share 1 for aoe (small_cnn) on T4: the largest configuration does not fit"
    )


@pytest.mark.parametrize("error", ["the GPUs are in use", "1 copy was not ready in time"])
def test_a_failed_probe_is_a_quarter_and_a_line(error: str, plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: {1: ProbeFailed(error)}})
    if "use" in error:
        told.error = ProbeFailed(error)
    found = Probe(plan, told, cache).run()
    assert (found.gpu_share, found.complete) == (0.25, False)
    (line,) = found.notes
    assert line.startswith("GPU share 0.25")
    assert line.endswith(f"which could not be measured: {error}")
    assert not cache.path.exists()


def test_a_probe_that_fails_half_way_uses_what_it_has_and_is_not_remembered(
    plan: Plan, cache: MeasurementCache
) -> None:
    late = ProbeFailed("4 copies were not ready in time")
    found = Probe(plan, Told({FAST: GROWING | {4: late}}), cache).run()
    assert (found.gpu_share, found.complete) == (0.5, False)
    assert found.notes[0] == "4 copies of aoe could not be measured: 4 copies were not ready in time"
    assert not cache.path.exists()


# -- packs -------------------------------------------------------------------------------------------------


def with_trials(plan: Plan, trials: int) -> Plan:
    return replace(plan, lanes=tuple(replace(lane, trials=trials) for lane in plan.lanes))


def test_packs_that_are_faster_are_taken(plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: GROWING}, packs={8: 60.0, 32: 150.0})
    found = Probe(with_trials(plan, 48), told, cache).run()
    assert (found.gpu_share, found.pack, found.single_trial_share, found.complete) == (1.0, 32, 0.125, True)
    assert found.notes == (
        "a pack of 32 (without packs GPU share 0.125) for aoe (small_cnn) on H200 with MPS: 1 copy 10 steps/s, 2: 19, "
        "4: 30, 8: 44, a pack of 8: 60, a pack of 32: 150; 3 GiB each, 3 GiB a pack",
        "trials are packed: up to 32 share a process, which has a whole GPU",
    )
    asked = len(told.packed)
    assert Probe(with_trials(plan, 48), told, MeasurementCache(cache.path)).run() == found
    assert len(told.packed) == asked == 2


def test_packs_that_are_not_faster_are_left(plan: Plan, cache: MeasurementCache) -> None:
    """45 is 2 % more than 44: noise. The share is that of the processes."""
    told = Told({FAST: GROWING}, packs={8: 40.0, 32: 45.0})
    found = Probe(with_trials(plan, 48), told, cache).run()
    assert (found.gpu_share, found.pack) == (0.125, 1)
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("trials", "workers", "sizes"),
    [(48, 1, [8, 32]), (47, 1, [8]), (12, 1, [8]), (11, 1, []), (48, 2, [8]), (96, 2, [8, 32]), (20, 2, [])],
)
def test_no_more_than_two_thirds_of_the_trials_are_started_before_a_result(
    trials: int, workers: int, sizes: list[int], plan: Plan, cache: MeasurementCache
) -> None:
    told = Told({FAST: GROWING}, packs={8: 1.0, 32: 1.0})
    Probe(with_trials(plan, trials), told, cache, workers).run()
    assert [layout for *_, layout in told.packed] == [SharingLayout(size, 1) for size in sizes]


def test_a_study_is_packed_where_all_of_it_gains(cache: MeasurementCache) -> None:
    """The smallest of the lanes' best packs; one lane that is faster without ends it, and the rest is not asked."""
    plan = with_trials(resolve(LaunchOptions("adversarial_baselines"), "r", "c"), 48)
    methods = [lane.method for lane in plan.lanes]
    packs: dict[str, dict[int, Rate]] = {method: {8: 60.0, 32: 150.0} for method in methods}
    packs[methods[1]] = {8: 100.0, 32: 90.0}
    told = Told({FAST: GROWING}, packs=packs)
    found = Probe(plan, told, cache).run()
    assert (found.gpu_share, found.pack) == (1.0, 8)
    assert ("H200", methods[2], SharingLayout(32)) not in told.packed
    packs[methods[1]] = {8: 20.0, 32: 30.0}
    told = Told({FAST: GROWING}, packs=packs)
    found = Probe(plan, told, MeasurementCache(cache.path.with_name("other"))).run()
    assert (found.gpu_share, found.pack) == (0.125, 1)
    assert {method for _, method, _ in told.packed} == set(methods[:2])
    assert "packed" not in found.notes[-1]


def test_a_pack_that_does_not_fit_or_fails(plan: Plan, cache: MeasurementCache) -> None:
    plan = with_trials(plan, 48)
    told = Told({FAST: GROWING}, packs={8: None})
    found = Probe(plan, told, cache).run()
    assert (found.gpu_share, found.pack, found.complete) == (0.125, 1, True)
    assert "a pack of 8 does not fit; 3 GiB each" in found.notes[0]
    assert [layout for *_, layout in told.packed] == [SharingLayout(8)]
    told = Told({FAST: GROWING}, packs={8: 60.0, 32: ProbeFailed("a pack of 32 was not ready in time")})
    found = Probe(plan, told, MeasurementCache(cache.path.with_name("other"))).run()
    assert (found.gpu_share, found.pack, found.complete) == (1.0, 8, False)
    assert found.notes[0] == "a pack of 32 of aoe could not be measured: a pack of 32 was not ready in time"

    plan = with_trials(resolve(LaunchOptions("aoe_sigma", settings=("dropout=0.1",)), "r", "c"), 48)


def test_what_has_no_packed_form_is_not_measured_in_packs(cache: MeasurementCache) -> None:
    plan = with_trials(resolve(LaunchOptions("aoe_sigma", settings=("dropout=0.1",)), "r", "c"), 48)
    told = Told({FAST: GROWING})
    found = Probe(plan, told, cache).run()
    assert (found.gpu_share, found.pack, told.packed) == (0.125, 1, [])


def test_packs_that_were_asked_for_are_what_is_measured(plan: Plan, cache: MeasurementCache) -> None:
    """Processes of 5 trials each: how many of them share a GPU, by time slices or with MPS."""
    told = Told({FAST: GROWING}, packs={5: 20.0})
    found = Probe(replace(plan, pack=5), told, cache).run()
    assert (found.gpu_share, found.pack, told.asked) == (0.125, 5, [])
    assert [layout for *_, layout in told.packed] == [SharingLayout(5, copies) for copies in COPIES]
    assert found.notes == (
        "GPU share 0.125 for aoe (small_cnn) on H200 with MPS: a pack of 5 20 steps/s, 2 packs of 5: 40, "
        "4 packs of 5: 80, 8 packs of 5: 160; 3 GiB a pack",
    )
    told.error = ProbeFailed("the GPUs are in use")
    found = Probe(replace(plan, pack=5), told, cache).run()
    assert (found.gpu_share, found.pack, found.complete) == (0.25, 5, False)


def test_off_is_off(plan: Plan, cache: MeasurementCache) -> None:
    told = Told({FAST: GROWING}, packs={8: 60.0, 32: 150.0})
    found = Probe(replace(with_trials(plan, 48), pack=1), told, cache).run()
    assert (found.gpu_share, found.pack, told.packed) == (0.125, 1, [])


# -- several kinds of GPU, several lanes -------------------------------------------------------------------


def test_on_mixed_nodes_the_largest_share_counts(plan: Plan, cache: MeasurementCache) -> None:
    """T4: 4 x (3 + 1) x 1.1 = 17.6 of 15 GiB; and more copies than two need not be measured after it."""
    told = Told({SMALL: GROWING, FAST: GROWING})
    found = Probe(plan, told, cache).run()
    assert found.gpu_share == 0.5
    assert found.notes[-1] == "2 kinds of GPU: every trial gets the largest share, 0.5"
    assert ("H200", "aoe", 2) in told.asked
    assert ("H200", "aoe", 4) not in told.asked
    told = Told({FAST: GROWING, SMALL: GROWING})
    assert Probe(plan, told, MeasurementCache(cache.path.with_name("other"))).run().gpu_share == 0.5

    plan = resolve(LaunchOptions("adversarial_baselines", pack=1), "r", "c")


def test_every_lane_is_measured_and_the_largest_share_counts(cache: MeasurementCache) -> None:
    plan = resolve(LaunchOptions("adversarial_baselines", pack=1), "r", "c")
    told = Told({FAST: {1: 10.0, 2: 10.0, 4: 10.0, 8: 44.0}})
    told.rates = {FAST: GROWING}
    found = Probe(plan, told, cache).run()
    assert [m for _, m, k in told.asked if k == 1] == [lane.method for lane in plan.lanes]
    assert found.gpu_share == 0.125
    assert len(found.notes) == len(plan.lanes)


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
        (None, {"share": 0.5, "types": ["T4"]}, ["T4"], 0.5),  # of a run before there were packs
        (None, {"share": 0.5, "pack": 1, "wish": None, "types": ["H200", "T4"]}, ["T4"], 0.5),
        (None, {"share": 0.5, "types": ["H200"]}, [], 0.5),  # no GPU up yet
        (None, {"share": 0.5, "types": ["H200"]}, ["H200", "T4"], None),
    ],
)
def test_a_resume_takes_the_recorded_share(
    given: float | None, recorded: Any, types: list[str], share: float | None, plan: Plan
) -> None:
    found = known_share(replace(plan, gpus_per_trial=given), recorded, types)
    assert found == (None if share is None else (share, 1, None))


def test_a_resume_takes_the_recorded_pack_unless_another_is_asked_for(plan: Plan) -> None:
    recorded = {"share": 1.0, "pack": 32, "alone": 0.25, "wish": None, "types": ["T4"]}
    assert known_share(plan, recorded, ["T4"]) == (1.0, 32, 0.25)
    assert known_share(replace(plan, pack=1), recorded, ["T4"]) is None
    assert known_share(replace(plan, pack=8), recorded | {"pack": 8, "wish": 8}, ["T4"]) == (1.0, 8, 0.25)
    assert known_share(plan, recorded | {"pack": 8, "wish": 8}, ["T4"]) is None
    assert known_share(replace(plan, pack=8, gpus_per_trial=0.5), recorded, ["T4"]) == (0.5, 8, None)


class Folder:
    """A run folder of which only `plan.json` is asked."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def entries(self) -> dict[str, Any]:
        return self.facts


def allocation(plan: Plan, nodes: list[dict[str, Any]], **facts: Any) -> GpuAllocation:
    return GpuAllocation(plan, Folder(**facts), nodes, cluster=False)  # type: ignore[arg-type]


def test_only_a_share_of_a_gpu_that_is_there_is_measured(plan: Plan) -> None:
    recorded = {"share": 0.125, "types": [""]}
    assert allocation(plan, [node()]).unmeasured
    assert allocation(replace(plan, stages=("confirm",)), [node()]).unmeasured
    for settled in (
        allocation(plan, [node(gpus=0)]),
        allocation(plan, [node(gpus=0), node(alive=False)]),
        allocation(replace(plan, gpus_per_trial=0.5), [node()]),
        allocation(replace(plan, stages=("evaluate", "report")), [node()]),
        allocation(plan, [node()], gpu_share=recorded),
    ):
        assert not settled.unmeasured


def test_what_the_first_jobs_get(plan: Plan) -> None:
    """A whole GPU while the share is not known, and no word on that; else what the trials get."""
    crowd = replace(plan, concurrency=6)
    first = allocation(crowd, [node()]).initial()
    assert (first.gpus_per_trial, first.concurrency, first.note) == (1.0, 1, "")
    recorded = {"share": 0.125, "pack": 1, "wish": None, "types": [""]}
    first = allocation(crowd, [node()], gpu_share=recorded).initial()
    assert (first.gpus_per_trial, first.concurrency) == (0.125, 6)
    first = allocation(plan, [node(gpus=0)]).initial()
    assert (first.gpus_per_trial, first.concurrency, first.note) == (0.0, 8, "")
    assert (first.pack, first.at_a_time) == (1, "8 at a time")
    recorded = {"share": 1.0, "pack": 32, "alone": 0.25, "wish": None, "types": [""]}
    first = allocation(plan, [node()], gpu_share=recorded).initial()
    assert (first.gpus_per_trial, first.pack, first.at_a_time) == (1.0, 32, "1 worker of up to 32 trials")
    assert first.gpus_per_job == 0.25  # evaluations are not packed
    assert allocation(plan, [node(gpus=0)], gpu_share=recorded).initial().gpus_per_job == 0
    assert allocation(replace(plan, gpus_per_trial=0.5), [node()]).initial().gpus_per_job == 0.5
    first = allocation(replace(plan, pack=4), [node(gpus=0)]).initial()
    assert (first.gpus_per_trial, first.pack, first.at_a_time) == (0.0, 4, "8 workers of up to 4 trials")
