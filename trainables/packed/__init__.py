"""Several trials of one architecture trained side by side in one process.

A trial is an ordinary `Method` all along. For the length of an epoch the weights and optimiser states of all are
stacked along a new first axis, the replicas; then every row goes back to its method. So a trial may be alone, in a
pack, in another pack and alone again: its state, checkpoint and random streams do not depend on the others.

    epoch.py      `train_together`: one epoch of any trials; groups those that can be stacked
    steps.py      the training step of each method on stacks, one `PackedStep` each
    network.py    the classifier on stacks: grouped convolutions, batched linear layers
    attack.py     the ascent with a radius, step length and number of steps of its own for every replica
    trainer.py    optimiser, schedule, clipping and weight average likewise
    loader.py     batches: every replica's own order and augmentation

Exactness: the same operations on the same numbers in the same order of steps; only sums within an operation may be
grouped otherwise. In float64 a replica agrees with the trial alone to about 1e-15, in float32 to rounding, which signed
gradients amplify over an epoch as they do between any two versions of a convolution.
"""

from trainables.packed.epoch import EpochOutcome, Replica, groups_of, stacked_epoch, train_together

__all__ = ["EpochOutcome", "Replica", "groups_of", "stacked_epoch", "train_together"]
