"""The CIFAR settings that the AOE studies share: network, schedule and outliers of the AOE code.

Outliers are published files: `--set outliers.path=FOLDER` with samples-0.5.npz, samples-1.0.npz, samples-2.0.npz and
samples-4.0.npz. Radii are in pixel units; the code's 0.5 in network-input units is about 31/255.
"""

from search_spaces.domain import Choice, Float, Setting
from search_spaces.study import Objective, Profile

WRN: dict[str, Setting] = {
    "network": "wrn_40_2", "dropout": 0.3, "optimizer": "sgd", "weight_decay": 5e-4, "schedule": "cosine",
    "batch_size": 128, "augment": "crop_flip", "lr": Float(1e-5, 1e-2, log=True),
    "outliers.generator": "npz", "outliers.sigma": Choice((0.5, 1.0, 2.0, 4.0)), "outliers.count": 9984,
    "attack.epsilon": Float(1 / 255, 64 / 255, log=True),
    "pretrain.epochs": 100, "pretrain.lr": 0.1, "pretrain.optimizer": "sgd", "pretrain.weight_decay": 5e-4,
    "pretrain.schedule": "cosine", "pretrain.batch_size": 128, "pretrain.augment": "crop_flip",
}  # fmt: skip


def cifar(**more: Setting) -> tuple[Profile, ...]:
    """Return the profiles of CIFAR-10 and CIFAR-100; `more` with "__" for the dot."""
    settings = WRN | {key.replace("__", "."): value for key, value in more.items()}
    return tuple(
        Profile(
            dataset,
            settings,
            max_epochs=10,
            validation={"ood_epsilons": (8 / 255,), "max_images": 1024},
            protocol={"ood_epsilons": (8 / 255,), "robust_epsilons": (8 / 255,)},
            objectives=(Objective("val/robust_auroc_0.03137/near"),),
            headline=(
                "test/robust_auroc_0.03137/near",
                "test/robust_auroc_0.03137/far",
                "test/auroc/near",
                "test/fpr95_id_pos/far",
                "test/accuracy/clean",
            ),
        )
        for dataset in ("cifar10", "cifar100")
    )
