"""ANT in seconds: a noise generator with a memory of earlier ones, a tuned baseline, a pretrained classifier."""

from dataclasses import replace

from search_spaces.ant_strength import STUDY as WHOLE

CHEAP = {"groups": ("clean", "corrupted"), "max_images": 60}

STUDY = replace(
    WHOLE,
    name="tiny_ant",
    space=WHOLE.space | {"retrain_iters": 5, "pretrain.epochs": 1, "batch_size": 128},
    floors=(),
    arms=tuple(arm for arm in WHOLE.arms if arm.name in ("gaussian", "vanilla")),
    headline=("test/accuracy/corrupted", "test/accuracy/clean"),
    trials=2,
    max_epochs=3,
    first_rung=1,
    confirm_seeds=1,
    validation=CHEAP,
    protocol=CHEAP,
    profiles=(),
)
