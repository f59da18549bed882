"""What a training step costs, counted: no pass, weight gradient or wait for the device that its method does not need.

Counted are the steps of an epoch of 8 batches beyond those of one of 4, so that what an epoch does once drops out.
"""

from collections import Counter
from functools import cache

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit import toy
from trainables.methods.standard import Standard
from trainables.options import build
from trainables.options.classifiers import StandardOptions
from trainables.options.methods import METHODS

BATCH = 16
#: Operations that make the host wait for a GPU.
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}


class Passes(TorchDispatchMode):
    """Counts convolutions forward, their gradients by kind, and waits.

    The optimiser's are left out: Adam reads its step count, which lives on the host wherever the weights do.
    """

    def __init__(self):
        super().__init__()
        self.found = Counter()
        self.optimising = False

    def __enter__(self):
        def turn(*_):
            self.optimising = not self.optimising

        self.hooks = [register_optimizer_step_pre_hook(turn), register_optimizer_step_post_hook(turn)]
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name == "convolution":
            self.found["forward"] += 1
        elif name == "convolution_backward":
            to_input, to_weight, _ = args[-1]
            self.found["to inputs"] += to_input
            self.found["to weights"] += to_weight
        elif name in WAITS:
            self.found["waits"] += not self.optimising
        elif name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        ):
            self.found["waits"] += 1
        return function(*args, **(kwargs or {}))


@cache
def pretrained():
    """A classifier that is right, so that a boundary is looked for in every batch."""
    method = Standard(build(StandardOptions, {"epochs": 4, "batch_size": 8}), toy.context(5))
    for epoch in range(4):
        method.train_epoch(epoch)
    return method.network.state_dict()


def epoch(name, values, batches):
    entry = METHODS[name]
    options = build(entry.options, {"batch_size": BATCH, "seed": 5, "epochs": 2, **values})
    data = toy.benchmark(train=batches * BATCH)
    method = entry.load_method()(options, toy.context(5, pretrained, data))
    with Passes() as passes:
        method.train_epoch(0)
    return passes.found


def step(name, values):
    """Return the counts of one step."""
    long, short = epoch(name, values, 8), epoch(name, values, 4)
    found = {kind: (long[kind] - short[kind]) / 4 for kind in ("forward", "to inputs", "to weights", "waits")}
    return tuple(found.values())


@pytest.mark.parametrize(
    ("name", "values", "attack_steps", "extra_forwards", "training_passes", "waits"),
    [
        ("standard", {}, 0, 0, 1, 0),
        ("oe", {}, 0, 0, 1, 0),
        ("aoe", {"attack.name": "fgsm"}, 1, 0, 1, 0),
        ("aoe", {"attack.name": "pgd", "attack.steps": 3}, 3, 0, 1, 0),
        ("pgd_at", {"attack.steps": 4}, 4, 0, 1, 0),
        ("trades", {"attack.steps": 4}, 4, 1, 2, 0),  # the clean predictions that the attack departs from
        ("mart", {"attack.steps": 4}, 4, 0, 2, 0),
        ("aoe", {"attack.name": "pgd", "attack.steps": 3, "precision": "bf16"}, 3, 0, 1, 0),
        ("pgd_at", {"attack.steps": 4, "precision": "bf16", "channels_last": True}, 4, 0, 1, 0),
        ("trades", {"attack.steps": 4, "precision": "bf16"}, 4, 1, 2, 0),
        # the clean margins; whom to search for, and whose point to keep
        ("dyart", {"boundary.search": "sequential", "boundary.steps": 5}, 5, 1, 2, 2),
        # a second look in every step, and the gradient at the point that was found
        ("dyart", {"boundary.search": "fab", "boundary.steps": 5}, 6, 6, 2, 2),
        ("dyart", {"boundary.search": "fab_onepass", "boundary.steps": 5}, 6, 1, 2, 2),
        # FAB-20: 49 forward-equivalents, 21 * 2 + 1 + 2 * 3
        ("dyart", {"boundary.search": "fab_onepass", "boundary.steps": 20}, 21, 1, 2, 2),
    ],
)
def test_a_step_makes_the_passes_of_its_method_and_no_other(
    name, values, attack_steps, extra_forwards, training_passes, waits
):
    forward = 3 * (attack_steps + extra_forwards + training_passes)
    to_inputs = 3 * attack_steps + 2 * training_passes
    assert step(name, values) == (forward, to_inputs, 3 * training_passes, waits)


@pytest.mark.parametrize("name", ["energy", "ant", "noise_augment"])
def test_no_step_waits_for_the_device(name):
    values = {"ant": {"retrain_iters": 0}}.get(name, {})
    assert step(name, values)[-1] == 0


def test_rob_gan_steps_do_not_wait_for_the_device():
    values = {"ndf": 2, "ngf": 2, "nz": 3, "judged": False, "attack.steps": 2, "guards.enabled": False}
    assert step("robgan", values)[-1] == 0
