"""Random streams: restored in place, so that whoever holds a generator draws on from the restored position."""

import torch

from trainables.base.streams import Streams


def draw(generator: torch.Generator) -> list[float]:
    values: list[float] = torch.rand(3, generator=generator).tolist()
    return values


def test_a_held_generator_follows_a_restore() -> None:
    """Streams that the state knows go to its position, those that it does not know to their seed's start."""
    saved = Streams(3)
    draw(saved.get("shuffle"))
    state = saved.state_dict()
    expected = draw(saved.get("shuffle"))

    streams = Streams(8)  # another seed: the restored one counts
    held, unknown = streams.get("shuffle"), streams.get("attack")
    draw(unknown)
    streams.load_state_dict(state)
    assert streams.get("shuffle") is held
    assert draw(held) == expected
    assert streams.get("attack") is unknown
    assert draw(unknown) == draw(Streams(3).get("attack"))
