"""The options of `launch.py` that say what is to be done, the first part of `LaunchOptions`."""

from dataclasses import dataclass

from search_spaces.paper_presets import NAMES as PAPERS
from trainables.evaluation.metrics.presets import DEFAULT, PRESETS
from trainables.inference.format_specs import FORMATS
from trainables.options.methods import METHODS
from tuner.planning import option_values as values
from tuner.planning import suggestions
from tuner.planning.option import OptionRole, option, switch
from tuner.planning.plan import STAGES

#: the values of --resume, --status, --json and --check-data where they are given without one
NEWEST, EVERY, STDOUT, ASKED = "<newest>", "<every>", "<stdout>", "<as --dataset says>"

ACTION, STORED, LOCATION, ONCE = OptionRole
TASK = "what to do"  #: heading of --help
#: what an option goes with (see `Option.goes_with`) that is not only for starting and continuing runs
RUN = ("study", "resume")
READ = ("status", "why", "stop", "export_tables")


@dataclass(frozen=True)
class TaskOptions:
    """What is to be done, and of which study or run; None or empty where a command line says nothing."""

    study: str = option(
        TASK,
        STORED,
        "the study to run or resume: one of --list, or your own as ./file.py or module:NAME (docs/own_code.md)",
        default="",
        metavar="STUDY",
        goes_with=(*RUN, "status"),
        suggests=suggestions.studies,
    )
    method: str = option(
        TASK,
        STORED,
        f"a training method without a study: {', '.join(METHODS.names)}; with --train, or with ranges by --set",
        default="",
        metavar="METHOD",
        goes_with=RUN,
        not_with=("study",),
        suggests=suggestions.names_of(METHODS),
    )
    train: bool = switch(
        TASK,
        STORED,
        "train one configuration of a study or method and evaluate it: no search, no arms; --set gives the values",
        goes_with=("study",),
    )
    preset: str | None = option(
        TASK,
        STORED,
        f"the setting of the method's authors in place of the study's ranges: {', '.join(PAPERS)} (docs/papers.md)",
        metavar="NAME",
        read=values.preset,
        goes_with=("study",),
        not_with=("method",),
        suggests=suggestions.any_of(*PAPERS),
    )
    arms: tuple[str, ...] | None = option(
        TASK,
        STORED,
        "the arms that the winner is compared with, and their searches: none, or some of the study's "
        "(default: all of them)",
        metavar="none|LIST",
        read=values.arms,
        not_with=("train",),
        suggests=suggestions.listed(suggestions.arms),
    )
    list_studies: bool = switch(TASK, ACTION, "list the studies, one line each", flag="--list")
    version: bool = switch(TASK, ACTION, "print the version of this program")
    dry_run: bool = switch(TASK, ONCE, "print the resolved plan and its cost; change nothing")
    resume: str | None = option(
        TASK,
        ACTION,
        "continue the study's newest unfinished run, or the named one",
        metavar="RUN",
        read=values.run_name,
        bare=NEWEST,
        suggests=suggestions.runs,
    )
    restart: int | None = option(
        TASK,
        ONCE,
        "resume by itself up to N times after a crash of the driver or of Ray, a full disk, or an unexpected error",
        metavar="N",
        read=values.whole_number(at_least=1),
    )
    status: str | None = option(
        TASK,
        ACTION,
        "the state of a run: running and waiting trials, the best so far, the time left; without RUN one line each",
        metavar="RUN",
        read=values.run_name,
        bare=EVERY,
        suggests=suggestions.runs,
    )
    why: tuple[str, str] | None = option(
        TASK,
        ACTION,
        "why a trial ended as it did; TRIAL is a number, or a name such as oe-0003 or confirm-0001",
        metavar=("RUN", "TRIAL"),
        read=values.run_name,
        suggests=suggestions.runs,
    )
    compare: tuple[str, ...] | None = option(
        TASK,
        ACTION,
        "runs of one data set side by side, of one study or several: a table, and compare.html, .md and .json",
        metavar="RUN",
        read=values.run_name,
        several=True,
        suggests=suggestions.runs,
    )
    watch: str | None = option(
        TASK,
        ACTION,
        "the report of a run as it is now, in the browser: running, killed or done; without RUN the newest one",
        metavar="RUN",
        read=values.run_name,
        bare=NEWEST,
        suggests=suggestions.runs,
    )
    port: int = option(
        TASK,
        ONCE,
        "with --watch: the port on 127.0.0.1 (default: a free one)",
        metavar="PORT",
        read=values.whole_number(at_least=0, at_most=65535),
        default=0,
        goes_with=("watch",),
    )
    open: bool = switch(TASK, ONCE, "with --watch: open the browser", goes_with=("watch",))
    stop: str | None = option(
        TASK,
        ACTION,
        "have a run's driver save and end, here or on another machine",
        metavar="RUN",
        read=values.run_name,
        suggests=suggestions.runs,
    )
    new: tuple[str, str] | None = option(
        TASK,
        ACTION,
        "write a study or a method of your own that runs as it is, and its test, into a folder (docs/own_code.md)",
        metavar=("study|method", "DIR"),
        suggests=suggestions.any_of("study", "method"),
    )
    evaluate: str | None = option(
        TASK,
        ACTION,
        "score one checkpoint on the test sets and exit: a file, RUN/TRIAL, or the id of an MLflow run",
        metavar="CHECKPOINT",
    )
    check_data: str | None = option(
        TASK,
        ACTION,
        "what is in a data set and what is wrong with it, with a sheet of its images; starts nothing. DATA is a folder "
        "of pictures, an npz file, or as --dataset",
        metavar="DATA",
        bare=ASKED,
    )
    export: str | None = option(
        TASK,
        ACTION,
        "write a run's winner, or another trial, or a checkpoint file, as a model that needs no part of this program",
        metavar="RUN[/TRIAL]",
        suggests=suggestions.runs,
    )
    export_tables: str | None = option(
        TASK,
        ACTION,
        "write a run's tables as one spreadsheet: arms, every score on every OOD set, corruptions, trials",
        metavar="RUN",
        read=values.run_name,
        suggests=suggestions.runs,
    )
    formats: tuple[str, ...] = option(
        TASK,
        ONCE,
        f"with --export: some of {','.join(FORMATS.names)} (default: pytorch)",
        flag="--format",
        metavar="LIST",
        read=values.formats,
        default=("pytorch",),
        goes_with=("export",),
        suggests=suggestions.listed(suggestions.names_of(FORMATS)),
    )
    output: str | None = option(
        TASK,
        ONCE,
        "with --export or --compare: the folder of the files (default: exports/RUN-TRIAL, comparisons/RUN-vs-RUN); "
        "with --export-tables: the file (default: exports/RUN.xlsx)",
        metavar="PATH",
        goes_with=("export", "export_tables", "compare"),
    )
    champion: bool = switch(
        TASK,
        ONCE,
        "give the winner's registered model the alias champion, also where a better result has it",
    )
    protocol: str | None = option(
        TASK,
        STORED,
        f"how to measure: {', '.join(PRESETS.names)} (default: {DEFAULT}); with --study: what the confirm stage "
        "measures beside the study's own protocol",
        metavar="NAME",
        goes_with=(*RUN, "evaluate"),
        suggests=suggestions.names_of(PRESETS),
    )
    json: str | None = option(
        TASK,
        ONCE,
        "with --evaluate, --status, --compare or --check-data: the answer as JSON, on the terminal if no file is named",
        metavar="FILE",
        bare=STDOUT,
        goes_with=("evaluate", "status", "compare", "check_data"),
    )
    stages: tuple[str, ...] | None = option(
        TASK,
        STORED,
        f"some of {','.join(STAGES)} (default: all of them; with --train all but confirm)",
        metavar="STAGES",
        read=values.stages,
        suggests=suggestions.listed(suggestions.any_of(*STAGES)),
    )
