"""What some metrics need: which groups, radii and OOD sets; and that they are what they are beside all others."""

from dataclasses import replace

import pytest
import torch

from tests.unit.trainables.evaluation.test_measure import benchmark
from trainables.base.errors import InputError
from trainables.evaluation.measure import validate
from trainables.evaluation.metrics.needed import narrowed, needed_ood_groups
from trainables.evaluation.metrics.protocol import EvaluationProtocol
from trainables.networks import build

ALL = EvaluationProtocol("val", steps=3, max_images=24, robust_epsilons=(0.05, 0.1))


@pytest.mark.parametrize(
    ("metrics", "groups", "radii", "ood_groups"),
    [
        (["val/accuracy/clean"], ("clean",), (), ()),
        (["val/accuracy/clean", "val/robust_auroc_0.1/near"], ("clean", "robust_ood"), (), ("near",)),
        (["val/accuracy/robust_0.05"], ("robust",), (0.05,), ()),
        (["val/auroc/far", "val/calibration/ece"], ("calibration", "ood"), (), ("far",)),
        (["val/auroc/all"], ("ood",), (), ("near", "far")),
        (["val/auroc/halves", "val/auroc/near"], ("ood",), (), ("near", "far")),
        (["val/accuracy/corrupted"], ("corrupted",), (), ()),
    ],
)
def test_what_is_measured(
    metrics: list[str], groups: tuple[str, ...], radii: tuple[float, ...], ood_groups: tuple[str, ...]
) -> None:
    found = narrowed(ALL, metrics)
    assert (found.groups, found.robust_epsilons, needed_ood_groups(metrics)) == (groups, radii, ood_groups)
    assert found == replace(ALL, groups=groups, robust_epsilons=radii)


def test_a_name_that_is_no_metric_is_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'val/acuracy/clean'"):
        narrowed(ALL, ["val/acuracy/clean"])


def test_every_metric_is_what_it_is_beside_the_others() -> None:
    data = benchmark().for_search()
    torch.manual_seed(0)
    network = build("small_cnn", data.info.num_classes, data.info.shape, data.info.mean, data.info.std)

    def measured(*only: str) -> dict[str, float]:
        return validate(network, data, ALL, torch.Generator().manual_seed(7), "cpu", only)

    whole = measured()
    assert len(whole) > 10
    for name, value in whole.items():
        assert measured(name) == pytest.approx({name: value}, abs=1e-6), name
