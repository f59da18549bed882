"""Options: read from flat or nested keys, checked, written back."""

import pytest

from trainables.base.errors import InputError
from trainables.options import build, fields_of, to_flat
from trainables.options.classifiers import AOEOptions
from trainables.options.methods import METHODS


def test_flat_and_nested_keys_are_the_same() -> None:
    flat = build(AOEOptions, {"attack.epsilon": 0.05, "outliers.sigma": 2, "lr": 1e-3})
    nested = build(AOEOptions, {"attack": {"epsilon": 0.05}, "outliers": {"sigma": 2.0}, "lr": 1e-3})
    assert flat == nested
    assert flat.attack.epsilon == 0.05
    assert isinstance(flat.outliers.sigma, float)


@pytest.mark.parametrize("method", sorted(METHODS.names))
def test_defaults_are_valid_and_round_trip(method: str) -> None:
    cls = METHODS[method].options
    assert build(cls, to_flat(cls())) == cls()
    for key, (field, _, _) in fields_of(cls).items():
        assert field.metadata.get("help"), f"{method}: {key} has no sentence"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"attack.epsilno": 0.1}, "did you mean attack.epsilon"),
        ({"attack.epsilon": "x"}, "must be of type float"),
        ({"attack.epsilon": -0.1}, "at least 0"),
        ({"attack.epsilon": 2}, "at most 1"),
        ({"attack.epsilon": float("nan")}, "must be a finite number"),
        ({"attack.steps": 2.5}, "must be a whole number of at most 63 bits"),
        ({"attack.steps": True}, "must be of type int"),
        ({"attack.name": "foo"}, "attack.name is 'foo'; known: fgsm, gauss, "),
        ({"shared_noise": 1}, "must be of type bool"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        build(AOEOptions, values)
    assert "\n" not in str(caught.value)


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean aoe"):
        METHODS["aoee"]


def test_the_page_of_options_is_up_to_date() -> None:
    """docs/options.md is what `python -m trainables.options` prints."""
    from pathlib import Path

    from trainables.options.__main__ import markdown

    page = Path(__file__).resolve().parents[4] / "docs" / "options.md"
    assert page.read_text() == markdown(), "run: python -m trainables.options > docs/options.md"
