"""Options of Rob-GAN: a generator, a two-headed discriminator and an attacker, trained jointly."""

from dataclasses import dataclass

from trainables.base.errors import InputError
from trainables.base.schema import group, option
from trainables.options.common import PretrainOptions, RunOptions

SIDES = (8, 64)  #: smallest and largest side of its images, in pixels


@dataclass(frozen=True)
class GANAttackOptions:
    """The attack on the real images that the discriminator is trained on."""

    epsilon: float = option(
        0.2, "radius in [0, 1] pixel units; 0 = a plain GAN", low=0.0, high=1.0, radius=True
    )
    steps: int = option(3, "gradient steps (upstream 5)", low=1, high=100)
    step_scale: float = option(
        2.5,
        "step length = step_scale * epsilon / steps; upstream has 1.25, at its radius 8/255 only 0.62",
        low=0.0,
    )
    random_start: bool = option(True, "start at a random point of the ball (upstream: at the image)")
    warmup: float = option(
        0.2, "share of the joint steps over which epsilon rises from 0 (upstream 0)", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class FinetuneOptions:
    """The second phase: the class head is trained on attacked real and attacked generated images."""

    share: float = option(
        0.25,
        "share of the epochs, the last ones; 0 = no second phase; without effect if joint_epochs is set",
        low=0.0,
        high=0.9,
    )
    lambda_f: float = option(0.3, "weight of the generated images; 0 = none", low=0.0, high=10.0)
    lr: float = option(3e-3, "largest learning rate, Adam (upstream 1e-3)", low=0.0)
    beta1: float = option(0.9, "Adam's first decay", low=0.0, high=0.999)
    schedule: str = option(
        "cosine",
        "stages divides by 10 at 2/6, 4/6 and 5/6 and starts Adam afresh (upstream)",
        choices=("cosine", "stages", "constant"),
    )
    frozen_bn: bool = option(False, "d_norm=batch: keep batch statistics as the attack left them (upstream)")


@dataclass(frozen=True)
class GuardOptions:
    """When a generator counts as collapsed; checked after every joint epoch past the grace period."""

    enabled: bool = option(True, "end a collapsed trial as failed; else the values are only reported")
    grace: float = option(0.25, "share of the joint epochs before the first check", low=0.0, high=1.0)
    pixel_std: float = option(
        0.05, "least mean deviation per pixel over a batch of fakes, range [-1, 1]", low=0.0
    )
    diversity: float = option(0.25, "least mean distance between fakes as a share of that of reals", low=0.0)
    accuracy: float = option(0.99, "the discriminator has won if above this on reals and fakes ...", low=0.0)
    accuracy_steps: int = option(500, "... for more than so many steps in a row", low=1)
    logit: float = option(20.0, "largest mean size of the real/fake logit", low=0.0)
    gradient: float = option(1e-5, "least mean gradient norm of the generator", low=0.0)


@dataclass(frozen=True)
class RobGANOptions(RunOptions):
    """Rob-GAN with the measures against mode collapse on; `network` is the judge of the samples.

    The published setting is loss=bce, spectral_norm=false, pool=sum, d_norm=batch (32 pixels), joint_batch=false,
    n_dis=5, ema=0, w_g_ramp=0, attack.warmup=0, attack.random_start=false, attack.step_scale=1.25,
    schedule=halve, reset_optimizer=true, dequantize=0.00390625, bn_momentum=0.9, ft.schedule=stages.
    """

    epochs: int = option(40, "length of the training schedule; early stopping may end sooner", low=1)
    batch_size: int = option(64, "real images per discriminator step, and fakes", low=2)
    augment: str = option(
        "none", "crop pads by an eighth; per image", choices=("none", "flip", "crop", "crop_flip")
    )
    joint_epochs: int = option(
        0,
        "epochs of a joint phase that is trained once for all trials that differ in ft.* alone, and kept; the trial's "
        "own epochs are then the second phase; 0: a trial begins with its own joint phase",
        low=0,
    )
    rounds: int = option(1, "passes over the training images per epoch (small sets)", low=1)
    loss: str = option("hinge", "of the real/fake head; bce is the paper's", choices=("hinge", "bce"))
    fake_cls_in_d: bool = option(
        False,
        "D also learns the classes of fakes (AC-GAN); lets both agree on few trivially classified images",
    )
    lr_d: float = option(4e-3, "largest learning rate of the discriminator (upstream 2e-4)", low=0.0)
    lr_g: float = option(4e-3, "largest learning rate of the generator (upstream 2e-4)", low=0.0)
    beta1: float = option(0.0, "Adam's first decay, both networks", low=0.0, high=0.999)
    beta2: float = option(0.9, "Adam's second decay, both networks", low=0.0, high=0.99999)
    schedule: str = option(
        "linear",
        "over the joint phase: linear falls to 0, halve halves at each quarter (upstream)",
        choices=("constant", "linear", "cosine", "halve"),
    )
    reset_optimizer: bool = option(False, "schedule=halve: forget Adam's moments at every drop (upstream)")
    n_dis: int = option(2, "discriminator steps per generator step (upstream 5)", low=1, high=100)
    w_c: float = option(2.0, "weight of the class head in the discriminator's loss", low=0.0)
    w_g: float = option(1.0, "weight of the class head in the generator's loss", low=0.0)
    w_g_ramp: float = option(0.1, "share of the joint steps over which w_g rises from 0", low=0.0, high=1.0)
    spectral_norm: bool = option(True, "on every layer of the discriminator but the class head")
    norm_head: bool = option(False, "spectral_norm: also on the class head")
    r1_gamma: float = option(0.0, "weight of the gradient penalty on real images; 0 = none", low=0.0)
    ema: float = option(0.99, "decay of the generator's weight average; 0 = none", low=0.0, high=0.99999)
    nz: int = option(32, "length of the latent (upstream 128)", low=1)
    ngf: int = option(12, "channels of the generator's last block (upstream 64)", low=1)
    ndf: int = option(12, "half the channels of the discriminator's blocks (upstream 64)", low=1)
    pool: str = option(
        "flatten", "of the discriminator's last block (upstream sum)", choices=("mean", "sum", "flatten")
    )
    d_norm: str = option("none", "batch norm leaks whether a batch is real", choices=("none", "batch"))
    joint_batch: bool = option(
        True, "reals and fakes in one forward of the discriminator; matters to d_norm=batch"
    )
    dequantize: float = option(
        0.0, "width of uniform noise added to real images (upstream 1/256)", low=0.0, high=1.0
    )
    bn_momentum: float = option(
        0.1, "generator's batch norm, share of the new batch (upstream 0.9)", low=0.0, high=1.0
    )
    generator: bool = option(True, "false trains the class head alone by PGD: the same network's PGD-AT")
    attack: GANAttackOptions = group(GANAttackOptions)
    ft: FinetuneOptions = group(FinetuneOptions)
    guards: GuardOptions = group(GuardOptions)
    judged: bool = option(True, "score samples with the pretrained classifier when the joint phase ends")
    pretrain: PretrainOptions = group(PretrainOptions)

    def __post_init__(self) -> None:
        """Check the options against one another.

        Raises:
            InputError: `joint_epochs` without a generator.
        """
        if self.joint_epochs and not self.generator:
            raise InputError(
                f"joint_epochs={self.joint_epochs} needs generator=true: a class head alone has no second phase"
            )
