"""What keeps a configuration out of a pack: the table names options that packed methods have."""

import pytest

from trainables.base.schema import to_flat
from trainables.options import build
from trainables.options.methods import METHODS
from trainables.options.packing import PACKED_VALUES

PACKED = [to_flat(build(spec.options, {})) for spec in METHODS if spec.packed is not None]


@pytest.mark.parametrize("name", PACKED_VALUES)
def test_a_packed_value_is_the_default_of_an_option(name: str) -> None:
    values = {options[name] for options in PACKED if name in options}
    assert PACKED_VALUES[name] in values
