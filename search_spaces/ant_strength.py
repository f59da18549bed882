"""Does adversarial noise of the right strength beat plain Gaussian noise on corruptions never trained on?

Claim: a generator that looks for the most harmful noise of a given L2 length (ANT) makes a classifier more
robust to common corruptions than a tuned Gaussian augmentation does, at no loss of clean accuracy. Most of
either gain is that of any noise: compare both with the vanilla continuation, and ANT with Gaussian noise of
exactly its length. Strength is the root mean square of the noise per value, as L2 does not transfer between
resolutions (0.348 is upstream's L2 of 135 at 224 pixels, 2.8 on 8x8 digits).

Source: Rusak et al. 2020, Game of Noise: ImageNet-C 51.1 for ANT, 49.4 for Gaussian, 39.2 for vanilla. There
as here speckle is a hold-out corruption: the speckle control has seen what the search looks at.
"""

from search_spaces.domain import Choice, Float
from search_spaces.study import Arm, Floor, Objective, Profile, Study

STUDY = Study(
    name="ant_strength",
    question="Which strength and kind of adversarial noise makes a classifier most robust to corruptions?",
    claim="ANT beats a tuned Gaussian augmentation in mean accuracy on unseen corruptions at equal clean accuracy",
    source="Rusak et al., A simple way to make neural networks robust against diverse image corruptions (ECCV 2020)",
    method="ant",
    dataset="digits",
    space={
        "rms": Float(0.03, 0.4, log=True),
        "ng_type": Choice(("1x1", "3x3")),
        "lr_ng_retrain": Float(1e-3, 3e-2, log=True),
        "lr_ng": Float(1e-4, 3e-3, log=True),
        "p_clean": Float(0.3, 0.7),
        "lr": Float(1e-3, 1e-2, log=True),
        "p_current": 0.3,
        "p_history": 0.1,
        "retrain_iters": 50,
        "batch_size": 64,
    },
    objectives=(Objective("val/accuracy/corrupted"),),
    floors=(Floor("val/accuracy/clean", below_reference=0.01),),
    arms=(
        Arm(
            "gaussian",
            "baseline",
            {"kind": "gaussian", "sigma": Float(0.02, 0.8, log=True)},
            method="noise_augment",
            search=True,
            drop=("rms",),
            about="Gaussian augmentation, its sigma tuned with as many trials",
        ),
        Arm(
            "pretrained",
            "baseline",
            {},
            method="pretrained",
            about="the clean classifier before any training with noise",
        ),
        Arm(
            "gaussian_l2",
            "control",
            {"kind": "gaussian"},
            method="noise_augment",
            about="Gaussian noise of exactly the winner's length",
        ),
        Arm(
            "speckle",
            "control",
            {"kind": "speckle"},
            method="noise_augment",
            drop=("rms",),
            about="speckle noise of five strengths",
        ),
        Arm(
            "vanilla",
            "control",
            {"from_pretrained": True},
            method="standard",
            about="the same training without noise",
        ),
    ),
    headline=(
        "test/accuracy/corrupted",
        "test/accuracy/clean",
        "test/accuracy/corrupted/gaussian_noise",
        "test/accuracy/corrupted/impulse_noise",
        "test/accuracy/corrupted/contrast",
        "test/accuracy/corrupted/pixelate",
    ),
    effects=("rms", "ng_type", "p_clean"),
    trials=20,
    max_epochs=18,
    first_rung=2,
    validation={"score": "energy", "groups": ("clean", "corrupted")},
    protocol={"score": "energy"},
    profiles=(
        Profile(
            "cifar10",
            {
                "network": "preact_resnet18",
                "augment": "crop_flip",
                "batch_size": 128,
                "optimizer": "sgd",
                "lr": Float(1e-3, 1e-1, log=True),
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "lr_ng_retrain": Float(1e-4, 5e-3, log=True),
                "lr_ng": Float(1e-5, 1e-3, log=True),
                "retrain_iters": 300,
                "pretrain.epochs": 100,
                "pretrain.lr": 0.1,
                "pretrain.optimizer": "sgd",
                "pretrain.weight_decay": 5e-4,
                "pretrain.schedule": "cosine",
                "pretrain.batch_size": 128,
                "pretrain.augment": "crop_flip",
            },
            max_epochs=40,
            protocol={"robust_epsilons": (8 / 255,), "ood_epsilons": (8 / 255,)},
        ),
        Profile(
            "imagenet",  # give the clean ResNet-50 with --set pretrain.checkpoint=FILE
            {
                "network": "resnet50",
                "augment": "crop_flip",
                "batch_size": 70,
                "optimizer": "sgd",
                "lr": 1e-3,
                "schedule": "step",
                "step_size": 60,
                "gamma": 0.1,
                "rms": 0.348,
                "lr_ng_retrain": Float(1e-4, 5e-3, log=True),
                "lr_ng": Float(1e-5, 1e-3, log=True),
                "retrain_iters": 1001,
                "pretrain.epochs": 90,
                "pretrain.lr": 0.1,
                "pretrain.optimizer": "sgd",
                "pretrain.weight_decay": 1e-4,
                "pretrain.schedule": "cosine",
                "pretrain.batch_size": 256,
                "pretrain.augment": "crop_flip",
            },
            max_epochs=121,
            protocol={"groups": ("clean", "calibration", "ood", "corrupted")},
            trials=10,
        ),
    ),
)
