"""Which attack on the outliers, which on the inliers and which schedule of epsilon make AOE work best?

Claim: attacking the outliers makes the OOD score withstand attacks, whichever surrogate is followed (the energy
or the outlier-exposure loss), where noise of the same size does not; attacking the inliers too is worth a look.

Source: the AOE code lists the attacks (FGSM, PGD, MI-FGSM, EBA, EPS_GAUSS); the iterated EBA, the attacks on
inliers and the random-sign control are additions. Judged by the maximum softmax probability.

The CIFAR profiles read published outliers: give `--set outliers.path=FOLDER` with samples-<sigma>.npz.
"""

from search_spaces.aoe_profiles import cifar
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Arm, Floor, Objective, Study

STUDY = Study(
    name="aoe_attacks",
    question="Which attack, on outliers and on inliers, and which schedule of epsilon make AOE work best?",
    claim="AOE with its best attack beats a tuned plain OE in robust AUROC on near-OOD data",
    source="Adversarial Outlier Exposure (2025); Hendrycks et al., Outlier Exposure (ICLR 2019)",
    method="aoe",
    dataset="digits-open",
    space={
        "attack.name": Choice(("fgsm", "pgd", "mifgsm", "eba", "eba_pgd")),
        "attack.epsilon": Float(0.02, 0.25, log=True),
        "attack.steps": Int(1, 10),
        "attack.schedule": Choice(("constant", "up", "down")),
        "inlier_attack.name": Choice(("none", "ce", "energy")),
        "inlier_attack.epsilon": Float(0.01, 0.1, log=True),
        "inlier_attack.steps": 3,
        "outliers.weight": Float(0.2, 2.0, log=True),
        "lr": Float(1e-3, 1e-2, log=True),
        "outliers.generator": "pca",
        "outliers.sigma": 1.0,
        "outliers.count": 1000,
        "batch_size": 64,
    },
    objectives=(Objective("val/robust_auroc_0.1/near"),),
    floors=(Floor("val/accuracy/clean", below_reference=0.01),),
    arms=(
        Arm("oe", "baseline", {"attack.name": "none", "inlier_attack.name": "none"}, search=True,
            drop=("attack.epsilon", "attack.steps", "attack.schedule", "inlier_attack.epsilon"),
            about="plain outlier exposure, tuned with as many trials"),
        Arm("no_attack", "control", {"attack.name": "none"}, about="the winner without its attack on outliers"),
        Arm("no_inlier_attack", "control", {"inlier_attack.name": "none"}, about="... without that on inliers"),
        Arm("signnoise", "control", {"attack.name": "signnoise"}, about="random signs of the same epsilon"),
        Arm("gauss", "control", {"attack.name": "gauss"}, about="Gaussian noise of the same epsilon"),
    ),
    headline=("test/robust_auroc_0.1/near", "test/robust_auroc_0.1/unknown", "test/robust_auroc_0.1/far",
              "test/accuracy/robust_0.15", "test/auroc/near", "test/accuracy/clean"),
    effects=("attack.name", "attack.epsilon", "attack.schedule", "inlier_attack.name", "inlier_attack.epsilon"),
    validation={"score": "msp", "groups": ("clean", "ood", "robust_ood"), "steps": 10},
    protocol={"score": "msp"},
    profiles=cifar(outliers__sigma=2.0),
)  # fmt: skip
