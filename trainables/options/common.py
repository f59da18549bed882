"""Option groups that several methods share. Epsilon is in [0, 1] pixel units everywhere."""

from dataclasses import dataclass

from trainables.base.schema import group, option
from trainables.options.attacks import OUTLIER_ATTACKS, AttackSpec
from trainables.options.networks import NETWORKS
from trainables.options.outliers import OUTLIER_SOURCES, OutlierSourceSpec, path_help

OPTIMIZER_MOMENTS = {"sgd": 1, "adam": 2}  #: numbers kept for each weight
#: none; the image or its mirror image; a window of the padded image; a window of any size and shape, scaled back
AUGMENTS = ("none", "flip", "crop", "crop_flip", "resized_crop_flip")
AUGMENT_HELP = (
    "crop pads by an eighth, resized_crop_flip scales 8 to 100 % of the picture to the image's size (ImageNet's usual "
    "one), of pictures that stay files before they lose pixels; per image"
)
MANY_STEPS = 10  #: attacks are ordered by their cost at so many steps


@dataclass(frozen=True)
class RunOptions:
    """What every trainable needs to know besides its method."""

    dataset: str = option("digits", "name of the data set, see docs/data.md")
    data_dir: str = option(
        "", "folder that holds (or receives) the data set's files; built-in sets need none"
    )
    cache_dir: str = option(
        "", "folder of pretrained weights and generators; default: the user's cache folder", path=True
    )
    network: str = option(
        "small_cnn",
        "architecture of the classifier: one of these, torchvision:NAME, timm:NAME, or your own as module:factory or "
        "./file.py:factory (docs/own_code.md)",
        choices=NETWORKS,
        cost=lambda name: NETWORKS[name].cost,
    )
    pretrained: bool = option(
        False, "network=torchvision:NAME or timm:NAME: start from its published weights, downloaded once"
    )
    normalize: str = option(
        "dataset",
        "dataset: mean and deviation of the data set; none: the network gets images in [0, 1] and normalises itself",
        choices=("dataset", "none"),
    )
    epochs: int = option(10, "length of the training schedule; early stopping may end sooner", low=1)
    seed: int = option(0, "every random stream of the trial is derived from it", low=0)
    device: str = option(
        "auto", "auto takes a GPU if the trial was given one", choices=("auto", "cpu", "cuda")
    )
    threads: int = option(
        1, "CPU threads of the trial; results are reproducible only at an equal number", low=1
    )


@dataclass(frozen=True)
class TrainingOptions(RunOptions):
    """Optimiser, schedule and batch of one training; every method's options extend this."""

    lr: float = option(3e-3, "largest learning rate of the schedule", low=0.0)
    optimizer: str = option(
        "adam", "sgd is with Nesterov momentum", choices=("adam", "sgd"), cost=OPTIMIZER_MOMENTS.__getitem__
    )
    momentum: float = option(0.9, "momentum of sgd, beta1 of adam", low=0.0, high=0.999)
    weight_decay: float = option(0.0, "L2 penalty", low=0.0)
    schedule: str = option(
        "one_cycle",
        "learning rate per step over all epochs",
        choices=("one_cycle", "cosine", "step", "constant"),
    )
    step_size: int = option(60, "schedule=step: epochs between two drops", low=1)
    gamma: float = option(0.1, "schedule=step: factor of each drop", low=0.0, high=1.0)
    grad_clip: float = option(0.0, "largest global gradient norm; 0 = no clipping", low=0.0)
    batch_size: int = option(64, "inliers per step", low=1)
    augment: str = option("none", AUGMENT_HELP, choices=AUGMENTS)
    balance: str = option(
        "none",
        "unbalanced classes, also of the pretraining: weights multiplies an image's cross-entropy by n / (classes x "
        "images of its class), sampling draws every class equally often",
        choices=("none", "weights", "sampling"),
    )
    ema: float = option(0.0, "decay of the weight average that is evaluated; 0 = none", low=0.0, high=0.99999)
    dropout: float = option(0.0, "share of dropped units in networks that have dropout", low=0.0, high=0.9)
    precision: str = option(
        "float32",
        "bf16 trains and attacks on features in bfloat16; the last layer, losses, margins and validation stay float32",
        choices=("float32", "bf16"),
        cost={"bf16": 2, "float32": 4}.__getitem__,  # bytes of a number
    )
    channels_last: bool = option(
        False, "store images by pixel instead of by channel: the same sums in another order, faster with bf16"
    )
    compile: bool = option(
        False,
        "torch.compile training and attacks: half a minute more for the first step, needs a C++ compiler",
    )
    warmup: float = option(
        0.3, "schedule=one_cycle: share of the steps over which the rate rises", low=0.0, high=0.99
    )


