"""How far do the standard defences get when each is tuned: PGD-AT, TRADES, MART, and none at all?

Claim: adversarial training multiplies the accuracy under attack of a standard classifier for a small loss of
clean accuracy, and TRADES and MART do at least as well as PGD-AT. What is searched besides the optimiser is the
training radius, as a multiple of the radius of the objective, and the weight beta of the divergence.

Source: Madry et al. 2018 (PGD-AT: WRN-34-10 87.14 % clean, 44.04 % under AutoAttack at 8/255 on CIFAR-10);
Zhang et al. 2019 (TRADES: 84.92 %, 53.08 % at .031); Wang et al. 2020 (MART).
"""

from search_spaces.domain import Float, Setting
from search_spaces.study import Arm, Floor, Objective, Profile, Study

CIFAR10: dict[str, Setting] = {
    "network": "preact_resnet18", "optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle",
    "lr": Float(0.01, 0.2, log=True), "weight_decay": Float(1e-4, 1e-3, log=True), "batch_size": 128,
    "augment": "crop_flip", "attack.epsilon": 8 / 255, "attack.widen": 1.0, "attack.steps": 10,
    "pretrain.epochs": 0,
}  # fmt: skip

STUDY = Study(
    name="adversarial_baselines",
    question="How far do PGD-AT, TRADES and MART get when each is tuned?",
    claim="tuned TRADES and MART are at least as accurate under attack as tuned PGD-AT, and all far above no defence",
    source="Madry et al. (ICLR 2018); Zhang et al., TRADES (ICML 2019); Wang et al., MART (ICLR 2020)",
    method="pgd_at",
    dataset="digits",
    space={
        "lr": Float(2e-3, 2e-2, log=True),
        "weight_decay": Float(1e-6, 1e-3, log=True),
        "attack.widen": Float(0.8, 2.0),
        "attack.epsilon": 0.15,
        "attack.steps": 10,
        "batch_size": 64,
    },
    objectives=(Objective("val/accuracy/robust_0.15"),),
    floors=(Floor("val/accuracy/clean", at_least=0.95),),
    arms=(
        Arm("trades", "baseline", {"beta": Float(1.0, 12.0, log=True)}, "trades", search=True,
            about="clean cross-entropy plus the divergence under attack"),
        Arm("mart", "baseline", {"beta": Float(1.0, 12.0, log=True)}, "mart", search=True,
            about="boosted cross-entropy, misclassified images first"),
        Arm("standard", "baseline", {}, "standard", search=True, about="no defence"),
    ),
    headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.2", "test/accuracy/clean"),
    effects=("attack.widen", "lr", "weight_decay"),
    trials=12,
    max_epochs=18,
    epoch="best",
    first_rung=2,
    validation={"groups": ("clean", "robust"), "robust_epsilons": (0.15,), "steps": 10},
    protocol={"groups": ("clean", "calibration", "ood", "robust"), "robust_epsilons": (0.15, 0.2)},
    profiles=(
        Profile(
            "cifar10", CIFAR10, 100, first_rung=34,
            validation={"robust_epsilons": (8 / 255,), "max_images": 1024},
            protocol={"robust_epsilons": (8 / 255,)},
            objectives=(Objective("val/accuracy/robust_0.03137"),),
            floors=(Floor("val/accuracy/clean", at_least=0.6),),
            headline=("test/accuracy/robust_0.03137", "test/accuracy/clean"),
        ),
    ),
)  # fmt: skip
