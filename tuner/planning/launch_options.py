"""The options of `launch.py`, each declared once: typed fields that the parser, the plan, submit and resume share."""

from dataclasses import dataclass
from functools import cache

from search_spaces.study import EPOCHS, Floor
from trainables.base.storage import absolute_path
from trainables.data.types.datasets import DATASETS
from trainables.options.networks import NETWORKS
from tuner.planning import metric_values as metrics
from tuner.planning import option_values as values
from tuner.planning import suggestions
from tuner.planning.option import Option, option, options_of, switch
from tuner.planning.task_options import ACTION, LOCATION, ONCE, READ, RUN, STORED, TaskOptions
from tuner.search.sampler_specs import SAMPLERS
from tuner.search.schedulers import SCHEDULERS

#: headings of --help
BUDGET, SEARCH, DATA = "budget", "search", "data"
JUDGED_BY = "what trials are judged by (docs/choosing_radii.md)"
MACHINE, STORAGE = "machine", "storage"

count = values.whole_number(at_least=1)


@dataclass(frozen=True)
class LaunchOptions(TaskOptions):
    """What a command line asks for; None or empty where it says nothing."""

    # -- budget ----------------------------------------------------------------------------------------------
    trials: int | None = option(
        BUDGET,
        STORED,
        "trials of the search (and of each tuned baseline)",
        metavar="N",
        read=count,
        not_with=("train",),
    )
    max_epochs: int | None = option(
        BUDGET, STORED, "epochs of a trial that is not stopped early", metavar="N", read=count
    )
    time_budget_s: float | None = option(
        BUDGET,
        STORED,
        "start no trial after this time: 90s, 30m, 2h",
        flag="--time-budget",
        metavar="TIME",
        read=values.duration_s,
        not_with=("train",),
    )
    epoch_budget: int | None = option(
        BUDGET,
        STORED,
        "start no trial once the searches have trained so many",
        metavar="N",
        read=count,
        not_with=("train",),
    )
    gpu_budget_s: float | None = option(
        BUDGET,
        STORED,
        "start no trial after so many GPU-seconds (CPU-seconds without a GPU): 2h",
        flag="--gpu-budget",
        metavar="TIME",
        read=values.duration_s,
        not_with=("train",),
    )
    confirm_seeds: int | None = option(
        BUDGET,
        STORED,
        "fresh seeds of the confirm stage",
        metavar="N",
        read=values.whole_number(at_least=1, hint="leave the stage out with --stages"),
    )
    seed: int | None = option(
        BUDGET,
        STORED,
        "seed of the study (default: 0)",
        metavar="N",
        read=values.whole_number(at_least=0, at_most=2**63 - 1),
    )

    # -- search ----------------------------------------------------------------------------------------------
    sampler: str | None = option(
        SEARCH,
        STORED,
        f"chooses the configurations: {', '.join(SAMPLERS.names)} (default: the study's)",
        metavar="NAME",
        not_with=("train",),
        suggests=suggestions.names_of(SAMPLERS),
    )
    scheduler: str | None = option(
        SEARCH,
        STORED,
        f"stops trials early: {', '.join(SCHEDULERS.names)} (default: the study's)",
        metavar="NAME",
        not_with=("train",),
        suggests=suggestions.names_of(SCHEDULERS),
    )
    learning_curves: bool = switch(
        SEARCH, STORED, "validate after every epoch; by default where trials are compared and after the last"
    )
    warm_start: tuple[str, ...] = option(
        SEARCH,
        STORED,
        "let the sampler start with the trials of earlier runs",
        metavar="RUN[,RUN]",
        read=values.run_names,
        default=(),
        not_with=("train",),
        suggests=suggestions.listed(suggestions.runs),
    )

    # -- what trials are judged by ----------------------------------------------------------------------------
    objective: tuple[str, ...] = option(
        JUDGED_BY,
        STORED,
        "validation metric to search for in place of the study's, in its own direction; the first decides",
        metavar="METRIC[,METRIC]",
        read=metrics.validation_metrics,
        default=(),
        not_with=("train",),
    )
    epoch: str | None = option(
        JUDGED_BY,
        STORED,
        "which epoch of a trial is judged and evaluated: last, or best on validation data in the second half of the "
        "schedule (default: the study's)",
        metavar="|".join(EPOCHS),
        read=values.one_of(EPOCHS),
        suggests=suggestions.any_of(*EPOCHS),
    )
    floor: tuple[Floor | None, ...] = option(
        JUDGED_BY,
        STORED,
        "what a winner must reach, in place of the study's floors: 'accuracy/clean>=0.9', "
        "'accuracy/clean>=pretrained-0.02', or none",
        metavar="METRIC>=VALUE",
        read=metrics.floor,
        repeated=True,
        default=(),
        not_with=("train",),
    )
    eval_epsilon: tuple[float, ...] = option(
        JUDGED_BY,
        STORED,
        "Linf radii of the attacks that judge, in place of the data set's: 2/255,4/255; the first is searched for",
        metavar="EPSILON[,EPSILON]",
        read=metrics.radii,
        default=(),
        goes_with=(*RUN, "evaluate"),
    )

    # -- data ------------------------------------------------------------------------------------------------
    dataset: str | None = option(
        DATA,
        STORED,
        f"data set (default: the study's built-in one): {', '.join(DATASETS.names)}; npz:FILE or "
        "./file.py:function for data of your own (docs/own_data.md)",
        metavar="NAME",
        goes_with=(*RUN, "evaluate", "export", "check_data"),
        suggests=suggestions.names_of(DATASETS),
    )
    data_dir: str | None = option(
        DATA,
        LOCATION,
        "folder of the data set's files",
        metavar="DIR",
        read=absolute_path,
        goes_with=(*RUN, "evaluate", "check_data", "export"),
    )
    settings: tuple[str, ...] = option(
        DATA,
        STORED,
        "fix or re-range a parameter: attack.epsilon=0.03, 'lr=loguniform(1e-4,1e-1)'; with --evaluate: change a "
        "field of the protocol: steps=50, robust_epsilons=4/255,8/255",
        flag="--set",
        metavar="KEY=VALUE",
        repeated=True,
        default=(),
        goes_with=(*RUN, "evaluate"),
        suggests=suggestions.settings,
    )
    allow_duplicates: bool = switch(
        DATA, STORED, "train although images of the tests stand among those that are trained on"
    )
    allow_changed_code: bool = switch(
        DATA,
        ONCE,
        "with --resume: go on although your own code or images have changed; with --evaluate: run the code that the "
        "file names",
        goes_with=("resume", "evaluate"),
    )
    network: str | None = option(
        DATA,
        ONCE,
        "with --evaluate: the file holds weights alone, of this architecture: a name of docs/options.md, "
        "torchvision:NAME, timm:NAME, module:factory or ./file.py:factory",
        metavar="NAME",
        goes_with=("evaluate",),
        suggests=suggestions.names_of(NETWORKS),
    )

    # -- machine ---------------------------------------------------------------------------------------------
    gpus_per_trial: float | None = option(
        MACHINE,
        STORED,
        "share of a GPU, or auto (default): measured at start where there is a GPU",
        metavar="auto|GPUS",
        read=values.gpu_share,
        suggests=suggestions.any_of("auto"),
    )
    cpus_per_trial: int | None = option(
        MACHINE,
        STORED,
        "CPUs and threads of a trial (default: 1)",
        metavar="N",
        read=count,
        goes_with=(*RUN, "evaluate"),
    )
    epoch_timeout_s: float | None = option(
        MACHINE,
        STORED,
        "a trial that does not report for this long has hung: it fails, its worker is ended "
        "(default: ten times the longest epoch so far, at least 10m)",
        flag="--epoch-timeout",
        metavar="TIME",
        read=values.duration_s,
    )
    concurrency: int | None = option(
        MACHINE,
        STORED,
        "workers at a time, a trial or a pack in each (default: as many as fit)",
        metavar="N",
        read=count,
    )
    pack: int | None = option(
        MACHINE,
        STORED,
        "trials side by side in one process, up to K (docs/packing.md), or auto (default): measured on a GPU, "
        "off without",
        metavar="auto|K|off",
        read=values.requested_pack,
        suggests=suggestions.any_of("auto", "off"),
    )
    address: str | None = option(
        MACHINE,
        LOCATION,
        "Ray cluster to join: auto or HOST:PORT (default: start one here); with --submit the job server's URL",
        metavar="ADDRESS",
        read=values.address,
        variables=("TUNER_ADDRESS", "RAY_ADDRESS"),
        local=True,  # the job joins the cluster that it runs on
        goes_with=(*RUN, "submit"),
        suggests=suggestions.any_of("auto"),
    )
    submit: bool = switch(
        MACHINE,
        ONCE,
        "run this command on the cluster behind --address (default: http://127.0.0.1:8265) and follow it",
        local=True,
        goes_with=(*RUN, "status", "why", "stop", "evaluate"),  # what writes a file would leave it there
    )
    driver_on: str | None = option(
        MACHINE,
        ONCE,
        "with --submit: node that drives the study (default: the head)",
        metavar="IP",
        local=True,
        goes_with=("submit",),
    )

    # -- storage ---------------------------------------------------------------------------------------------
    run_name: str | None = option(
        STORAGE,
        STORED,
        "name of the run and of its folder (default: <study>-<UTC time>)",
        metavar="RUN",
        read=values.run_name,
        goes_with=("study",),
    )
    storage: str = option(
        STORAGE,
        LOCATION,
        "root of the run folders (default: runs)",
        metavar="DIR|URI",
        variables=("TUNER_STORAGE",),
        default="runs",
        goes_with=(*RUN, *READ, "compare", "watch", "evaluate", "export"),
    )
    study_storage: str | None = option(
        STORAGE,
        LOCATION,
        "database of the study (default: in the run folder)",
        metavar="URL",
        read=values.database_url,
        variables=("TUNER_STUDY_STORAGE",),
        goes_with=(*RUN, *READ, "compare", "watch", "export"),
    )
    tracking_uri: str | None = option(
        STORAGE,
        LOCATION,
        "MLflow store (default: sqlite:///mlflow.db)",
        metavar="URI",
        goes_with=(*RUN, "evaluate", "export"),
    )

    @property
    def action(self) -> str:
        """Return the field of what is to be done: of the first action that is asked for, "study" to start one."""
        actions = (name for name, declared in launch_options().items() if declared.role is ACTION)
        return next((name for name in actions if getattr(self, name) not in (None, False)), "study")


@cache
def launch_options() -> dict[str, Option]:
    """Return {field of LaunchOptions: its option}."""
    return options_of(LaunchOptions)