def balance_of(options: RunOptions) -> str:
    """Return how unbalanced classes are treated: "none" for a method without that option."""
    return str(getattr(options, "balance", "none"))


@dataclass(frozen=True)
class AttackOptions:
    """A perturbation within an Linf ball (gauss: a standard deviation)."""

    name: str = option(
        "none",
        "which attack",
        choices=OUTLIER_ATTACKS,
        cost=lambda name: OUTLIER_ATTACKS[name].passes(MANY_STEPS),
    )
    epsilon: float = option(0.1, "radius in [0, 1] pixel units", low=0.0, high=1.0, radius=True)
    steps: int = option(10, "gradient steps of the iterative attacks", low=1, high=1000)
    step_scale: float = option(2.5, "step length = step_scale * epsilon / steps", low=0.0)
    momentum: float = option(1.0, "mifgsm: share of the previous direction that is kept", low=0.0, high=1.0)
    schedule: str = option(
        "constant", "epsilon over the epochs", choices=("constant", "up", "down", "oscillate")
    )

    @property
    def spec(self) -> AttackSpec:
        return OUTLIER_ATTACKS[self.name]

    @property
    def gradient_steps(self) -> int:
        """Return how many gradient steps the attack takes per outlier."""
        return self.spec.gradient_steps(self.steps) if self.epsilon else 0


@dataclass(frozen=True)
class PretrainOptions:
    """The clean classifier that fine-tuning starts from: trained once per data set, network and seed."""

    epochs: int = option(20, "epochs of standard training", low=0)
    lr: float = option(3e-3, "largest learning rate", low=0.0)
    optimizer: str = option(
        "adam", "sgd is with Nesterov momentum", choices=("adam", "sgd"), cost=OPTIMIZER_MOMENTS.__getitem__
    )
    weight_decay: float = option(0.0, "L2 penalty", low=0.0)
    schedule: str = option("one_cycle", "per step", choices=("one_cycle", "cosine", "step", "constant"))
    batch_size: int = option(64, "images per step", low=1)
    augment: str = option("none", "as in training", choices=AUGMENTS)
    checkpoint: str = option("", "start from this state dict instead of training one", path=True)
    dropout: float = option(0.0, "share of dropped units in networks that have dropout", low=0.0, high=0.9)
    ema: float = option(
        0.0, "decay of the weight average that training then starts from; 0 = none", low=0.0, high=0.99999
    )
    warmup: float = option(0.3, "schedule=one_cycle, as in training", low=0.0, high=0.99)


@dataclass(frozen=True)
class OutlierOptions:
    """The auxiliary outliers: sampled once per trial from a generator at latent scale sigma."""

    generator: str = option("pca", "where outliers come from", choices=OUTLIER_SOURCES)
    sigma: float = option(
        1.0, "standard deviation of the latent; 1 is the training prior", low=0.0, high=100.0
    )
    path: str = option("", path_help(), path=True)
    count: int = option(1000, "how many outliers a trial samples", low=1)
    weight: float = option(0.5, "weight of the outlier term", low=0.0)
    ratio: float = option(1.0, "outliers per inlier in a batch", low=0.05, high=16.0, cost=float)
    augment: bool = option(True, "augment outliers like inliers; false leaves them as they are (AOE's code)")

    @property
    def source(self) -> OutlierSourceSpec:
        return OUTLIER_SOURCES[self.generator]


__all__ = [
    "AttackOptions",
    "OutlierOptions",
    "PretrainOptions",
    "RunOptions",
    "TrainingOptions",
    "group",
    "option",
]
