"""The random streams of one trial: named generators whose states go into every checkpoint."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from trainables.base.seeds import derive_seed


class Streams:
    """Named random generators of one trial, each seeded from (seed, name), plus the global ones.

    Methods draw from a named stream and never from a global generator, so that a change in one
    (another attack, one more validation) leaves the others untouched and arms stay paired.
    The global generators are seeded and saved too, for code that cannot be given one (dropout).
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}
        random.seed(derive_seed(seed, "python"))
        np.random.seed(derive_seed(seed, "numpy") % 2**32)
        torch.manual_seed(derive_seed(seed, "torch"))
        self._parked: dict[str, Any] | None = None

    def get(self, name: str) -> torch.Generator:
        """Return the generator of this name on the trial's device, made at the first call.

        Later calls return the same object, also after `load_state_dict`, so that loaders may keep it.
        """
        if name not in self._generators:
            generator = torch.Generator(self.device)
            generator.manual_seed(derive_seed(self.seed, name))
            self._generators[name] = generator
        return self._generators[name]

    def fresh(self, *keys: int | str) -> torch.Generator:
        """Return a new generator that depends only on (seed, keys): for evaluations that must repeat exactly."""
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, *keys))

    def positions(self) -> dict[str, torch.Tensor]:
        """Return the states of the named generators alone."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def go_to(self, positions: dict[str, torch.Tensor]) -> None:
        """Put the named generators, in place, where `positions` found them; others start from their seeds."""
        for name, generator in self._generators.items():
            if name not in positions:
                generator.manual_seed(derive_seed(self.seed, name))
        for name, saved in positions.items():
            self.get(name).set_state(saved.cpu())

    def park(self) -> None:
        """Remember where the process's own generators are now, for `in_charge`: another trial is going to use them."""
        self._parked = self._globals()

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Give the process's own generators this trial's state inside, where several trials share a process.

        A trial that was never parked has them to itself.
        """
        if self._parked is None:
            yield
            return
        self._set_globals(self._parked)
        try:
            yield
        finally:
            self.park()

    def state_dict(self) -> dict[str, Any]:
        """Return every state as tensors and plain numbers (loads with `weights_only=True`)."""
        return {"seed": self.seed, "named": self.positions(), **self._globals()}

    def _globals(self) -> dict[str, Any]:
        legacy: Any = np.random.get_state(legacy=True)
        kind, keys, position, has_gauss, cached = legacy
        version, internal, gauss = random.getstate()
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
            "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, in place; streams not yet used then start from their seeds."""
        self.seed = int(state["seed"])
        self.go_to(state["named"])
        self._set_globals(state)

    def _set_globals(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"].cpu())
        kind, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal.tolist()), gauss))
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Give the global generators of Python, numpy and torch (CPU and this device) back as they were."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu, device)
