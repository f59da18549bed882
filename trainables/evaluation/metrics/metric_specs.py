"""Every metric that is measured: label, direction, unit and range, by family. No torch.

A metric's full name is its split and its name: "test/auroc/near", "val/accuracy/clean", "train/loss". A family's name
holds parameters in braces and optional parts in brackets: "[{score}/]auroc/{set}" is "auroc/near" and
"energy/auroc/near". Direction, labels, formats and the table in docs/protocol.md come from here: a new metric is one
spec and the code that computes it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from trainables.base.errors import InputError, unknown
from trainables.base.registry import Registry
from trainables.evaluation.metrics.metric_family import (
    EPOCH,
    TRAINING,
    Direction,
    MetricSpec,
    Unit,
    in_words,
    ood_family,
    range_text,
    robust_ood_family,
)
from trainables.evaluation.metrics.protocol import GROUPS, epsilon_name

_SPLIT_LABELS = {"val": "validation ", "train": "training ", "test": "", "": ""}


@dataclass(frozen=True)
class Metric:
    """A metric's full name, taken apart.

    Attributes:
        name: "test/robust_auroc_0.1/near".
        split: "test"; "" for the costs of an epoch.
        spec: its family.
        parameters: {"epsilon": "0.1", "set": "near"}.
    """

    name: str
    split: str
    spec: MetricSpec
    parameters: Mapping[str, str] = field(hash=False)

    def parameter_label(self, parameter: str) -> str:
        """Return one parameter in words: "near OOD"."""
        return in_words(parameter, self.parameters[parameter])

    def at_radius(self, epsilon: float) -> str:
        """Return the name of the same metric at another radius: "test/robust_auroc_0.05/near"."""
        old = re.escape(self.parameters["epsilon"])
        return re.sub(rf"_{old}(?=/|$)", f"_{epsilon_name(epsilon)}", self.name, count=1)

    @property
    def label(self) -> str:
        """Return it in words: "robust AUROC (ε 0.1), near OOD", "validation clean accuracy"."""
        return _SPLIT_LABELS[self.split] + self.spec.label_of(**self.parameters)


def find_metric(name: str) -> Metric:
    """Return what a metric's full name says; training terms that have no spec are those of the user's own methods.

    Raises:
        InputError: no family has metrics of this name, or not on this split; with the nearest family.
    """
    return _parsed(name, METRICS.names)


@lru_cache(maxsize=4096)
def _parsed(name: str, families: tuple[str, ...]) -> Metric:
    """Return a metric taken apart; a report asks for the same few names for each of a thousand trials."""
    head, _, tail = name.partition("/")
    specs = [METRICS[family] for family in families]
    for split, rest in ((head, tail), ("", name)):
        for spec in specs:
            if split in spec.splits:
                parameters = spec.match(rest)
                if parameters is not None:
                    return Metric(name, split, spec, parameters)
    if head == "train" and re.fullmatch(r"[\w-]+", tail):
        return Metric(name, head, _own_term(tail), {})
    split = head if any(head in spec.splits for spec in specs) else "val"
    known = [f"{split}/{_simplest(spec.name)}" for spec in specs if split in spec.splits]
    raise InputError(unknown("metric", name, known))


def _own_term(name: str) -> MetricSpec:
    """Return the spec of what a method of the user's own reports of an epoch."""
    about = "reported by a method of the user's own"
    words = name.replace("_", " ")
    return MetricSpec(name, words, Direction.NEITHER, TRAINING, about, Unit.NUMBER, -math.inf, math.inf)


