"""How many copies share a GPU: golden cases, properties, what is remembered."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.ray.throughput_probe import mps_is_running
from tuner.devices.sharing_policy import (
    COPIES,
    MEMORY_MARGIN,
    TIE_TOLERANCE,
    DoesNotFit,
    Gpu,
    Measurement,
    MeasurementCache,
    SharingLayout,
    choose,
    context_bytes,
    describe_measurements,
    fits,
    layouts_to_measure,
    measurement_key,
)

GIB = 2**30
FULL = "out of memory"


def curve(rates: list[float | None], peak: float = 1.0) -> list[Measurement]:
    """Return measurements of 1, 2, 4, 8 copies of `peak` GiB; None is a number of copies that did not fit."""
    return [
        Measurement(k, failure=FULL) if rate is None else Measurement(k, rate, int(peak * GIB))
        for k, rate in zip(COPIES, rates, strict=False)
    ]


@pytest.mark.parametrize(
    ("rates", "peak", "chosen"),
    [
        ([10.0, 19.0, 34.0, 50.0], 1.0, 8),  # 8 x (1 + 0.5) x 1.1 = 13.2 of 16 GiB
        ([10.0, 19.0, 34.0, 50.0], 2.0, 4),  # 8: 22 GiB; 4 x 2.5 x 1.1 = 11
        ([10.0, 19.0, 34.0, 50.0], 7.0, 1),  # 2 x 7.5 x 1.1 = 16.5 GiB do not fit
        ([10.0, 9.5, 9.0, 8.0], 1.0, 1),  # a device that one trial fills
        ([10.0, 19.0, 18.0, 17.0], 1.0, 2),  # the copies get in each other's way
        ([10.0, 19.0, 19.5, 19.4], 1.0, 2),  # within 3 % of the best: the fewest
        ([10.0, 19.0, 19.7, 19.4], 1.0, 4),  # 19.0 is 3.6 % below the best
        ([10.0, 19.0, None], 1.0, 2),
        ([10.0, None], 1.0, 1),
        ([10.0], 15.9, 1),  # alone it fits if it ran, margin or not
        ([0.0, 0.0], 1.0, 1),
    ],
)
def test_golden_choices(rates: list[float | None], peak: float, chosen: int) -> None:
    assert choose(curve(rates, peak), 16 * GIB, GIB // 2).copies == chosen


def test_not_even_one() -> None:
    with pytest.raises(
        DoesNotFit, match=r"whole device of 16 GiB \(out of memory\); a smaller batch_size"
    ) as e:
        choose(curve([None]), 16 * GIB, 0)
    assert "\n" not in str(e.value)
    with pytest.raises(DoesNotFit, match="nothing was measured"):
        choose([], 16 * GIB, 0)


def test_the_examples_of_fits() -> None:
    four = Measurement(4, 1.0, 3 * GIB)
    assert fits(four, 16 * GIB, GIB // 2)
    assert not fits(four, 15 * GIB, GIB // 2)


@st.composite
def measured(draw: st.DrawFn) -> list[Measurement]:
    """Return 1 to 4 measurements as a probe makes them: memory failures only at the end."""
    count = draw(st.integers(1, 4))
    rates = draw(st.lists(st.floats(0, 1e6), min_size=count, max_size=count))
    peaks = draw(st.lists(st.integers(0, 40 * GIB), min_size=count, max_size=count))
    found = [Measurement(k, r, p) for k, r, p in zip(COPIES, rates, peaks, strict=False)]
    if count > 1 and draw(st.booleans()):
        found[-1] = Measurement(found[-1].copies, failure=FULL)
    return found


@given(measured(), st.integers(GIB, 160 * GIB), st.integers(0, 2 * GIB))
def test_what_is_chosen_fits_and_nothing_that_fits_is_much_faster(
    found: list[Measurement], memory: int, context: int
) -> None:
    taken = choose(found, memory, context)
    copies = taken.copies
    assert not taken.failure
    if copies > 1:
        assert copies * (taken.peak + context) * MEMORY_MARGIN <= memory
    for other in found:
        if fits(other, memory, context):
            assert taken.steps_per_s >= other.steps_per_s * (1 - TIE_TOLERANCE)
            assert other.copies >= copies or other.steps_per_s < taken.steps_per_s


@given(measured(), st.integers(GIB, 160 * GIB), st.integers(0, 2 * GIB))
def test_the_choice_knows_no_units_and_no_order(found: list[Measurement], memory: int, context: int) -> None:
    copies = choose(found, memory, context).copies
    assert choose(found[::-1], memory, context).copies == copies
    fast = [Measurement(m.copies, m.steps_per_s * 2, m.peak, failure=m.failure) for m in found]
    assert choose(fast, memory, context).copies == copies


@given(measured(), st.integers(GIB, 80 * GIB), st.integers(0, 80 * GIB), st.integers(0, 2 * GIB))
def test_more_memory_never_loses_throughput(
    found: list[Measurement], memory: int, more: int, context: int
) -> None:
    small, large = (choose(found, size, context).steps_per_s for size in (memory, memory + more))
    assert large >= small * (1 - TIE_TOLERANCE)


def test_the_context_is_measured_on_a_copy_alone() -> None:
    found = [Measurement(1, 1.0, GIB, outside=700), Measurement(2, 1.0, GIB, outside=9000)]
    assert context_bytes(found, 500) == 700
    assert context_bytes(found, 800) == 800


def test_measurements_in_a_line() -> None:
    assert describe_measurements(curve([10.21, 19.7, 31.0, None], 3.1)) == (
        "1 copy 10.2 steps/s, 2: 19.7, 4: 31, 8 copies do not fit; 3.1 GiB each"
    )
    assert describe_measurements(curve([None])) == "1 copy does not fit; 0 GiB each"
    trial = Measurement(1, 10.0, 3 * GIB, steps_per_epoch=20, validation_s=1.0)  # 2 s and 1 s
    packs = [
        Measurement(1, 400.0, 9 * GIB, pack=8, steps_per_epoch=20, validation_s=8.0)
    ]  # 0.4 s and 8 s for all
    packs += [Measurement(2, failure=FULL, pack=8), Measurement(1, failure=FULL, pack=32)]
    assert describe_measurements([trial, *packs]) == (
        "1 copy 20 epochs/min, a pack of 8: 57.1, 2 packs of 8 do not fit, a pack of 32 does not fit; "
        "3 GiB each, 9 GiB a pack"
    )


# -- packs -------------------------------------------------------------------------------------------------


def test_pace_golden():
    """The docstring's example; one trial at 50 steps/s: 2 s for 100 steps, 0.5 s for validation, 0.4 epochs/s."""
    assert Measurement(2, 400.0, pack=4, steps_per_epoch=100, validation_s=2.0).pace == 2.0
    assert Measurement(1, 50.0, steps_per_epoch=100, validation_s=0.5).pace == pytest.approx(0.4)
    assert Measurement(4, 50.0, validation_s=3.0).pace == 50.0  # no length of an epoch: steps/s
    assert Measurement(1, 0.0, steps_per_epoch=100, validation_s=0.5).pace == 0.0


