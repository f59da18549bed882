"""`launch.py --compare RUN RUN ...`: runs side by side, as text and as compare.html, compare.md and compare.json."""

from collections.abc import Sequence
from pathlib import Path

from tuner.analysis.comparison import check_same_data
from tuner.base.errors import UsageError
from tuner.commands.json_file import write_json
from tuner.commands.run_state import read_run
from tuner.commands.stored_result import result_of
from tuner.commands.written_files import write_files
from tuner.console.comparison_text import comparison_lines
from tuner.planning.launch_options import LaunchOptions
from tuner.planning.task_options import STDOUT
from tuner.report.comparison import RunComparison, comparison_files

FOLDER = "comparisons"  # below the working directory


def compare(options: LaunchOptions) -> str:
    """Write the comparison that the options ask for and return what to print.

    Raises:
        UsageError: fewer than two runs, one that is not there or cannot be read, a folder that cannot be written.
        InputError: the runs are of several data sets.
    """
    assert options.compare is not None
    names = list(dict.fromkeys(options.compare))
    if len(names) < 2:
        raise UsageError(f"--compare {names[0]} names one run; name two or more (--status lists them)")
    runs = [read_run(name, options.storage, options.study_storage) for name in names]
    results = [result_of(run) for run in runs]
    check_same_data(results)
    made = RunComparison(results)
    files = comparison_files(made)
    if options.json not in (None, STDOUT):
        write_json(options.json, files["compare.json"])
    folder = Path(options.output) if options.output else Path(FOLDER) / _name(names)
    if options.output or options.json != STDOUT:
        write_files(folder, {name: text.encode() for name, text in files.items()})
    if options.json == STDOUT:
        return files["compare.json"]
    return "\n".join([*comparison_lines(made), "", f"page: {folder / 'compare.html'}"])


def _name(names: Sequence[str]) -> str:
    more = f"-and-{len(names) - 2}-more" if len(names) > 2 else ""
    return f"{names[0]}-vs-{names[1]}{more}"
