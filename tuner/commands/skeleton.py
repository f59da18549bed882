"""`launch.py --new study|method DIR`: writes a study or a method of the user's own that runs as it is, and its test."""

import keyword
import re
import shlex
import unicodedata
from pathlib import Path

import search_spaces
from trainables.base.errors import unknown
from trainables.base.modules import names_in
from tuner.base.errors import UsageError
from tuner.base.program import program

STUDY = '''"""QUESTION: what should the study find out?"""

from robust_tuner import Arm, Float, Floor, Objective, Study

STUDY = Study(
    name="NAME",
    question="How heavy should the outlier term of outlier exposure be?",
    claim="Outlier exposure beats plain training in AUROC on near-OOD data at equal accuracy",
    source="Hendrycks et al. 2019",
    method="oe",  # --help and docs/options.md: the methods and their options; or a class of your own
    dataset="digits-open",
    space={  # a range is searched, any other value is fixed
        "outliers.weight": Float(0.05, 2.0, log=True),
        "lr": Float(1e-3, 1e-2, log=True),
    },
    objectives=(Objective("val/auroc/near"),),
    floors=(Floor("val/accuracy/clean", at_least=0.9),),
    arms=(Arm("standard", "baseline", method="standard", drop=("outliers.weight",), about="no outliers"),),
    headline=("test/auroc/near", "test/accuracy/clean"),  # the first is the claim's
    effects=("outliers.weight",),
    trials=12,
    max_epochs=9,
    validation={"score": "msp", "groups": ("clean", "ood")},
    protocol={"score": "msp", "groups": ("clean", "calibration", "ood")},
)
'''

STUDY_TEST = '''"""The study can be planned: every name, range and metric in it is known."""

from pathlib import Path

from tuner.cli import run


def test_the_study_has_a_plan():
    assert run(["--study", str(Path(__file__).with_name("study.py")), "--dry-run"]) == 0
'''

METHOD = '''"""CLASS: what does the method do? With a study that tunes it."""

from dataclasses import dataclass

from torch.nn import functional as F

from robust_tuner import Arm, Float, Objective, Study
from trainables.base.schema import option
from trainables.methods.standard import Standard
from trainables.options.classifiers import StandardOptions


@dataclass(frozen=True)
class CLASSOptions(StandardOptions):
    """Cross-entropy with smoothed labels."""

    smoothing: float = option(0.1, "share of each label that is spread over all classes", low=0.0, high=0.9)


class CLASS(Standard):
    """Standard training with another loss; `trainables.training.method.Method` is the whole interface."""

    options: CLASSOptions

    def loss(self, images, labels):
        """Return the loss of a batch: images (n, c, h, w) in [0, 1], labels (n,)."""
        return F.cross_entropy(self.network(images), labels, label_smoothing=self.options.smoothing)


STUDY = Study(
    name="NAME",
    question="How much label smoothing is best?",
    claim="Label smoothing is more accurate than plain training",
    source="Szegedy et al. 2016",
    method=CLASS,
    dataset="digits-open",
    space={"smoothing": Float(0.01, 0.5, log=True), "lr": Float(1e-3, 1e-2, log=True)},
    objectives=(Objective("val/accuracy/clean"),),
    arms=(Arm("standard", "baseline", {"smoothing": 0.0}, about="labels as they are"),),
    headline=("test/accuracy/clean", "test/auroc/near"),
    effects=("smoothing",),
    trials=12,
    max_epochs=9,
    validation={"groups": ("clean", "ood")},
    protocol={"groups": ("clean", "calibration", "ood")},
)
'''

METHOD_TEST = '''"""The method keeps the contract that studies rely on, and its study can be planned."""

from pathlib import Path

from trainables.testing import MethodContract
from tuner.cli import run

FILE = str(Path(__file__).with_name("method.py"))


class TestCLASS(MethodContract):
    method = f"{FILE}:CLASS"


def test_the_study_has_a_plan():
    assert run(["--study", FILE, "--dry-run"]) == 0
'''

#: {what is new: {file: its text}}; pytest wants tests in several folders to have names of their own
SKELETONS = {
    "study": {"study.py": STUDY, "test_NAME_study.py": STUDY_TEST},
    "method": {"method.py": METHOD, "test_NAME_method.py": METHOD_TEST},
}


def write_skeleton(kind: str, folder: str) -> str:
    """Write the files of a study or a method into a folder, which is made if need be; return what to do next.

    Raises:
        UsageError: an unknown kind, a file that is there already, or a folder that cannot be written to.
    """
    if kind not in SKELETONS:
        raise UsageError(f"--new {kind}: {unknown('skeleton', kind, SKELETONS)}")
    where = Path(folder)
    name = name_from(where.resolve().name)
    files = {where / file.replace("NAME", name): text for file, text in SKELETONS[kind].items()}
    for path in files:
        if path.exists():
            raise UsageError(
                f"--new {kind} {folder}: {path} exists, and nothing is overwritten; name another folder"
            )
    try:
        where.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text.replace("CLASS", class_name(name)).replace("NAME", name))
    except OSError as error:
        raise UsageError(f"--new {kind} {folder}: {error.strerror or error}") from error
    (first, test), command = files, shlex.join(program())
    return "\n".join(
        [
            f"wrote {first} and {test}; they run as they are:",
            f"  python -m pytest {test}",
            f"  {command} --study {first} --dry-run",
            f"  {command} --study {first} --trials 2 --max-epochs 2 --confirm-seeds 1",
        ]
    )


def name_from(folder: str) -> str:
    """Return the name of a study that a folder's name suggests, of letters a to z, digits and underscores.

    Example:
        "Übung 2" -> "ubung_2"
    """
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain)[:60].strip("_") or "mine"
    taken = class_name(name) in names_in(METHOD, "method.py") or keyword.iskeyword(class_name(name))
    return f"my_{name}" if not name[0].isalpha() or name in search_spaces.NAMES or taken else name


def class_name(name: str) -> str:
    """Return the name of the class of a method: "label_smoothing" -> "LabelSmoothing"."""
    return name.title().replace("_", "")
