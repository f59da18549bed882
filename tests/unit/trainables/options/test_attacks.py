"""Specs of the training attacks: complete, consistent, with golden costs, and refused packing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from trainables.base.errors import InputError
from trainables.options import build
from trainables.options.attacks import INLIER_ATTACKS, OUTLIER_ATTACKS, AttackSpec
from trainables.options.classifiers import AOEOptions
from trainables.options.packing import unpackable


@pytest.fixture
def unpacked() -> Iterator[AttackSpec]:
    """A registered attack on outliers without a packed form."""
    spec = replace(OUTLIER_ATTACKS["pgd"], name="throw_away", packed=None)
    yield OUTLIER_ATTACKS.register(spec)
    OUTLIER_ATTACKS.unregister(spec.name)


def test_the_packed_form_of_an_attack_has_to_be_declared() -> None:
    with pytest.raises(TypeError, match="packed"):
        AttackSpec(name="mine", about="forgets its packed form")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"steps": "one"}, "needs steps, and steps need an objective"),
        ({"objective": "m:f"}, "needs steps, and steps need an objective"),
        ({"objective": "m:f", "steps": "one", "noise": "m:g"}, "can have one of them"),
        ({"packed": "noise"}, "must be 'unchanged' or None"),
        ({"objective": "m:f", "steps": "one", "packed": "unchanged"}, "must be 'ascent' or None"),
    ],
)
def test_contradictory_fields_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        AttackSpec(**{"name": "mine", "about": "", "packed": None, **fields})


@pytest.mark.parametrize("spec", [*OUTLIER_ATTACKS, *INLIER_ATTACKS], ids=lambda spec: spec.name)
def test_what_a_spec_refers_to_exists(spec: AttackSpec) -> None:
    assert spec.about
    assert not spec.objective or callable(spec.load_objective())
    assert not spec.noise or callable(spec.load_noise())


def test_passes_golden() -> None:
    """A gradient step is a forward and a backward pass."""
    assert {spec.name: spec.passes(7) for spec in OUTLIER_ATTACKS} == {
        **{"none": 0, "gauss": 0, "signnoise": 0, "fgsm": 2, "eba": 2},
        **{"pgd": 14, "mifgsm": 14, "eba_pgd": 14},
    }
    assert {spec.name: spec.passes(7) for spec in INLIER_ATTACKS} == {"none": 0, "ce": 14, "energy": 14}


def test_an_attack_without_a_packed_form_is_unpackable(unpacked: AttackSpec) -> None:
    options = build(AOEOptions, {"attack.name": unpacked.name})
    assert unpackable("aoe", options) == "attack.name=throw_away has no packed form"
    for spec in OUTLIER_ATTACKS:
        assert bool(unpackable("aoe", build(AOEOptions, {"attack.name": spec.name}))) == (spec.packed is None)


def test_an_inlier_attack_without_a_packed_form_is_unpackable() -> None:
    spec = INLIER_ATTACKS.register(replace(INLIER_ATTACKS["ce"], name="throw_away", packed=None))
    try:
        options = build(AOEOptions, {"inlier_attack.name": spec.name})
        assert unpackable("aoe", options) == "inlier_attack.name=throw_away has no packed form"
    finally:
        INLIER_ATTACKS.unregister(spec.name)


def test_a_registered_attack_is_a_choice_and_an_unknown_one_is_refused(unpacked: AttackSpec) -> None:
    assert build(AOEOptions, {"attack.name": unpacked.name}).attack.spec is unpacked
    with pytest.raises(InputError, match=r"attack\.name is 'mine'; did you mean none\? known: eba, "):
        build(AOEOptions, {"attack.name": "mine"})
