"""What --objective, --floor and --eval-epsilon take."""

import pytest

from search_spaces.study import Floor
from tuner.base.errors import UsageError
from tuner.planning.command_line import parse
from tuner.planning.metric_values import floor, radii, validation_metric


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("accuracy/clean", "val/accuracy/clean"),
        ("val/auroc/all", "val/auroc/all"),
        (" val/accuracy/robust_8/255 ", "val/accuracy/robust_0.03137"),
        ("robust_auroc_8/255/all", "val/robust_auroc_0.03137/all"),
        ("robust_auroc_id_1/10/jigsaw", "val/robust_auroc_id_0.1/jigsaw"),
        ("accuracy/robust_0.150", "val/accuracy/robust_0.15"),
        ("auroc/set_1/2", "val/auroc/set_1/2"),  # an OOD set, no radius
    ],
)
def test_a_metric_is_written_in_full(text: str, name: str) -> None:
    assert validation_metric(text) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy/clean>=0.9", Floor("val/accuracy/clean", at_least=0.9)),
        ("accuracy/clean >= 9/10", Floor("val/accuracy/clean", at_least=0.9)),
        ("val/accuracy/clean>=pretrained-0.02", Floor("val/accuracy/clean", below_reference=0.02)),
        ("accuracy/clean >= pretrained - 1/50", Floor("val/accuracy/clean", below_reference=0.02)),
        ("accuracy/clean>=pretrained", Floor("val/accuracy/clean", below_reference=0.0)),
        (
            "accuracy/robust_8/255>=pretrained-0.1",
            Floor("val/accuracy/robust_0.03137", below_reference=0.1),
        ),
        ("none", None),
    ],
)
def test_a_floor(text: str, expected: Floor | None) -> None:
    assert floor(text) == expected


def test_radii() -> None:
    assert radii("8/255") == (8 / 255,)
    assert radii("2/255, 0.1,1") == (2 / 255, 0.1, 1.0)
    assert radii("0.1,0.1") == (0.1,)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--objective", "test/auroc/near"],
            "--objective is 'test/auroc/near'; a search never sees the tests; name a validation metric (val/...)",
        ),
        (["--objective", "acuracy/clean"], "--objective is 'acuracy/clean'; unknown metric 'val/acuracy/clean'; did"),
        (
            ["--objective", "accuracy/clean,val/accuracy/clean"],
            "--objective is 'accuracy/clean,val/accuracy/clean'; it names a metric twice",
        ),
        (["--objective", "accuracy/robust_1/0"], "--objective is 'accuracy/robust_1/0'; "),
        (["--floor", "accuracy/clean"], "--floor is 'accuracy/clean'; write METRIC>=VALUE or METRIC>=pretrained-VALUE"),
        (["--floor", "accuracy/clean<=0.9"], "--floor is 'accuracy/clean<=0.9'; a floor is a least value; write "),
        (["--floor", "accuracy/clean>=high"], "--floor is 'accuracy/clean>=high'; write METRIC>=VALUE"),
        (["--floor", "accuracy/clean>=pretrained+0.1"], "--floor is 'accuracy/clean>=pretrained+0.1'; write METRIC"),
        (["--eval-epsilon", "0"], "--eval-epsilon is '0'; a radius must be above 0 and at most 1"),
        (["--eval-epsilon", "8"], "--eval-epsilon is '8'; a radius must be above 0 and at most 1, in [0, 1] pixel "
                                  "units; 8 of 255 grey levels is 8/255"),
        (["--eval-epsilon", "nan"], "--eval-epsilon is 'nan'; a radius must be above 0"),
        (["--eval-epsilon", "8/"], "--eval-epsilon is '8/'; write radii such as 8/255 or 2/255,4/255"),
        (["--eval-epsilon", "8/255,"], "--eval-epsilon is '8/255,'; write radii such as 8/255 or 2/255,4/255"),
        (["--train", "--objective", "accuracy/clean"], "--objective does not go with --train"),
    ],
)  # fmt: skip
def test_wrong_values_are_told_in_one_line(words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as told:
        parse(["--study", "aoe_sigma", *words])
    assert str(told.value).startswith(says)
    assert "\n" not in str(told.value)


def test_floors_are_gathered() -> None:
    options = parse(["--study", "s", "--floor", "accuracy/clean>=0.5", "--floor", "calibration/ece>=0"])
    assert [f.metric for f in options.floor if f] == ["val/accuracy/clean", "val/calibration/ece"]
