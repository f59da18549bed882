"""The authors' settings of adversarial outlier exposure and of energy fine-tuning, on CIFAR-10 and CIFAR-100."""

from search_spaces.domain import Choice
from search_spaces.paper_setting import NOT_KNOWN, PaperPreset, PaperSetting, other, same, words

CODE, PAPER = "code", "paper"
AOE_SOURCE = "Adversarial Outlier Exposure (workshop paper and code, 2025)"
ENERGY_SOURCE = "Liu et al., Energy-based Out-of-distribution Detection (NeurIPS 2020), and its code"
SIGMAS = Choice(tuple(float(sigma) for sigma in range(11)))
AOE_CLAIM = "AOE beats plain OE in robust AUROC on near-OOD data, both as published"
AOE_ARMS = {
    "oe": "plain outlier exposure, as published",
    "signnoise": "random signs of the same epsilon",
    "gauss": "Gaussian noise of the same epsilon",
}
ENERGY_CLAIM = (
    "energy fine-tuning, as published, lowers the FPR95 on near-OOD data below a cross-entropy continuation"
)
ENERGY_ARMS = {
    "ce": "cross-entropy alone, by the same recipe",
    "oe": "outlier exposure on the same outliers, by the same recipe, scored by energy",
    "pretrained": "the classifier before any fine-tuning",
    "no_energy": "the same without the energy terms",
}
EPSILONS = Choice(tuple(step / 10 for step in range(1, 11)))

#: The network that both fine-tune.
_WRN: tuple[PaperSetting, ...] = (
    same("network", "wrn_40_2", CODE),
    same("dropout", 0.3, CODE),
    same("optimizer", "sgd", CODE, "SGD, Nesterov"),
    same("momentum", 0.9, CODE),
    same("weight_decay", 5e-4, CODE),
    same("schedule", "cosine", CODE, "cosine per step to 1e-6"),
    same("batch_size", 128, CODE),
    same("augment", "crop_flip", CODE, "flip, crop of 32 with padding 4"),
    same("epochs", 10, CODE),
    same("pretrain.epochs", 100, CODE),
    same("pretrain.lr", 0.1, CODE),
    same("pretrain.optimizer", "sgd", CODE, "SGD, Nesterov"),
    same("pretrain.weight_decay", 5e-4, CODE),
    same("pretrain.schedule", "cosine", CODE),
    same("pretrain.batch_size", 128, CODE),
    same("pretrain.augment", "crop_flip", CODE),
    same("pretrain.dropout", 0.3, CODE),
    words(
        "start", "the published checkpoint of that recipe", "trained here by the recipe", CODE,
        "their file need not be there; --set pretrain.checkpoint=FILE takes it",
    ),
)  # fmt: skip

_AOE: tuple[PaperSetting, ...] = (
    *_WRN,
    same("lr", 5e-4, CODE, "5e-4 (older configurations 1e-3)"),
    same("attack.name", "eba", PAPER),
    same("attack.steps", 20, CODE, "20, of the iterated attacks; EBA takes one"),
    same("attack.step_scale", 1.2, CODE, "step length 0.03, of the iterated attacks: 1.2 x 0.5 / 20"),
    same("attack.schedule", "constant", CODE),
    same("attack_bn", "train", CODE, "the attacked copy stays in train mode"),
    same("outlier_norm", "raw01", CODE, "outliers are not normalised"),
    same("outlier_clamp", False, CODE, "attacked outliers are not clamped"),
    same("shared_noise", True, CODE, "one noise image for a batch"),
    same("oe_reduction", "joint_mean", CODE, "mean over the joint batch"),
    same("outliers.generator", "npz", CODE, "GAN images in files"),
    same("outliers.count", 9984, CODE),
    same("outliers.weight", 0.5, CODE),
    same("outliers.ratio", 1.0, CODE, "128 + 128 (some configurations 64 + 64)"),
    same("outliers.augment", False, CODE, "outliers are not augmented"),
    words(
        "order of outliers", "one fixed order, 50,000 rows of repeated images, an epoch may end early",
        "reshuffled after each pass, no epoch ends early", CODE, "the pairs with inliers would be fixed by a fault",
    ),
    words(
        "normalisation in training", "deviations .2023, .1994, .2010; CIFAR-100: its own, after CIFAR-10's",
        "the data set's, in training and test", CODE, "theirs differ between training, checkpoint and test",
    ),
    words(
        "gradient of pgd and mifgsm", "to the inliers, added to outliers", "to the outliers", CODE,
        "a fault; EBA, the paper's attack, has none",
    ),
    words(
        "attacked evaluation", "one step up the cross-entropy of class 1, pooled over epsilons 0 to 1",
        "PGD on the score itself, each radius alone", CODE, "pooled numbers are of no epsilon",
    ),
    words(
        "size of OOD images", "tensors resized to 32, noise drawn at 224", "pictures resized to 32, noise drawn at 32",
        CODE, "theirs depends on the version of torchvision",
    ),
    words("seed", "1", "--seed, and fresh ones in the confirm stage", CODE, "one seed has no interval"),
)  # fmt: skip

