"""Options of dynamics-aware robust training."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.common import PretrainOptions, TrainingOptions


@dataclass(frozen=True)
class BoundaryOptions:
    """The search for the closest boundary point of each image."""

    search: str = option(
        "sequential",
        "sequential needs half the steps and one forward pass less in each; fab is the paper's; fab_onepass is as "
        "good in two thirds of its passes",
        choices=("sequential", "fab", "fab_onepass"),
    )
    steps: int = option(10, "linearisations of the margin per image; 20 in the paper", low=1, high=1000)
    epsilon_init: float = option(
        0.03, "largest Linf length of the random start, pixel units", low=0.0, high=1.0, radius=True
    )
    mixing: float = option(
        0.1, "fab: largest share of the step that starts at the image itself", low=0.0, high=1.0
    )
    shared_alpha: bool = option(
        False, "fab: the first image's share serves the whole batch (the paper's code)"
    )
    quality_filter: bool = option(True, "leave out points that are not nearly the closest ones")


@dataclass(frozen=True)
class DyARTOptions(TrainingOptions):
    """Cross-entropy plus a cost on small input-space margins, along their closed-form gradient."""

    epochs: int = option(18, "length of the training schedule, burn-in included", low=1)
    lr: float = option(1e-2, "largest learning rate of the schedule", low=0.0)
    alpha: float = option(
        5.0, "how much more a small margin weighs: weight exp(-alpha R)", low=0.0, high=100.0
    )
    r0: float = option(
        0.4, "margins from here on weigh nothing, [0, 1] pixel units", low=0.0, high=1.0, radius=True
    )
    robust_weight: float = option(200.0, "lambda, weight of the margin term", low=0.0)
    temperature: float = option(5.0, "sharpness of the soft maximum over the other logits", low=0.01)
    boundary: BoundaryOptions = group(BoundaryOptions)
    norm: str = option(
        "bn_eval_boundary",
        "bn_upstream: boundary points pass batch norm with their own statistics (the paper's code); "
        "bn_eval_boundary: with the running ones, as in the search; gn: group norm instead, needs start=scratch",
        choices=("bn_upstream", "bn_eval_boundary", "gn"),
    )
    bn_momentum: float = option(0.1, "share of the newest batch in the running statistics", low=0.0, high=1.0)
    norm_decay: bool = option(False, "weight decay on the parameters of normalisation layers too")
    start: str = option("pretrained", "where the weights come from", choices=("pretrained", "scratch"))
    burn_in_epochs: int = option(0, "first epochs of the schedule with the cross-entropy alone", low=0)
    synthetic_path: str = option(
        "", "npz with image (uint8, n x h x w x c) and label; empty = no extra data", path=True
    )
    unsup_fraction: float = option(0.7, "share of synthetic images in a batch", low=0.0, high=0.95)
    speed_images: int = option(
        0, "measure the relative boundary speed on so many training images after every epoch; 0 = off", low=0
    )
    speed_radius: float = option(
        0.2, "of these images, those whose margin is below this radius count", low=0.0, high=1.0, radius=True
    )
    grad_clip: float = option(1.0, "largest global gradient norm; 0 = no clipping", low=0.0)
    pretrain: PretrainOptions = group(PretrainOptions)
