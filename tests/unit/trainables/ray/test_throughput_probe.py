"""A process that is measured, by a clock of the test's own: of a trial or of a pack, their rates and validation."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.unit import toy
from trainables.base.errors import TrainingFailed
from trainables.packed.trainer import StackedTrainer
from trainables.ray import throughput_probe
from trainables.ray.assets import Assets
from trainables.ray.throughput_probe import ProbeActor
from trainables.training.method import Trainer

STEP_S, VALIDATION_S = 0.25, 2.0
ASSETS = Assets(toy.benchmark(train=64))  # and 32 images for validation
CONFIGURATION = {
    "dataset": "toy",
    "batch_size": 16,
    "validation": {"groups": ("clean", "robust")},
}


@dataclass
class ProbeDevice:
    """A device that does at once what it is told."""

    peak: int = 700

    def name(self) -> str:
        return "still"

    def total_memory(self) -> int:
        return 10**9

    def peak_memory(self) -> int:
        return self.peak

    def outside_memory(self) -> int:
        return 50

    def synchronize(self) -> None:
        """Wait for nothing."""


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let every step take STEP_S and every validation VALIDATION_S, and collect the validations' protocols."""
    now, seen = [0.0], []
    for group in (Trainer, StackedTrainer):
        monkeypatch.setattr(group, "step", ticking(group.step, now))

    def validate(network: Any, data: Any, protocol: Any, *_: Any) -> dict[str, float]:
        now[0] += VALIDATION_S
        seen.append(protocol)
        return {}

    monkeypatch.setattr(throughput_probe, "validate", validate)
    monkeypatch.setattr(throughput_probe.time, "perf_counter", lambda: now[0])
    return seen


def ticking(step: Any, now: list[float]) -> Any:
    def ticked(*given: Any, **named: Any) -> Any:
        now[0] += STEP_S
        return step(*given, **named)

    return ticked


def measured(pack: int, window: float, method: str = "pgd_at", **changes: Any) -> dict[str, Any]:
    steps = {"attack.steps": 1} if method == "pgd_at" else {}
    copy = ProbeActor(method, CONFIGURATION | steps | changes, ASSETS, ProbeDevice(), pack)
    copy.build()
    return copy.measure(window)


@pytest.mark.usefixtures("protocols")
@pytest.mark.parametrize(
    ("pack", "window", "rate"), [(1, 1.0, 4.0), (1, 0.0, 4.0), (4, 1.0, 16.0), (4, 5.0, 16.0)]
)
def test_rates_golden(pack: int, window: float, rate: float) -> None:
    """A step of 0.25 s is one of each trial's; 64 images in batches of 16; validated in 2 s, one after the other."""
    assert measured(pack, window) == {
        "steps_per_s": rate,
        "steps_per_epoch": 4,
        "validation_s": VALIDATION_S * pack,
        "peak": 700,
        "outside": 50,
    }


@pytest.mark.parametrize(("max_images", "times"), [(0, 4.0), (12, 1.5), (5, 1.0)])
def test_validation_is_measured_on_a_batch_of_every_set(
    max_images: int, times: float, protocols: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 8: 32 images are four times as many, 12 are 1.5 times; the warm-up attacks with one step only."""
    monkeypatch.setattr(throughput_probe, "batch_size", lambda device: 8)
    validation = {"groups": ("robust",), "steps": 7, "restarts": 2, "max_images": max_images}
    found = measured(2, 0.0, validation=validation)
    assert found["validation_s"] == VALIDATION_S * 2 * times
    few = min(8, max_images or 8)
    assert [(p.max_images, p.steps, p.restarts) for p in protocols] == [(few, 1, 1), (few, 7, 2)]


@pytest.mark.usefixtures("protocols")
def test_epochs_of_methods_with_optimisers_of_their_own_have_no_length() -> None:
    """ANT's noise generator takes steps too, and all are counted."""
    found = measured(1, 1.0, "ant")
    assert found["steps_per_epoch"] == 0
    assert found["steps_per_s"] > 1 / STEP_S  # the classifier's alone


def test_a_pack_that_would_not_be_stacked_is_no_pack() -> None:
    with pytest.raises(TrainingFailed, match="cannot be stacked"):
        measured(2, 0.0, dropout=0.1)


def test_a_pack_holds_its_images_once() -> None:
    copy = ProbeActor("pgd_at", CONFIGURATION | {"attack.steps": 1}, ASSETS, ProbeDevice(), 3)
    copy.build()
    assert isinstance(copy._trained, throughput_probe._MeasuredPack)
    addresses = {trial._method.loader.images.data_ptr() for trial in copy._trained.trials}  # type: ignore[union-attr]
    assert len(addresses) == 1
    weights = [toy.weights(trial._method.network) for trial in copy._trained.trials]  # type: ignore[union-attr]
    assert all(toy.same(weights[0], other) for other in weights[1:])
    assert all(torch.isfinite(value).all() for value in weights[0].values() if value.is_floating_point())
