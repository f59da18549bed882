"""What a study of the user's own may hold in its fields, and how a wrong value is answered."""

from typing import Any

import pytest

from search_spaces.domain import SpaceError
from search_spaces.study import Arm, Floor, Objective, Profile, Study

ONE = Objective("val/accuracy/clean")


def study(**fields: Any) -> Study:
    texts = dict.fromkeys(("question", "claim", "source"), "")
    return Study(
        **{
            "name": "mine",
            "method": "oe",
            "dataset": "digits",
            "space": {},
            "objectives": (ONE,),
            **texts,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"objectives": ONE},
            "objectives is Objective(metric='val/accuracy/clean', direction='maximize'); it must be a tuple, ",
        ),
        (
            {"objectives": ("val/accuracy/clean",)},
            "objectives is ('val/accuracy/clean',); it must be a tuple, ",
        ),
        (
            {"headline": "test/auroc/near"},
            "headline is 'test/auroc/near'; it must be a tuple of texts, (\"...\",)",
        ),
        ({"arms": Arm("oe", "baseline")}, "arms is Arm(name='oe', "),
        (
            {"floors": "val/accuracy/clean >= 0.9"},
            "floors is 'val/accuracy/clean >= 0.9'; it must be a tuple, (Floor(...),)",
        ),
        ({"space": [("lr", 0.1)]}, "space is [('lr', 0.1)]; it must be a dict"),
        ({"trials": "six"}, "trials is 'six'; it must be a whole number"),
        ({"trials": 2.5}, "trials is 2.5; it must be a whole number"),
        ({"trials": True}, "trials is True; it must be a whole number"),
        ({"trials": 0}, "trials is 0; it must be at least 1"),
        ({"first_rung": 0}, "first_rung is 0; it must be at least 1"),
        ({"reduction": 1}, "reduction is 1; it must be at least 2"),
        ({"confirm_seeds": 0}, "confirm_seeds is 0; it must be at least 1"),
        ({"question": 5}, "question is 5; it must be a text"),
        ({"method": None}, "method is None; name one"),
        ({"dataset": ""}, "dataset is ''; name one"),
    ],
)
def test_a_value_of_another_kind_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        study(**fields)
    assert str(caught.value).startswith(f"study mine: {said}")


def test_a_list_is_as_good_as_a_tuple() -> None:
    assert study(objectives=[ONE], effects=["lr"]) == study(objectives=(ONE,), effects=("lr",))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Arm("a/b", "baseline"), "arm 'a/b': its name must be letters, digits, "),
        (lambda: Arm("best", "baseline"), "arm 'best': its name must be letters, digits, "),
        (lambda: Arm("oe", "basline"), "arm oe: role is 'basline'; it must be baseline or control"),
        (lambda: Arm("oe", "baseline", drop="lr"), "arm oe: drop is 'lr'; it must be a tuple of texts"),
        (lambda: Arm("oe", "baseline", search=1), "arm oe: search is 1; it must be True or False"),  # type: ignore[arg-type]
        (lambda: Floor("val/accuracy/clean", "0.9"), "a floor: at_least is '0.9'; it must be a number"),  # type: ignore[arg-type]
        (lambda: Objective(3), "an objective: metric is 3; it must be a text"),  # type: ignore[arg-type]
        (lambda: Profile("digits", trials=-1), "profile of digits: trials is -1; it must be at least 0"),
    ],
)
def test_so_it_is_in_what_a_study_holds(make: Any, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        make()
    assert str(caught.value).startswith(said)


def test_a_method_may_be_a_class() -> None:
    assert Arm("own", "control", method=dict).method is dict  # type: ignore[arg-type]
