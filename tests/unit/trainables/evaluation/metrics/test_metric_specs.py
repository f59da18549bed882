"""The specs of the metrics: names taken apart, labels, directions, and that whatever is emitted has one."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.base.errors import InputError
from trainables.data.readers.corrupted_files import CORRUPTIONS
from trainables.data.types.benchmark import Benchmark
from trainables.data.types.splits import DatasetInfo, Origin
from trainables.evaluation.metrics.corruption_error import mce_metrics
from trainables.evaluation.metrics.metric_family import Direction, MetricSpec, Unit, ood_set_label
from trainables.evaluation.metrics.metric_specs import METRICS, check_registered, find_metric, metric_table
from trainables.evaluation.metrics.ood_metrics import OOD_METRICS
from trainables.evaluation.metrics.protocol import GROUPS

EXAMPLES = {"epsilon": "0.03137", "side": "both", "score": "vim", "set": "near", "corruption": "fog"}


@pytest.mark.parametrize(
    ("name", "family", "parameters"),
    [
        ("test/auroc/china_stretched", "[{score}/]auroc/{set}", {"set": "china_stretched"}),
        ("test/max_logit/auroc/near", "[{score}/]auroc/{set}", {"score": "max_logit", "set": "near"}),
        ("val/robust_auroc_0.1/all", "[{score}/]robust_auroc_[{side}_]{epsilon}/{set}",
         {"epsilon": "0.1", "set": "all"}),
        ("test/robust_fpr95_id_pos_id_1e-05/far", "[{score}/]robust_fpr95_id_pos_[{side}_]{epsilon}/{set}",
         {"side": "id", "epsilon": "1e-05", "set": "far"}),
        ("test/msp/robust_auroc_both_0.1/near", "[{score}/]robust_auroc_[{side}_]{epsilon}/{set}",
         {"score": "msp", "side": "both", "epsilon": "0.1", "set": "near"}),
        ("test/accuracy/corrupted", "accuracy/corrupted", {}),
        ("test/accuracy/corrupted/off_noise", "accuracy/corrupted/off_noise", {}),
        ("test/accuracy/corrupted/shot_noise", "accuracy/corrupted/{corruption}", {"corruption": "shot_noise"}),
        ("test/attack_check_0.1/auroc_change", "attack_check_{epsilon}/auroc_change", {"epsilon": "0.1"}),
        ("train/loss", "loss", {}),
        ("train/speed/margin", "speed/margin", {}),
        ("gpu_seconds", "gpu_seconds", {}),
    ],
)  # fmt: skip
def test_a_name_is_taken_apart(name: str, family: str, parameters: dict[str, str]) -> None:
    found = find_metric(name)
    assert (found.spec.name, dict(found.parameters)) == (family, parameters)


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_no_family_hides_another(spec: MetricSpec) -> None:
    """The simplest and the longest name of each family are of that family alone; so are their labels complete."""
    for brackets in (r"\[[^\]]*\]", r"[\[\]]"):
        name = re.sub(brackets, "", spec.name).format(**EXAMPLES)
        for split in spec.splits:
            found = find_metric(f"{split}/{name}".lstrip("/"))
            assert found.spec is spec
            assert not set("[]{}") & set(found.label)
    assert spec.about


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("test/aurok/near", "test/auroc/<set>"),
        ("val/accuracy/robust", "val/accuracy/robust_<epsilon>"),
        ("test/calibration/mce", "test/calibration/ece"),
        ("train/accuracy/clean", "train/"),  # measured of val and test images only
        ("auroc/near", "auroc/<set>"),
        ("val/loss", "val/"),
        ("best/val/accuracy/clean", "val/accuracy/clean"),
    ],
)
def test_an_unknown_metric_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown metric '{name}'; .*{re.escape(near)}"):
        find_metric(name)
    with pytest.raises(InputError, match="unknown metric"):
        check_registered({"test/accuracy/clean": 1.0, name: 0.0})


def test_directions_are_stated_and_not_guessed_from_the_name() -> None:
    """Names with `error`, `ece`, `fpr` or `loss` in them used to decide; `mce` has none of these."""
    down = {spec.name for spec in METRICS if spec.group in GROUPS and spec.direction is Direction.MINIMIZE}
    kinds = ("fpr95_id_pos", "fpr95_ood_pos")
    assert down == {
        *("calibration/ece", "mce", "mce/off_noise"),
        *(f"[{{score}}/]{kind}/{{set}}" for kind in kinds),
        *(f"[{{score}}/]robust_{kind}_[{{side}}_]{{epsilon}}/{{set}}" for kind in kinds),
    }
    assert find_metric("train/judge_frechet").spec.direction is Direction.MINIMIZE
    assert find_metric("train/margin").spec.direction is Direction.MAXIMIZE


def test_every_ood_metric_has_a_family_and_the_bounds_of_its_function() -> None:
    scores = {"perfect": ([0.0, 1.0], [2.0, 3.0]), "reversed": ([2.0, 3.0], [0.0, 1.0])}
    for kind, function in OOD_METRICS.items():
        spec = find_metric(f"test/{kind}/near").spec
        perfect, inverted = (function(*pair) for pair in scores.values())
        best = spec.high if spec.direction is Direction.MAXIMIZE else spec.low
        assert perfect == best, kind
        assert spec.low <= inverted <= spec.high
        assert abs(perfect - inverted) > 0.3, "the direction is the other one"


def test_corruption_errors_have_specs() -> None:
    info = DatasetInfo("imagenet", 1000, (3, 224, 224), (0.5,) * 3, (0.2,) * 3)
    benchmark = Benchmark(info, {}, corrupted=Origin.PUBLISHED)
    worst, best = (
        mce_metrics(benchmark, {f"{name}/{level}": value for name in CORRUPTIONS for level in range(1, 6)})
        for value in (0.0, 1.0)
    )
    assert set(best) == {"mce", "mce/off_noise"}
    for name, value in best.items():
        spec = find_metric(f"test/{name}").spec
        assert (spec.direction, spec.unit, value) == (Direction.MINIMIZE, Unit.PERCENT, spec.low)
        assert 100 < worst[name] < math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "x_{radius}"}, "parameters are epsilon"),
        ({"label": "x at {epsilon}"}, "other parameters"),
        ({"group": "roobust"}, "unknown group of metrics 'roobust'; did you mean robust"),
        ({"low": 1.0}, "range is empty"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    good = {"name": "x", "label": "x", "direction": Direction.MAXIMIZE, "group": "clean", "about": "x"}
    MetricSpec(**good)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        MetricSpec(**{**good, **changes})  # type: ignore[arg-type]


def test_a_new_metric_is_one_spec() -> None:
    spec = MetricSpec("accuracy/rotated", "accuracy on rotated images", Direction.MAXIMIZE, "clean", "x")
    METRICS.register(spec)
    try:
        assert find_metric("val/accuracy/rotated").label == "validation accuracy on rotated images"
        assert "| `accuracy/rotated` | larger | fraction, [0, 1] | x |" in metric_table()
    finally:
        METRICS.unregister(spec.name)
    with pytest.raises(InputError, match="unknown metric"):
        find_metric("val/accuracy/rotated")


def test_ood_set_labels() -> None:
    assert [ood_set_label(name) for name in ("near", "unknown", "china_stretched")] == [
        "near OOD",
        "unknown classes",
        "china stretched",
    ]


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).resolve().parents[5] / "docs" / "protocol.md").read_text()
    code = "from trainables.evaluation.metrics.metric_specs import metric_table; print(metric_table())"
    assert metric_table() in page, f'put this in the place of the table: python -c "{code}"'


def test_specs_are_read_without_torch() -> None:
    code = "import sys, trainables.evaluation.metrics.metric_specs; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
