"""Every random stream of a study is derived here from (seed, keys...), so that no two share numbers."""

import hashlib
import json


def derive_seed(seed: int, *keys: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on every argument.

    Hashing, not adding: seed + trial number would give trial 1 of seed 0 the stream of trial 0 of seed 1.

    Example:
        derive_seed(0, "trial", 3) != derive_seed(3, "trial", 0)
    """
    digest = hashlib.sha256(json.dumps([seed, *keys]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