_AOE_SIGMA: tuple[PaperSetting, ...] = (
    *_AOE,
    same("attack.epsilon", 0.5, PAPER, "0.5 in units of the network's input"),
    same("outliers.sigma", 2.0, PAPER, "2 (swept from 0 to 10)", SIGMAS),
)
_AOE_ATTACKS: tuple[PaperSetting, ...] = (
    *_AOE,
    same("attack.epsilon", 0.5, PAPER, "0.5 in units of the network's input (swept from 0 to 1)", EPSILONS),
    same("outliers.sigma", 2.0, PAPER),
    same("inlier_attack.name", "none", CODE, "no attack on inliers"),
    same("inlier_attack.epsilon", 0.0, CODE, "no attack on inliers"),
)


def _energy(m_in: float, gap: float) -> tuple[PaperSetting, ...]:
    return (
        *_WRN,
        same("lr", 1e-3, CODE),
        same("energy.margins", "fixed", CODE),
        same("energy.m_in", m_in, CODE),
        same("energy.gap", gap, CODE, f"m_out {m_in + gap:g}"),
        same("energy.lam", 0.1, CODE),
        same("energy.trainable", "all", CODE),
        same("outliers.ratio", 2.0, CODE, "128 + 256"),
        same("outliers.weight", 1.0, CODE, "both hinges alike"),
        same("outliers.augment", True, CODE, "outliers are flipped and cropped"),
        other(
            "outliers.generator", "80 Million Tiny Images without CIFAR's", "images300k", CODE,
            "withdrawn by its authors; 300K Random Images are the usual substitute",
        ),
        other("outliers.count", "79,302,017", 300_000, CODE, "as many as there are"),
        same("oe: outliers.weight", 0.5, "Hendrycks et al. 2019"),
        words(
            "order of outliers", "not shuffled, from a random offset in each epoch", "reshuffled after each pass", CODE,
            "the set is small enough to be gone through",
        ),
        words(
            "OOD test sets", "textures, SVHN, Places365, LSUN crop and resize, iSUN",
            "those of docs/data.md", CODE, "SVHN tunes here; the others are sets of their own, see docs/data.md",
        ),
        words(
            "number of OOD images", "a fifth of the ID test images, mean over ten draws", "all of each set", CODE,
            "AUPR depends on it; AUROC and FPR95 do not",
        ),
        words("lr of the oe arm", NOT_KNOWN, "that of the energy", CODE, "OE's own recipe is not at hand"),
    )  # fmt: skip


OOD = (
    *(
        PaperPreset(study, dataset, AOE_SOURCE, AOE_CLAIM, settings, AOE_ARMS)
        for study, settings in (("aoe_sigma", _AOE_SIGMA), ("aoe_attacks", _AOE_ATTACKS))
        for dataset in ("cifar10", "cifar100")
    ),
    *(
        PaperPreset("energy_margins", dataset, ENERGY_SOURCE, ENERGY_CLAIM, settings, ENERGY_ARMS)
        for dataset, settings in (("cifar10", _energy(-23.0, 18.0)), ("cifar100", _energy(-27.0, 22.0)))
    ),
)
