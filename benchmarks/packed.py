"""K adversarially trained networks in one process (`trainables.packed`) beside the same trials one after the other.

    python benchmarks/packed.py [--rounds 5] [--sizes 1,4,16,64] [--only step,halving]

Every arm is an epoch of the service's own PGD-AT: frozen weights in the attack, data on the device, no waits; the
peer is `Method.train_epoch` of each trial in turn. Rates, radii and numbers of attack steps (1 to 6) differ from trial
to trial.
Networks, all on the digits' 8x8 images:

    narrow    the small CNN with 4, 8 and 16 channels, batch 8: its operations cost less than their dispatch, which on a
              GPU holds for every network of this size
    default   the small CNN as studies train it, 16, 32 and 64 channels, batch 64: on a CPU bound by arithmetic

`halving` trains 27 trials for 1 epoch, the best 9 for 2 more, the best 3 for 6 more: packed with and without
compaction (survivors alone, or all 27 to the end), and one after the other. The last column compares both packed arms:
how many of their three survivors are the same, and how far their weights differ, relative to the largest. Ratios are
those of the process's CPU time within a round, median and range.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from alternate import alternate, line, machine
from torch import nn

from trainables.base.streams import Streams
from trainables.data.loading.open_dataset import load
from trainables.data.types.benchmark import Benchmark
from trainables.methods.adversarial import PGDAT
from trainables.networks.small_cnn import SmallCNN
from trainables.options import build
from trainables.options.adversarial import PGDATOptions
from trainables.packed import Replica, train_together
from trainables.training.method import Context, Trainer

IMAGES = 256
BATCHES = {"narrow": 8, "default": 64}
HALVED = (("narrow", 8), ("narrow", 64), ("default", 64))
RUNGS = ((27, 1), (9, 3), (3, 9))  # trials, and the epoch at which they are compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1,4,16,64")
    parser.add_argument("--only", default="step,halving")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = training_data()
    print(f"python benchmarks/packed.py --rounds {options.rounds} --sizes {options.sizes}")
    print(machine("torch"))
    if "step" in options.only:
        print(
            "\n| network | K | alone, CPU ms per trial and step | packed | times faster |\n|---|---|---|---|---|"
        )
        for network in BATCHES:
            for size in map(int, options.sizes.split(",")):
                print(line(steps(network, size, options.rounds, data)), flush=True)
    if "halving" in options.only:
        print(
            "\n| 27 / 9 / 3 trials | CPU s | compacted, times faster | compaction changes |\n|---|---|---|---|"
        )
        for network, batch in HALVED:
            for cells in halving(network, batch, options.rounds, data):
                print(line(cells), flush=True)


def training_data() -> Benchmark:
    """Return the digits with `IMAGES` training images."""
    data = load("digits", "", search_only=True).for_search()
    parts = {}
    for split, sets in data.parts.items():
        parts[split] = {
            name: type(s)(s.images[:IMAGES].copy(), s.labels[:IMAGES].copy()) for name, s in sets.items()
        }
    return Benchmark(data.info, parts, "search")


def trials(network: str, count: int, data: Benchmark, batch: int = 0) -> list[PGDAT]:
    """Return trials whose rate, radius and attack steps depend on their number."""
    found = []
    for k in range(count):
        values = {
            "seed": k,
            "batch_size": batch or BATCHES[network],
            "optimizer": "sgd",
            "lr": 0.01 * (1 + k % 7),
            "attack.epsilon": 0.05 + 0.02 * (k % 5),
            "attack.steps": 1 + (5 * k) % 6,
        }
        options = build(PGDATOptions, values)
        context = Context(data, Streams(k), torch.device("cpu"), dict, lambda *_: None)
        method = PGDAT(options, context)
        if network == "narrow":
            narrow(method)
        found.append(method)
    return found


def narrow(method: PGDAT) -> None:
    """Give a method a quarter of the channels."""
    assert isinstance(method.network.body, SmallCNN)
    narrowed(method.network.body)
    method.trainer = Trainer(method.network, method.options, len(method.loader))


def narrowed(body: SmallCNN) -> SmallCNN:
    """Give a network 4, 8 and 16 channels and new weights, and return it."""
    widths = [body.layers[0].in_channels, 4, 8, 16]
    for place, (before, after) in zip((0, 2, 4), pairwise(widths), strict=True):
        body.layers[place] = nn.Conv2d(before, after, 3, stride=body.layers[place].stride, padding=1)
    body.head = nn.Linear(body.head.in_features // 4, body.head.out_features)
    return body


def train(methods: Sequence[PGDAT], epoch: int, packed: bool) -> list[float]:
    """Train an epoch and return the losses."""
    if not packed:
        return [method.train_epoch(epoch)["loss"] for method in methods]
    outcomes = train_together([Replica("pgd_at", method, epoch) for method in methods])
    if any(outcome.error or outcome.remark for outcome in outcomes):
        raise SystemExit(f"{[(o.error, o.remark) for o in outcomes if o.error or o.remark]}")
    return [outcome.means["loss"] for outcome in outcomes]


def steps(network: str, count: int, rounds: int, data: Benchmark) -> list[str]:
    """Return a row: an epoch of `count` trials alone and packed."""
    sides = {packed: trials(network, count, data) for packed in (False, True)}
    for packed, methods in sides.items():  # warm
        train(methods, 0, packed)
    arms: dict[str, Callable[[int], Any]] = {
        name: partial(lambda packed, number: train(sides[packed], number + 1, packed), packed)
        for name, packed in (("alone", False), ("packed", True))
    }
    found = alternate(arms, rounds)
    per_step = 1000 / count / len(sides[True][0].loader)
    alone, packed = found["alone"], found["packed"]
    return [
        network,
        str(count),
        f"{alone.seconds * per_step:.2f}",
        f"{packed.seconds * per_step:.2f}",
        packed.times_faster(alone),
    ]


def halving(network: str, batch: int, rounds: int, data: Benchmark) -> list[list[str]]:
    """Return rows: successive halving of packed trials with compaction, without, and of trials alone."""

    def run(packed: bool, compact: bool, number: int) -> tuple[list[int], list[Any]]:
        methods = trials(network, RUNGS[0][0], data, batch)
        alive, epoch = list(range(len(methods))), 0
        for rung, (_, until) in enumerate(RUNGS):
            while epoch < until:
                trained = alive if compact else list(range(len(methods)))
                losses = dict(zip(trained, train([methods[k] for k in trained], epoch, packed), strict=True))
                epoch += 1
            if rung + 1 < len(RUNGS):
                alive = sorted(sorted(alive, key=lambda k: losses[k])[: RUNGS[rung + 1][0]])
        return alive, [methods[k].network.state_dict() for k in alive]

    arms: dict[str, Callable[[int], Any]] = {
        "packed, survivors compacted": partial(run, True, True),
        "packed, all trained to the end": partial(run, True, False),
        "one after the other, survivors only": partial(run, False, True),
    }
    found = alternate(arms, rounds)
    best = found["packed, survivors compacted"]
    rows = []
    for name, arm in found.items():
        faster = "1" if arm is best else best.times_faster(arm)
        changes = compared(best.found, arm.found) if "to the end" in name else ""
        rows.append([f"{network}, batch {batch}: {name}", f"{arm.seconds:.2f}", faster, changes])
    return rows


def compared(compacted: list[Any], whole: list[Any]) -> str:
    """Return how many survivors two arms share at least in a round, and the largest difference of their weights."""
    shared, difference = len(RUNGS), 0.0
    for (kept, weights), (others, same) in zip(compacted, whole, strict=True):
        both = set(kept) & set(others)
        shared = min(shared, len(both))
        for trial in both:
            a, b = weights[kept.index(trial)], same[others.index(trial)]
            difference = max(difference, *(float((a[k] - b[k]).abs().max() / b[k].abs().max()) for k in a))
    bits = f"weights by {difference:.0e}" if difference else "no bit"
    return f"{shared} of 3 the same; {bits}"


if __name__ == "__main__":
    main()
