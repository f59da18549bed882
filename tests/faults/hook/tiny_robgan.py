"""Rob-GAN in seconds: a generator, two phases, sample grids, a tuned baseline of another method."""

from dataclasses import replace

from search_spaces.robgan import STUDY as WHOLE

CHEAP = {
    "groups": ("clean", "robust"),
    "robust_epsilons": (0.15,),
    "steps": 2,
    "max_images": 60,
    "margin": False,
}

STUDY = replace(
    WHOLE,
    name="tiny_robgan",
    space=WHOLE.space | {"rounds": 1},
    floors=(),
    arms=tuple(arm for arm in WHOLE.arms if arm.name in ("pgd_at", "no_fakes")),
    headline=("test/accuracy/robust_0.15", "test/accuracy/clean"),
    trials=2,
    max_epochs=4,
    first_rung=2,
    confirm_seeds=1,
    validation=CHEAP,
    protocol=CHEAP,
    profiles=(),
)
