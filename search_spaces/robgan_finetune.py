"""Do generated images help to fine-tune the class head of a Rob-GAN, and how should it be fine-tuned?

Claim: attacked generated images beside attacked real ones make the class head more accurate under attack than the
real ones alone.

Source: Liu & Hsieh 2019, section 3.3. All trials of a search start from one joint phase, trained once: they differ in
nothing but the fine-tuning, cost its few epochs, and can be stopped early. In the confirm stage each seed has a joint
phase of its own, which all arms of that seed share. Judged by the accuracy under PGD.
"""

from search_spaces.domain import Float, Setting
from search_spaces.robgan import CIFAR, LARGE, MNIST
from search_spaces.study import Arm, Floor, Objective, Profile, Study

#: the paper's rates and discriminator steps, no ranges: nothing of the joint phase is searched
JOINT: dict[str, Setting] = {
    "lr_d": 2e-4, "lr_g": 2e-4, "n_dis": 5, "w_c": 1.0, "joint_epochs": 80, "ft.lr": Float(1e-4, 3e-3, log=True)
}  # fmt: skip

STUDY = Study(
    name="robgan_finetune",
    question="Do generated images help to fine-tune a jointly trained class head?",
    claim="attacked generated images make the fine-tuned class head more accurate under attack than real ones alone",
    source="Liu & Hsieh, Rob-GAN: Generator, Discriminator, and Adversarial Attacker (CVPR 2019)",
    method="robgan",
    dataset="digits",
    space={
        "ft.lambda_f": Float(0.05, 2.0, log=True),
        "ft.lr": Float(3e-4, 3e-2, log=True),
        "joint_epochs": 15,
        "attack.epsilon": 0.2,
        "rounds": 2,
        "batch_size": 64,
    },
    objectives=(Objective("val/accuracy/robust_0.15"),),
    floors=(Floor("val/accuracy/clean", 0.95),),
    arms=(
        Arm("no_fakes", "baseline", {"ft.lambda_f": 0.0}, search=True,
            about="fine-tuned without generated images, at a tuned learning rate"),
    ),
    headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.2", "test/accuracy/clean"),
    effects=("ft.lambda_f", "ft.lr"),
    trials=8,
    max_epochs=6,
    epoch="best",
    first_rung=2,
    validation={"groups": ("clean", "robust"), "robust_epsilons": (0.15,), "steps": 10, "margin": False},
    protocol={"groups": ("clean", "calibration", "ood", "robust")},
    profiles=(
        Profile(
            "mnist", {**LARGE, **MNIST, **JOINT, "joint_epochs": 20, "attack.epsilon": 0.2}, 10,
            protocol={"robust_epsilons": (0.15, 0.3)},
            headline=("test/accuracy/robust_0.15", "test/accuracy/robust_0.3", "test/accuracy/clean"),
        ),
        Profile(
            "cifar10", {**LARGE, **CIFAR, **JOINT, "attack.epsilon": 8 / 255}, 20,
            validation={"robust_epsilons": (8 / 255,)}, protocol={"robust_epsilons": (4 / 255, 8 / 255)},
            objectives=(Objective("val/accuracy/robust_0.03137"),), floors=(Floor("val/accuracy/clean", 0.6),),
            headline=("test/accuracy/robust_0.03137", "test/accuracy/robust_0.01569", "test/accuracy/clean"),
        ),
    ),
)  # fmt: skip