def check_registered(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a measurement; InputError if one of them has no spec, so that none is shown wrongly."""
    for name in metrics:
        find_metric(name)
    return dict(metrics)


def metric_table() -> str:
    """Return the Markdown table of everything that `evaluation.measure` measures, as docs/protocol.md shows it."""
    rows = ["| metric | better | unit, range | what |", "|---|---|---|---|"]
    better = {Direction.MAXIMIZE: "larger", Direction.MINIMIZE: "smaller", Direction.NEITHER: "-"}
    for spec in METRICS:
        if spec.group in GROUPS:
            name = re.sub(r"{(\w+)}", r"<\1>", spec.name)
            unit = f"{spec.unit}, {range_text(spec)}"
            rows.append(f"| `{name}` | {better[spec.direction]} | {unit} | {spec.about} |")
    return "\n".join(rows)


def _simplest(template: str) -> str:
    """Return a family's name without its optional parts, as messages show it: "auroc/<set>"."""
    return re.sub(r"{(\w+)}", r"<\1>", re.sub(r"\[[^\]]*\]", "", template))


# -- the families ------------------------------------------------------------------------------------------

_UP, _DOWN, _NEITHER = Direction.MAXIMIZE, Direction.MINIMIZE, Direction.NEITHER
_FPR95_ID = "FPR95 (OOD accepted at 95 % ID)"
_FPR95_OOD = "FPR95 (ID flagged at 95 % OOD)"


def _ood(
    name: str, label: str, direction: Direction, heading: str, about: str, summary: bool = False
) -> MetricSpec:
    """Return a metric of outlier scores, by OOD set; also of every other score and detector."""
    return MetricSpec(
        ood_family(name),
        f"{label}[ by {{score}}], {{set}}",
        direction,
        "ood",
        about,
        heading=heading,
        summary=summary,
    )


def _robust_ood(
    name: str, label: str, direction: Direction, about: str, summary: bool = False, validated: bool = False
) -> MetricSpec:
    """Return a metric of outlier scores under attack, by side, radius and OOD set."""
    return MetricSpec(
        robust_ood_family(name),
        f"robust {label}[ by {{score}}] ([{{side}}]ε {{epsilon}}), {{set}}",
        direction,
        "robust_ood",
        about,
        summary=summary,
        validated=validated,
    )


def _term(
    name: str,
    direction: Direction,
    about: str,
    unit: Unit = Unit.NUMBER,
    low: float = -math.inf,
    high: float = math.inf,
) -> MetricSpec:
    """Return a mean over a training epoch."""
    return MetricSpec(name, name.replace("_", " "), direction, TRAINING, about, unit, low, high)


def _cost(name: str, label: str, about: str, unit: Unit) -> MetricSpec:
    return MetricSpec(name, label, _DOWN, EPOCH, about, unit, high=math.inf)


_MEASURED = [
    MetricSpec("accuracy/clean", "clean accuracy", _UP, "clean", "share of ID images classified right"),
    MetricSpec("accuracy/top5", "top-5 accuracy", _UP, "clean",
               "share of ID images whose class is among the five likeliest; from 100 classes on", summary=True),
    MetricSpec("calibration/ece", "expected calibration error", _DOWN, "calibration",
               "expected calibration error, 15 bins, every bin counted, a confidence of 1 too", summary=True),
    MetricSpec("accuracy/autoattack_{epsilon}", "accuracy under AutoAttack (ε {epsilon})", _UP, "robust",
               "share still right under AutoAttack (`pyautoattack`), and nothing else; version and warnings below",
               summary=True, validated=False),
    MetricSpec("accuracy/robust_{epsilon}", "accuracy under attack (ε {epsilon})", _UP, "robust",
               "share still right under PGD-20 on cross-entropy and on the margin, worst of both", summary=True),
    _ood("auroc", "AUROC", _UP, "AUROC",
         "of the study's own score (MSP or energy); `<score>/auroc/near` and so on of every score and detector"),
    _ood("aupr_in", "AUPR (ID)", _UP, "AUPR in", "average precision, ID positive; depends on the two counts"),
    _ood("aupr_out", "AUPR (OOD)", _UP, "AUPR out", "average precision, OOD positive; depends on the two counts"),
    _ood("fpr95_id_pos", _FPR95_ID, _DOWN, "FPR95 (OOD accepted)",
         "threshold accepts 95 % of ID, share of OOD accepted (energy papers)"),
    _ood("fpr95_ood_pos", _FPR95_OOD, _DOWN, "FPR95 (ID flagged)",
         "threshold detects 95 % of OOD, share of ID flagged (OE paper, OpenOOD)"),
    _robust_ood("auroc", "AUROC", _UP,
                "each OOD image attacked by PGD on the score itself, the lowest score seen counts; side `id`: the ID "
                "images attacked upwards instead; `both`: both sides attacked", summary=True, validated=True),
    _robust_ood("fpr95_id_pos", _FPR95_ID, _DOWN, "the same attack; near and far only"),
    _robust_ood("fpr95_ood_pos", _FPR95_OOD, _DOWN, "the same attack; near and far only"),
    MetricSpec("accuracy/corrupted", "accuracy on corruptions", _UP, "corrupted",
               "mean over corruptions and severities", summary=True),
    MetricSpec("accuracy/corrupted/off_noise", "accuracy on corruptions that are no noise", _UP, "corrupted",
               "mean over corruptions but Gaussian, shot and impulse noise", summary=True, validated=False),
    MetricSpec("accuracy/corrupted/top5", "top-5 accuracy on corruptions", _UP, "corrupted",
               "mean over corruptions and severities; from 100 classes on", summary=True, validated=False),
    MetricSpec("accuracy/corrupted/{corruption}", "accuracy on {corruption}", _UP, "corrupted",
               "mean over the severities of one corruption", validated=False),
    MetricSpec("mce", "mean corruption error (mCE, %)", _DOWN, "corrupted",
               "published ImageNet-C only: mean of error / AlexNet's error", Unit.PERCENT, 0, math.inf, summary=True,
               validated=False),
    MetricSpec("mce/off_noise", "mean corruption error without the noises (mCE, %)", _DOWN, "corrupted",
               "the same without the three noises", Unit.PERCENT, 0, math.inf, summary=True, validated=False),
    MetricSpec("learned_noise/median_rms", "median strength of learned noise that fools", _UP, "corrupted",
               "a noise generator is trained anew to fool the classifier; the smallest root mean square per value of "
               "its noise that changes an image's class, median over the test images, 1 where none does (Rusak 2020)",
               Unit.PIXELS, summary=True, validated=False),
    MetricSpec("learned_noise/accuracy", "accuracy under learned noise", _UP, "corrupted",
               "share still right under that noise at the strength the generator was trained at, `noise_rms`",
               summary=True, validated=False),
    MetricSpec("attack_check_{epsilon}/auroc_change", "robust AUROC, stronger attack minus this one (ε {epsilon})",
               _NEITHER, "robust_ood",
               "robust AUROC under more steps and restarts minus the reported one, same images; above 0 is a bad sign",
               low=-1.0, summary=True, validated=False),
]  # fmt: skip

_TRAINING_TERMS = [
    _term("loss", _DOWN, "what the optimiser minimises (of robgan, the discriminator)"),
    _term("ce", _DOWN, "cross-entropy of the clean images", low=0),
    _term("bce", _DOWN, "boosted cross-entropy of MART"),
    _term("divergence", _DOWN, "KL divergence of clean and attacked predictions (TRADES, MART)"),
    _term("uniformity", _DOWN, "cross-entropy of outliers to the uniform distribution (OE, AOE)"),
    _term("hinge_in", _DOWN, "squared hinge of the ID energies", low=0),
    _term("hinge_out", _DOWN, "squared hinge of the outlier energies", low=0),
    _term("m_in", _NEITHER, "energy margin of the ID images"),
    _term("m_out", _NEITHER, "energy margin of the outliers"),
    _term("gradient", _DOWN, "gradient penalty of GReg", low=0),
    _term("generator", _NEITHER, "what ANT's noise generator ascends"),
    _term("robust", _DOWN, "DyART's surrogate of the margins' cost"),
    _term("right", _UP, "share of images with a positive margin", Unit.FRACTION, 0, 1),
    _term("boundary", _NEITHER, "share of images with a boundary point", Unit.FRACTION, 0, 1),
    _term("margin", _UP, "mean distance to the boundary points", Unit.PIXELS, 0),
    _term("speed/negative", _DOWN, "share of images near the boundary whose margin shrinks", Unit.FRACTION, 0, 1),
    _term("speed/margin", _UP, "mean distance to the boundary of the images that are right", Unit.PIXELS, 0),
    _term("loss_g", _DOWN, "loss of robgan's generator"),
    _term("real", _DOWN, "the discriminator's loss on real images"),
    _term("fake", _DOWN, "the discriminator's loss on generated images"),
    _term("ce_real", _DOWN, "class head's cross-entropy on real images", low=0),
    _term("ce_fake", _DOWN, "class head's cross-entropy on generated images", low=0),
    _term("real_accuracy", _NEITHER, "share of real images taken for real", Unit.FRACTION, 0, 1),
    _term("fake_accuracy", _NEITHER, "share of generated images taken for generated", Unit.FRACTION, 0, 1),
    _term("logit_size", _NEITHER, "mean size of the real/fake logits", low=0),
    _term("gradient_norm", _NEITHER, "norm of the generator's gradient", low=0),
    _term("pixel_std", _NEITHER, "deviation of the generated images by pixel, in [-1, 1] units", low=0, high=1),
    _term("diversity", _UP, "distance between generated images over that between real ones", low=0),
    _term("won_steps", _DOWN, "steps in a row that the discriminator has won", low=0),
    _term("collapsed", _DOWN, "1 if a guard fired", low=0, high=1),
    _term("epsilon", _NEITHER, "radius of robgan's attack in this epoch", Unit.PIXELS, 0, 1),
    _term("judge_accuracy", _UP, "share of generated images that a separate classifier gives the class asked for",
          Unit.FRACTION, 0, 1),
    _term("judge_density", _NEITHER, "density of Naeem et al. 2020; about 1 for images like real ones", low=0),
    _term("judge_coverage", _UP, "coverage of Naeem et al. 2020", Unit.FRACTION, 0, 1),
    _term("judge_frechet", _DOWN, "Fréchet distance in the separate classifier's features", low=0),
]  # fmt: skip

_EPOCH_COSTS = [
    _cost("seconds", "training and validation time", "wall time of the epoch", Unit.SECONDS),
    _cost("seconds_validation", "validation time", "its part for validation", Unit.SECONDS),
    _cost("gpu_seconds", "GPU time", "wall time times the trial's share of a GPU", Unit.SECONDS),
    _cost("cpu_seconds", "CPU time", "wall time times the trial's CPUs, where it has no GPU", Unit.SECONDS),
    _cost(
        "passes", "forward passes per image", "training so far, in forward passes of one image", Unit.NUMBER
    ),
]

METRICS = Registry("metric", [*_MEASURED, *_TRAINING_TERMS, *_EPOCH_COSTS])
