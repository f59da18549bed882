"""Which configurations can be packed, why others cannot, and what trials of one pack have in common."""

import pytest

from trainables.base.schema import to_flat
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.packing import PACKED_VALUES, pack_key, unpackable

PACKED = [to_flat(build(spec.options, {})) for spec in METHODS if spec.packed is not None]


@pytest.mark.parametrize("name", PACKED_VALUES)
def test_a_packed_value_is_the_default_of_an_option(name: str) -> None:
    values = {options[name] for options in PACKED if name in options}
    assert PACKED_VALUES[name][0] in values


def test_pack_keys_golden():
    options = METHODS["pgd_at"].options
    base = pack_key("pgd_at", build(options, {}))
    for same_pack in ({"lr": 0.5}, {"attack.steps": 3}, {"seed": 7}, {"pretrain.epochs": 1}, {"epochs": 99}):
        assert pack_key("pgd_at", build(options, same_pack)) == base, same_pack
    for another in (
        {"batch_size": 3},
        {"optimizer": "sgd"},
        {"ema": 0.9},
        {"augment": "flip"},
        {"threads": 2},
    ):
        assert pack_key("pgd_at", build(options, another)) != base, another


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("pgd_at", {}, ""),
        ("robgan", {}, "method robgan has no packed form"),
        ("pgd_at", {"network": "wrn_40_2"}, ""),
        ("standard", {"dropout": 0.1}, "dropout draws from"),
        ("trades", {"attack_bn": "train"}, "attack_bn=train has no packed form"),
        ("aoe", {"outlier_clamp": False}, "outlier_clamp=False has no packed form"),
        ("aoe", {"outliers.augment": False}, ""),
        ("energy", {"energy.lam": 0.3}, ""),
        ("energy", {"energy.trainable": "head"}, "energy.trainable=head has no packed form"),
        ("energy", {"greg.weight": 0.1}, "greg.weight=0.1 has no packed form"),
        ("energy", {"greg.sampler": "cluster"}, "greg.sampler=cluster has no packed form"),
    ],
)
def test_reasons_golden(name, values, reason):
    found = unpackable(name, build(METHODS[name].options, values))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
