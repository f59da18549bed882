"""Which energy margins make energy fine-tuning separate OOD data best, at no loss of accuracy?

Claim: fine-tuning with two hinges on the energy lowers the FPR95 of the energy score on near OOD data far below
that of the pretrained classifier, where further training with cross-entropy alone (tuned as well, and the winner
without its energy terms) does not; on far data every good configuration is at the floor. Margins in logits do not
carry over between networks; the search moves them relative to the pretrained energies, and the profiles of colour
data in logits, around the published ones.

Source: Liu et al. 2020, Energy-based Out-of-distribution Detection; Hendrycks et al. 2019 for OE. Judged by the
energy; OE leaves its level free and is better read by MSP, which the headline therefore shows too.

The outliers of the colour profiles are files: give `--set outliers.path=...` (CIFAR: 300K random images as npy;
Food-101: one npz file, or a folder that holds `samples-2.0.npz`; disjoint from every test set).
"""

from search_spaces.domain import Choice, Float, Setting
from search_spaces.study import Arm, Floor, Objective, Profile, Study

WRN: dict[str, Setting] = {
    "network": "wrn_40_2", "dropout": 0.3, "energy.margins": "fixed",
    "energy.m_in_offset": 0.0, "energy.gap_factor": 1.0, "energy.lam": Float(0.005, 1.0, log=True),
    "outliers.generator": "images300k", "outliers.count": 300_000, "outliers.ratio": 2.0,
    "lr": Float(1e-5, 1e-2, log=True), "optimizer": "sgd", "weight_decay": 5e-4, "batch_size": 128,
    "augment": "crop_flip", "pretrain.epochs": 100, "pretrain.lr": 0.1,
    "pretrain.optimizer": "sgd", "pretrain.weight_decay": 5e-4, "pretrain.schedule": "cosine",
    "pretrain.batch_size": 128, "pretrain.augment": "crop_flip",
}  # fmt: skip
FOOD: dict[str, Setting] = {
    "network": "mobilenet_v3_large",
    "energy.trainable": Choice(("head", "all")),  # the other arms train the whole network
    "energy.gap_factor": Float(0.5, 6.0, log=True),
    "outliers.generator": "npz", "outliers.count": 10_000, "outliers.ratio": 1.0,
    "lr": Float(1e-5, 1e-2, log=True), "batch_size": 64, "augment": "crop_flip", "weight_decay": 1e-5,
    "pretrain.epochs": 30, "pretrain.lr": 1e-3, "pretrain.weight_decay": 1e-5,
    "pretrain.schedule": "cosine", "pretrain.augment": "crop_flip",
}  # fmt: skip

AT_8 = {"ood_epsilons": (8 / 255,)}  # colour images are attacked at 8/255

STUDY = Study(
    name="energy_margins",
    question="Which energy margins make energy fine-tuning separate OOD data best?",
    claim="energy fine-tuning lowers the energy FPR95 on near-OOD data below a tuned cross-entropy continuation",
    source="Liu et al., Energy-based Out-of-distribution Detection (NeurIPS 2020)",
    method="energy",
    dataset="digits-open",
    space={
        "energy.m_in_offset": Float(-4.0, 10.0),
        "energy.gap_factor": Float(0.5, 4.0, log=True),
        "energy.lam": Float(0.01, 1.0, log=True),
        "lr": Float(3e-4, 1e-2, log=True),
        "outliers.generator": "pca",
        "outliers.sigma": 2.0,
        "outliers.ratio": Choice((0.5, 1.0, 2.0)),
        "batch_size": 64,
    },
    objectives=(Objective("val/auroc/near"),),
    floors=(Floor("val/accuracy/clean", below_reference=0.01),),
    arms=(
        Arm("ce", "baseline", {"from_pretrained": True, "schedule": "cosine"}, "standard", search=True,
            about="cross-entropy alone, tuned with as many trials"),
        Arm("oe", "baseline", {"outliers.weight": Float(0.1, 2.0, log=True)}, "oe", search=True,
            about="outlier exposure on the same outliers, tuned with as many trials, scored by energy"),
        Arm("pretrained", "baseline", {}, "pretrained", about="the classifier before any fine-tuning"),
        Arm("no_energy", "control", {"energy.lam": 0.0}, about="the winner without its energy terms"),
    ),
    headline=("test/fpr95_id_pos/near", "test/fpr95_id_pos/unknown", "test/fpr95_id_pos/far",
              "test/msp/fpr95_id_pos/far", "test/auroc/far", "test/auroc/near", "test/accuracy/clean"),
    effects=("energy.m_in_offset", "energy.gap_factor", "energy.m_in", "energy.gap", "energy.lam"),
    max_epochs=5,
    first_rung=2,  # after one epoch the order says little: benchmarks/README.md
    validation={"score": "energy", "groups": ("clean", "ood")},
    protocol={"score": "energy", "groups": ("clean", "calibration", "ood", "robust_ood")},
    profiles=(
        Profile("cifar10", WRN | {"energy.m_in": Float(-31.0, -10.0), "energy.gap": Float(5.0, 25.0)},
                10, protocol=AT_8),
        Profile("cifar100", WRN | {"energy.m_in": Float(-35.0, -14.0), "energy.gap": Float(5.0, 25.0)},
                10, protocol=AT_8),
        Profile("food101", FOOD, 10, protocol=AT_8),
    ),
)  # fmt: skip
