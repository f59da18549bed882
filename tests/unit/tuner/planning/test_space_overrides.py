"""`--set KEY=VALUE`: a key has one value."""

import pytest

from search_spaces.domain import Setting
from tuner.base.errors import UsageError
from tuner.planning.space_overrides import override_space


def settled(*texts: str) -> dict[str, Setting]:
    return override_space({"lr": 0.1}, texts, ("standard",))


def test_a_key_is_set_once() -> None:
    assert settled("lr=1", "weight_decay=0", "lr=1") == {"lr": 1.0, "weight_decay": 0.0}
    with pytest.raises(UsageError, match=r"^--set lr is given twice, as 1 and as 2; give it once$"):
        settled("lr=1", "weight_decay=0", " lr=2")