@pytest.mark.parametrize(
    ("pack_rate", "validation_s", "chosen"),
    [
        (900.0, 0.0, SharingLayout(32, 1)),  # 9 epochs/s; alone 8 copies make 4
        (900.0, 4.0, SharingLayout(32, 1)),  # 32 epochs in 3.56 + 4 s: 4.2
        (900.0, 6.0, SharingLayout(1, 8)),  # 3.3: validation, one after the other, costs more than it gains
        (410.0, 0.0, SharingLayout(1, 8)),  # 4.1, within 3 %: no pack where it brings next to nothing
        (420.0, 0.0, SharingLayout(32, 1)),
    ],
)
def test_packs_against_processes(pack_rate: float, validation_s: float, chosen: SharingLayout) -> None:
    found = [Measurement(k, 50.0 * k, GIB // 4, steps_per_epoch=100) for k in COPIES]
    found.append(Measurement(1, pack_rate, 12 * GIB, pack=32, steps_per_epoch=100, validation_s=validation_s))
    assert choose(found, 16 * GIB, GIB // 2).layout == chosen


def test_ways_golden():
    """Processes of one trial, packs of which one process is tried; or packs alone, in as many processes."""
    assert layouts_to_measure([1], 4) == [SharingLayout(1, 1), SharingLayout(1, 2), SharingLayout(1, 4)]
    assert layouts_to_measure([1, 32, 8], 2) == [
        SharingLayout(1, 1),
        SharingLayout(1, 2),
        SharingLayout(8, 1),
        SharingLayout(32, 1),
    ]
    assert layouts_to_measure([5], 8) == [
        SharingLayout(5, 1),
        SharingLayout(5, 2),
        SharingLayout(5, 4),
        SharingLayout(5, 8),
    ]
    assert [str(layout) for layout in layouts_to_measure([1, 8], 2)] == ["1 copy", "2 copies", "a pack of 8"]
    assert str(SharingLayout(8, 2)) == "2 packs of 8"


# -- what is remembered ------------------------------------------------------------------------------------

CARD = Gpu("H200", 139 * GIB, "2.11", mps=False)
CONFIGURATION = {"network": "small_cnn", "batch_size": 64, "attack.steps": 10, "seed": 1, "epochs": 3}


def key(
    gpu: Gpu = CARD, method: str = "aoe", most: int = 8, packs: tuple[int, ...] = (1,), **changes: object
) -> str:
    return measurement_key(
        gpu, method, CONFIGURATION | changes, {"steps": 10}, layouts_to_measure(packs, most)
    )


def test_a_key_names_all_that_a_measurement_depends_on() -> None:
    assert key() == key(seed=2, epochs=9, cache_dir="/x")
    others = [
        key(Gpu("A100", 139 * GIB, "2.11", mps=False)),
        key(Gpu("H200", 70 * GIB, "2.11", mps=False)),
        key(Gpu("H200", 139 * GIB, "2.12", mps=False)),
        key(Gpu("H200", 139 * GIB, "2.11", mps=True)),
        key(method="oe"),
        key(most=4),
        key(network="resnet50"),
        key(batch_size=128),
        key(**{"attack.steps": 5}),
        key(packs=(1, 8)),
        key(packs=(8,)),
        measurement_key(CARD, "aoe", CONFIGURATION, {"steps": 20}, layouts_to_measure([1], 8)),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_measurements_are_remembered(tmp_path: Path) -> None:
    found = curve([10.0, 19.0, None])
    cache = MeasurementCache(tmp_path / "cache" / "gpu.json")
    assert cache.get("a") is None
    cache.put("a", found, {"gpu": "H200"})
    cache.put("b", found[:1], {})
    again = MeasurementCache(cache.path)
    assert again.get("a") == found
    assert again.get("b") == found[:1]
    assert again.get("c") is None
    assert cache.problem == again.problem == ""
    assert json.loads(cache.path.read_text())["a"]["gpu"] == "H200"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"a": 3}',
        '{"a": {}}',
        '{"a": {"measured": [{"copies": "x"}]}}',
        '{"a": {"measured": [{"copies": 1, "colour": 1}]}}',
        '{"a": {"measured": [{"copies": 1, "steps_per_s": NaN}]}}',
        '{"a": {"measured": [{"copies": 0}]}}',
        '{"a": {"measured": [{"copies": 1, "pack": 0}]}}',
        '{"a": {"measured": [{"copies": 1, "validation_s": Infinity}]}}',
        '{"a": {"measured": []}}',
    ],
)
def test_a_damaged_file_is_said_and_measured_again(text: str, tmp_path: Path) -> None:
    cache = MeasurementCache(tmp_path / "gpu.json")
    cache.path.write_text(text)
    assert cache.get("a") is None
    assert "gpu.json is damaged" in cache.problem
    assert "measured again" in cache.problem
    cache.put("a", curve([1.0]), {})
    assert MeasurementCache(cache.path).get("a") == curve([1.0])


def test_a_folder_that_cannot_be_written_to_costs_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = MeasurementCache(tmp_path / "file" / "gpu.json")
    cache.put("a", curve([1.0]), {})
    assert "cannot be kept" in cache.problem


# -- MPS ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "runs"),
    [
        ({}, False),
        ({"control": ""}, True),
        ({"control": "", "nvidia-cuda-mps-control.pid": "1"}, True),
        (
            {"control": "", "nvidia-cuda-mps-control.pid": "4194999"},
            False,
        ),  # above the largest process number
        ({"nvidia-cuda-mps-control.pid": "1"}, False),
    ],
)
def test_mps_is_known_by_its_pipe(
    files: dict[str, str], runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert mps_is_running() is runs
