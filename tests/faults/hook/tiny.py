"""Seconds of training, with everything that a study has: a pretrained classifier, two searches, a floor, a control."""

from search_spaces.domain import Choice, Float
from search_spaces.study import Arm, Floor, Objective, Study

CHEAP = {"score": "msp", "scores": ("msp",), "groups": ("clean", "ood"), "max_images": 60}

STUDY = Study(
    name="tiny",
    question="Is anything lost?",
    claim="AOE beats a tuned plain OE",
    source="none",
    method="aoe",
    dataset="digits-open",
    space={
        "attack.epsilon": Float(0.02, 0.25, log=True),
        "attack.name": Choice(("fgsm", "pgd")),
        "attack.steps": 1,
        "lr": Float(3e-4, 1e-2, log=True),
        "outliers.count": 60,
        "pretrain.epochs": 1,
        "dropout": 0.2,
        "batch_size": 128,
    },
    objectives=(Objective("val/auroc/all"),),
    floors=(Floor("val/accuracy/clean", below_reference=0.5),),
    arms=(
        Arm("oe", "baseline", {"attack.name": "none"}, search=True, drop=("attack.epsilon",)),
        Arm("no_attack", "control", {"attack.name": "none"}),
    ),
    headline=("test/auroc/near", "test/accuracy/clean"),
    effects=("attack.epsilon",),
    trials=3,
    max_epochs=3,
    confirm_seeds=1,
    validation=CHEAP,
    protocol=CHEAP,
)
