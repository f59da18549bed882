"""Which margin cost makes dynamics-aware robust training (DyART) withstand attacks best?

Claim: following the gradient of the input-space margins, the small ones first, gives at least the accuracy
under attack of adversarial training, at higher clean accuracy. The baselines are tuned with as many trials:
PGD-AT at the radius of the objective, PGD-AT at 4/3 of it, and TRADES. DyART starts from the clean classifier
(its burn-in); the baselines start from scratch, because that start costs them robustness at equal epochs.

Source: Xu et al. 2023, Exploring and Exploiting Decision Boundary Dynamics for Adversarial Robustness (ICLR);
with 10M generated images it reports 93.69 % clean, 63.89 % under AutoAttack at 8/255 for WRN-28-10 on CIFAR-10.

The profiles' burn-in is the pretraining; extra data: `--set synthetic_path=... --set batch_size=512`.
"""

from search_spaces.domain import Choice, Float, Setting
from search_spaces.study import Arm, Floor, Objective, Profile, Study

COLOUR: dict[str, Setting] = {
    "optimizer": "sgd", "momentum": 0.9, "weight_decay": Float(1e-4, 1e-3, log=True),
    "lr": Float(0.01, 0.2, log=True), "schedule": "one_cycle", "augment": "crop_flip", "batch_size": 256,
    "ema": 0.995, "alpha": Float(0.0, 10.0), "temperature": Float(1.0, 30.0, log=True),
    "norm": "bn_upstream", "boundary.search": "fab", "boundary.steps": 20, "boundary.epsilon_init": 8 / 255,
    "attack.epsilon": 8 / 255, "speed_images": 512, "speed_radius": 8 / 255,
    "pretrain.optimizer": "sgd", "pretrain.lr": 0.1, "pretrain.weight_decay": 5e-4,
    "pretrain.schedule": "one_cycle", "pretrain.batch_size": 256, "pretrain.augment": "crop_flip",
}  # fmt: skip
CIFAR10: dict[str, Setting] = COLOUR | {
    "network": "wrn_28_10_silu", "r0": Float(8 / 255, 40 / 255), "robust_weight": Float(300.0, 3000.0, log=True),
    "grad_clip": 0.1, "bn_momentum": 0.01, "pretrain.epochs": 11,
}  # fmt: skip
TINY: dict[str, Setting] = COLOUR | {
    "network": "preact_resnet18", "r0": Float(16 / 255, 40 / 255), "robust_weight": Float(100.0, 2000.0, log=True),
    "grad_clip": 1.0, "pretrain.epochs": 21,
}  # fmt: skip

# colour images are judged at 8/255
VALIDATION = {"robust_epsilons": (8 / 255,), "max_images": 1024}
AT_8 = Objective("val/accuracy/robust_0.03137")
HEADLINE = ("test/accuracy/robust_0.03137", "test/accuracy/clean")

STUDY = Study(
    name="dyart_margin",
    question="Which margin cost makes DyART withstand attacks best?",
    claim="DyART is at least as accurate under attack as tuned PGD-AT and TRADES, at higher clean accuracy",
    source="Xu et al., Exploring and Exploiting Decision Boundary Dynamics (ICLR 2023)",
    method="dyart",
    dataset="digits",
    space={
        "alpha": Float(0.0, 10.0),
        "r0": Float(0.2, 0.6),
        "robust_weight": Float(50.0, 1000.0, log=True),
        "temperature": Float(1.0, 30.0, log=True),
        "lr": Float(2e-3, 3e-2, log=True),
        "weight_decay": Float(1e-6, 1e-3, log=True),
        "boundary.quality_filter": Choice((True, False)),
        "boundary.steps": 10,
        "attack.epsilon": 0.15,
        "attack.steps": 10,
        "batch_size": 64,
    },
    objectives=(Objective("val/accuracy/robust_0.15"),),
    floors=(Floor("val/accuracy/clean", at_least=0.95),),
    arms=(
        Arm("pgd_at", "baseline", {}, "pgd_at", search=True,
            about="adversarial training at the radius of the objective"),
        Arm("pgd_at_wide", "baseline", {"attack.widen": 4 / 3}, "pgd_at", search=True,
            about="adversarial training at 4/3 of that radius"),
        Arm("trades", "baseline", {"beta": Float(1.0, 12.0, log=True), "attack.widen": 4 / 3}, "trades", search=True,
            about="TRADES at 4/3 of that radius"),
        Arm("ce", "control", {"from_pretrained": True}, "standard",
            about="the winner's start and schedule with the cross-entropy alone"),
    ),
    headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.2", "test/accuracy/clean"),
    effects=("alpha", "r0", "robust_weight", "temperature"),
    trials=12,
    max_epochs=12,
    epoch="best",
    first_rung=2,
    validation={"groups": ("clean", "robust"), "robust_epsilons": (0.15,), "steps": 10},
    protocol={"groups": ("clean", "calibration", "ood", "robust"), "robust_epsilons": (0.15, 0.2)},
    profiles=(
        Profile(
            "cifar10", CIFAR10, 200, first_rung=67, validation=VALIDATION, protocol={"robust_epsilons": (8 / 255,)},
            objectives=(AT_8,), floors=(Floor("val/accuracy/clean", at_least=0.75),), headline=HEADLINE,
        ),
        Profile(
            "tiny-imagenet", TINY, 100, first_rung=34, validation=VALIDATION, protocol={"robust_epsilons": (8 / 255,)},
            objectives=(AT_8,), floors=(Floor("val/accuracy/clean", at_least=0.35),), headline=HEADLINE,
        ),
    ),
)  # fmt: skip
