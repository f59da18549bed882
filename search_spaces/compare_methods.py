"""How do all methods compare at the same budget, on the same seeds, under the same final protocol?

Claim: adversarial outlier exposure leads in OOD detection under attack, and no method leads everywhere:
adversarial training, noise training, energy fine-tuning and outlier exposure each defend against what they
were made for. The table of arms is the answer; the verdict is about the first column.

Every method gets as many trials over the same learning rates (and, where it has one, the same attack radii) and
as many epochs; what else it has stays at its default. One objective for all: OOD detection under attack.
"""

from search_spaces.domain import Float
from search_spaces.study import Arm, Floor, Objective, Study


def _arm(name: str, about: str, **overrides: object) -> Arm:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return Arm(name, "baseline", settings, method=name, search=True, about=about)  # type: ignore[arg-type]


STUDY = Study(
    name="compare_methods",
    question="How do all methods compare at the same budget, seeds and protocol?",
    claim="AOE leads every other method in robust AUROC on near-OOD data",
    source="each method's own paper; protocol of docs/protocol.md",
    method="aoe",
    dataset="digits-open",
    space={"lr": Float(1e-3, 1e-2, log=True), "attack.epsilon": Float(0.05, 0.25, log=True), "batch_size": 64},
    objectives=(Objective("val/robust_auroc_0.1/near"),),
    floors=(Floor("val/accuracy/clean", at_least=0.9),),
    arms=(
        _arm("standard", "no defence"),
        _arm("oe", "outlier exposure"),
        _arm("energy", "energy fine-tuning", outliers__ratio=1.0),
        _arm("noise_augment", "Gaussian noise", kind="gaussian"),
        _arm("ant", "adversarial noise training"),
        _arm("pgd_at", "adversarial training"),
        _arm("trades", "TRADES"),
        _arm("mart", "MART"),
        _arm("dyart", "margin gradients"),
        _arm("robgan", "joint generator, discriminator and attacker", rounds=4),
    ),
    headline=("test/robust_auroc_0.1/near", "test/auroc/near", "test/auroc/far", "test/accuracy/robust_0.15",
              "test/accuracy/corrupted", "test/accuracy/clean"),
    effects=("lr", "attack.epsilon"),
    trials=4,
    max_epochs=9,
    first_rung=9,
    validation={"score": "msp", "groups": ("clean", "ood", "robust_ood"), "steps": 5},
    protocol={"score": "msp"},
)  # fmt: skip
