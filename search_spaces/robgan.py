"""Does training with a generator make a robust classifier, and can the generator be kept from collapsing?

Claim: a class head that is trained jointly with a generator and an attacker, and then fine-tuned on attacked
real and generated images, withstands attacks better than adversarial training of the same class head.

Source: Liu & Hsieh 2019 for method and claim. The predecessor of this project ended in mode collapse; a trial
whose generator collapses fails here with its reason. Judged by the accuracy under PGD.
"""

from search_spaces.domain import Choice, Float, Int, Setting
from search_spaces.study import Arm, Floor, Objective, Profile, Study

# large images: spectral norm and pooling over positions, Rob-GAN's sizes, smaller rates
LARGE: dict[str, Setting] = {
    "rounds": 1, "nz": 128, "ngf": 64, "ndf": 64, "pool": "mean", "norm_head": False, "ema": 0.999, "attack.steps": 5,
    "lr_d": Float(5e-5, 1e-3, log=True), "lr_g": Float(5e-5, 1e-3, log=True), "n_dis": Int(1, 5), "ft.share": 0.2,
    "ft.lr": Float(1e-4, 3e-3, log=True), "w_c": Float(0.1, 2.0, log=True), "batch_size": 64,
}  # fmt: skip
MNIST: dict[str, Setting] = {"ngf": 32, "ndf": 32, "attack.epsilon": Float(0.05, 0.3, log=True)}
CIFAR: dict[str, Setting] = {
    "attack.epsilon": Float(1 / 255, 8 / 255, log=True), "augment": "crop_flip", "network": "preact_resnet18",
    "pretrain.epochs": 30, "pretrain.lr": 0.1, "pretrain.optimizer": "sgd", "pretrain.weight_decay": 5e-4,
    "pretrain.schedule": "cosine", "pretrain.batch_size": 128, "pretrain.augment": "crop_flip",
}  # fmt: skip

STUDY = Study(
    name="robgan",
    question="Does a jointly trained generator make the class head more robust, without mode collapse?",
    claim="Rob-GAN's class head is more accurate under attack than PGD-AT of the same network",
    source="Liu & Hsieh, Rob-GAN: Generator, Discriminator, and Adversarial Attacker (CVPR 2019)",
    method="robgan",
    dataset="digits",
    space={
        "attack.epsilon": Float(0.1, 0.25),
        "loss": Choice(("hinge", "bce")),
        "lr_d": Float(1e-3, 1e-2, log=True),
        "lr_g": Float(1e-3, 1e-2, log=True),
        "w_c": Float(0.5, 4.0, log=True),
        "ft.lambda_f": Float(0.05, 1.0),
        "ft.lr": Float(5e-4, 5e-3, log=True),
        "rounds": 2,
        "batch_size": 64,
    },
    objectives=(Objective("val/accuracy/robust_0.15"),),
    floors=(Floor("val/accuracy/clean", 0.95),),
    arms=(
        Arm("class_head_at", "baseline", {"generator": False}, search=True,
            drop=("loss", "lr_g", "w_c", "ft.lambda_f", "ft.lr"),
            about="PGD-AT of the same class head without a generator, tuned with as many trials"),
        Arm("pgd_at", "baseline", {"lr": Float(1e-3, 1e-2, log=True), "batch_size": 32, "attack.steps": 5}, "pgd_at",
            search=True, about="PGD-AT of the data set's usual network at as many steps, tuned likewise"),
        Arm("no_fakes", "control", {"ft.lambda_f": 0.0}, about="the winner, fine-tuned without generated images"),
        Arm("plain_gan", "control", {"attack.epsilon": 0.0, "guards.enabled": False},
            about="the winner without any attack"),
    ),
    headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.2", "test/accuracy/clean"),
    effects=("attack.epsilon", "ft.lambda_f", "lr_g", "lr_d"),
    trials=8,
    max_epochs=20,
    epoch="best",
    first_rung=17,  # the second phase, whose options are searched too, begins after epoch 15
    validation={"groups": ("clean", "robust"), "robust_epsilons": (0.15,), "steps": 10, "margin": False},
    protocol={"groups": ("clean", "calibration", "ood", "robust")},
    profiles=(
        Profile(
            "mnist", LARGE | MNIST, 25, protocol={"robust_epsilons": (0.15, 0.3)},
            headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.3", "test/accuracy/clean"),
        ),
        Profile(
            "cifar10", LARGE | CIFAR, 100,
            validation={"robust_epsilons": (8 / 255,)}, protocol={"robust_epsilons": (4 / 255, 8 / 255)},
            objectives=(Objective("val/accuracy/robust_0.03137"),), floors=(Floor("val/accuracy/clean", 0.6),),
            headline=("test/accuracy/robust_0.03137", "test/accuracy/robust_0.01569", "test/accuracy/clean"),
        ),
    ),
)  # fmt: skip
