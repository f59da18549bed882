"""The mean corruption error: golden values by hand, and which data sets have one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainables.base.errors import InputError
from trainables.data.readers.corrupted_files import CORRUPTIONS, NOISES
from trainables.data.types.benchmark import Benchmark, LabelledImages
from trainables.data.types.splits import DatasetInfo, Origin, Split
from trainables.evaluation.measure import evaluate
from trainables.evaluation.metrics.corruption_error import ALEXNET, errors_of, mce, mce_metrics, mean_error
from trainables.evaluation.metrics.protocol import EvaluationProtocol


def test_alexnet_s_own_errors_are_100() -> None:
    assert mce(ALEXNET) == pytest.approx(100)
    assert mce(ALEXNET, noises=False) == pytest.approx(100)
    assert mce({name: error / 2 for name, error in ALEXNET.items()}) == pytest.approx(50)


def test_constants_by_name() -> None:
    """Some of `get_ce_alexnet` of the benchmark's authors' code, which lists them by name."""
    published = {
        "impulse_noise": 0.922640,
        "glass_blur": 0.826268,
        "zoom_blur": 0.798360,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "pixelate": 0.717840,
    }
    assert {name: ALEXNET[name] for name in published} == published
    assert len(ALEXNET) == 15
    assert NOISES == ("gaussian_noise", "shot_noise", "impulse_noise")


def test_mce_golden() -> None:
    """Errors of AlexNet but 0 on brightness and twice as large on fog: (13 + 0 + 2) / 15 = 1."""
    errors = {**ALEXNET, "brightness": 0.0, "fog": 2 * ALEXNET["fog"], "saturate": 0.9}
    assert mce(errors) == pytest.approx(100)
    assert mean_error(errors) == pytest.approx(
        (sum(ALEXNET.values()) - ALEXNET["brightness"] + ALEXNET["fog"]) / 15
    )


def test_mce_without_the_noises() -> None:
    """Half of AlexNet's error on the noises, all of it elsewhere: (3 / 2 + 12) / 15 = 0.9, and 1."""
    errors = {name: error / 2 if name in NOISES else error for name, error in ALEXNET.items()}
    assert mce(errors) == pytest.approx(90)
    assert mce(errors, noises=False) == pytest.approx(100)


def test_mean_error_with_and_without_the_noises() -> None:
    """0.6 on the three noises, 0.1 on the twelve others: 3/15 * 0.6 + 12/15 * 0.1 = 0.2, and 0.1."""
    errors = {name: 0.6 if name in NOISES else 0.1 for name in CORRUPTIONS}
    assert mean_error(errors) == pytest.approx(0.2)
    assert mean_error(errors, noises=False) == pytest.approx(0.1)


def test_errors_are_means_over_severities() -> None:
    found = errors_of({"fog/1": 1.0, "fog/2": 0.5, "snow/1": 0.25})
    assert found == pytest.approx({"fog": 0.25, "snow": 0.75})


def test_a_mean_over_fewer_is_refused() -> None:
    some = {name: 0.5 for name in CORRUPTIONS if name not in ("fog", "snow")}
    for function in (mce, mean_error):
        with pytest.raises(InputError, match="snow, fog missing"):
            function(some)


@given(st.lists(st.floats(0, 1), min_size=15, max_size=15), st.floats(0, 1))
def test_mce_is_linear_in_the_errors(values: list[float], share: float) -> None:
    errors = dict(zip(CORRUPTIONS, values, strict=True))
    less = {name: share * error for name, error in errors.items()}
    assert mce(less) == pytest.approx(share * mce(errors))
    assert 0 <= mce(errors) <= 100 / min(ALEXNET.values())
    assert mean_error(dict.fromkeys(CORRUPTIONS, share)) == pytest.approx(share)


# -- which data sets have one -------------------------------------------------------------------------------


class AlwaysZero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.new_ones(len(x)), x.new_zeros(len(x))], 1)


def benchmark(name: str, origin: Origin, corruptions: tuple[str, ...] = CORRUPTIONS) -> Benchmark:
    """Return a set of four images, of which a constant classifier has three right, on the noises none."""

    def data(zeros: int) -> LabelledImages:
        return LabelledImages(np.zeros((4, 1, 2, 2), np.uint8), np.array([0] * zeros + [1] * (4 - zeros)))

    sets = {f"{c}/{s}": data(0 if c in NOISES else 3) for c in corruptions for s in range(1, 6)}
    info = DatasetInfo(name, 2, (1, 2, 2), (0.0,), (1.0,))
    parts = {Split.TEST_ID: {"id": data(4)}, Split.CORRUPTED: sets}
    return Benchmark(info, parts, corrupted=origin)


def test_the_protocol_gives_imagenet_its_mce() -> None:
    """Error 1 on the noises and 1/4 elsewhere, over AlexNet's."""
    protocol = EvaluationProtocol("p", groups=("clean", "corrupted"))
    found = evaluate(
        AlwaysZero(), benchmark("imagenet", Origin.PUBLISHED), protocol, torch.Generator(), "cpu"
    )
    others = [1 / ALEXNET[c] for c in CORRUPTIONS if c not in NOISES]
    noises = [1 / ALEXNET[c] for c in NOISES]
    assert found.metrics["test/mce"] == pytest.approx(100 * (sum(noises) + sum(others) / 4) / 15)
    assert found.metrics["test/mce/off_noise"] == pytest.approx(100 * sum(others) / 4 / 12)
    assert found.metrics["test/accuracy/corrupted"] == pytest.approx(12 / 15 * 0.75)


@pytest.mark.parametrize(
    ("name", "origin", "corruptions"),
    [
        ("cifar10", Origin.PUBLISHED, CORRUPTIONS),
        ("imagenet", Origin.REGENERATED, CORRUPTIONS),
        ("imagenet", Origin.PUBLISHED, CORRUPTIONS[:14]),
        ("digits", Origin.OWN, ("invert",)),
    ],
)
def test_nothing_else_has_one(name: str, origin: Origin, corruptions: tuple[str, ...]) -> None:
    sets = benchmark(name, origin, corruptions)
    accuracies = dict.fromkeys(sets.parts[Split.CORRUPTED], 0.5)
    assert mce_metrics(sets, accuracies) == {}
