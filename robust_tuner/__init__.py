"""Python interface of robust-tuner: start and resume studies, evaluate checkpoints, read runs.

    import robust_tuner as rt

    run = rt.run("aoe_sigma", trials=20)
    print(run.answer)
    run.trials()                # a pandas DataFrame
    network = run.model()       # a torch.nn.Module

Everything the command line does goes the same way here: the same options under the same names, the same checks, the
same run folder. Importing this package imports neither torch nor Ray.
"""

from robust_tuner.errors import Interrupted, LeaseLost, StudyFailed, UsageError
from robust_tuner.launches import Evaluation, evaluate, load_run, resume, run
from robust_tuner.runs import Run, Trial
from search_spaces.domain import Choice, Float, Int
from search_spaces.study import Arm, Floor, Objective, Profile, Study
from tuner.base import environment

__version__ = environment.version("robust-tuner", absent="unknown")

__all__ = [
    "Arm",
    "Choice",
    "Evaluation",
    "Float",
    "Floor",
    "Int",
    "Interrupted",
    "LeaseLost",
    "Objective",
    "Profile",
    "Run",
    "Study",
    "StudyFailed",
    "Trial",
    "UsageError",
    "__version__",
    "evaluate",
    "load_run",
    "resume",
    "run",
]
