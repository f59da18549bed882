"""Registries of specs, and options that take the names of one as their choices."""

from dataclasses import dataclass

import pytest

from trainables.base.errors import InputError, unknown
from trainables.base.registry import Registry, resolve_reference
from trainables.base.schema import build, choices_of, fields_of, option


@dataclass(frozen=True)
class Fruit:
    name: str
    grams: int = 0


@pytest.fixture
def fruits() -> Registry[Fruit]:
    return Registry("fruit", [Fruit("pear", 170), Fruit("apple", 180)])


def test_a_registry_keeps_the_order_of_registration(fruits: Registry[Fruit]) -> None:
    fruits.register(Fruit("fig", 50))
    assert fruits.names == ("pear", "apple", "fig")
    assert [fruit.grams for fruit in fruits] == [170, 180, 50]
    assert len(fruits) == 3
    assert "fig" in fruits
    fruits.unregister("pear")
    assert fruits.names == ("apple", "fig")


def test_an_unknown_name_raises_and_names_the_nearest(fruits: Registry[Fruit]) -> None:
    with pytest.raises(InputError, match=r"^unknown fruit 'aple'; did you mean apple\? known: apple, pear$"):
        fruits["aple"]
    with pytest.raises(InputError, match=r"^unknown fruit 'xyz'; known: apple, pear$"):
        fruits.unregister("xyz")


def test_of_many_names_the_nearest_are_listed() -> None:
    names = [f"layer.{n}" for n in range(30)] + ["lr", "lr_decay"]
    assert unknown("option", "lr_decya", names) == (
        "unknown option 'lr_decya'; did you mean lr_decay? "
        "known: layer.6, layer.7, layer.8, layer.9, lr, lr_decay and 26 more"
    )
    assert unknown("run", "one", []) == "unknown run 'one'; known: none"


@pytest.mark.parametrize("name", ["", " ", "a b", "a,b", "choice(x)", "nan", "True", "1.5", "-x", 3, None])
def test_a_name_that_no_option_can_say_is_refused(fruits: Registry[Fruit], name: str) -> None:
    with pytest.raises(InputError, match="cannot be registered; a name begins with a letter"):
        fruits.register(Fruit(name))
    assert fruits.names == ("pear", "apple")


def test_a_name_is_registered_once(fruits: Registry[Fruit]) -> None:
    with pytest.raises(InputError, match="fruit 'pear' is registered already"):
        fruits.register(Fruit("pear", 1))
    assert fruits["pear"].grams == 170


def test_an_option_takes_the_names_of_a_registry_also_those_registered_later(fruits: Registry[Fruit]) -> None:
    @dataclass(frozen=True)
    class Options:
        snack: str = option("pear", "what to eat", choices=fruits)

    (field, _, _) = fields_of(Options)["snack"]
    assert choices_of(field) == ("pear", "apple")
    with pytest.raises(InputError, match=r"^snack is 'fig'; known: apple, pear$"):
        build(Options, {"snack": "fig"})
    fruits.register(Fruit("fig"))
    assert build(Options, {"snack": "fig"}).snack == "fig"
    assert choices_of(field) == ("pear", "apple", "fig")


def test_a_reference_is_resolved_on_use() -> None:
    assert resolve_reference("trainables.base.registry:Registry") is Registry
