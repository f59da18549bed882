"""Which outlier temperature sigma and which attack make adversarial outlier exposure work best?

Claim: outliers that are pushed towards the inliers before outlier exposure (AOE) give an outlier score that
withstands attacks better than plain outlier exposure (OE), at no loss of accuracy, and sigma, the scale
of the generator's latent, decides what kind of OOD data this helps with.

Source: Adversarial Outlier Exposure (workshop paper and code, 2025) for the method; Hendrycks et al. 2019
for OE. Judged by the maximum softmax probability: OE flattens the softmax and leaves the energy's level free.

The CIFAR profiles read published outliers: give `--set outliers.path=FOLDER` with samples-<sigma>.npz.
"""

from search_spaces.aoe_profiles import cifar
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Arm, Floor, Objective, Study

STUDY = Study(
    name="aoe_sigma",
    question="Which outlier sigma and which attack make adversarial outlier exposure work best?",
    claim="AOE beats a tuned plain OE in robust AUROC on near-OOD data at equal accuracy",
    source="Adversarial Outlier Exposure (2025); Hendrycks et al., Outlier Exposure (ICLR 2019)",
    method="aoe",
    dataset="digits-open",
    space={
        "outliers.sigma": Float(0.25, 4.0, log=True),
        "outliers.weight": Float(0.1, 2.0, log=True),
        "attack.name": Choice(("fgsm", "pgd", "mifgsm", "eba", "eba_pgd")),
        "attack.epsilon": Float(0.02, 0.25, log=True),
        "attack.steps": Int(2, 10),
        "lr": Float(3e-4, 1e-2, log=True),
        "outliers.generator": "pca",
        "outliers.count": 1000,
        "batch_size": 64,
    },
    objectives=(Objective("val/robust_auroc_0.1/near"),),
    floors=(Floor("val/accuracy/clean", below_reference=0.01),),
    arms=(
        Arm(
            "oe",
            "baseline",
            {"attack.name": "none"},
            search=True,
            drop=("attack.epsilon", "attack.steps"),
            about="plain outlier exposure, tuned with as many trials",
        ),
        Arm("no_attack", "control", {"attack.name": "none"}, about="the winner without its attack"),
        Arm("signnoise", "control", {"attack.name": "signnoise"}, about="random signs of the same epsilon"),
        Arm("gauss", "control", {"attack.name": "gauss"}, about="Gaussian noise of the same epsilon"),
    ),
    headline=(
        "test/robust_auroc_0.1/near",
        "test/robust_auroc_0.1/unknown",
        "test/robust_auroc_0.1/far",
        "test/auroc/near",
        "test/fpr95_id_pos/far",
        "test/accuracy/clean",
    ),
    effects=("outliers.sigma", "attack.name", "attack.epsilon"),
    trials=20,
    max_epochs=9,
    validation={"score": "msp", "groups": ("clean", "ood", "robust_ood"), "steps": 10},
    protocol={"score": "msp"},
    profiles=cifar(),
)
