"""`launch.py --export-tables RUN`: the tables of a run as one spreadsheet."""

from pathlib import Path

from tuner.base.errors import UsageError
from tuner.commands.run_state import read_run
from tuner.commands.stored_result import result_of
from tuner.commands.written_files import write_files
from tuner.planning.launch_options import LaunchOptions
from tuner.report.workbook import sheets, workbook

SUFFIX = ".xlsx"


def export_tables(options: LaunchOptions) -> str:
    """Write a run's tables, as far as it has come, and return what to print.

    Raises:
        UsageError: no such run, a run without a trial, a file name that does not end in .xlsx, or a folder that
            cannot be written to.
    """
    assert options.export_tables is not None
    path = Path(options.output or f"exports/{options.export_tables}{SUFFIX}")
    if path.suffix != SUFFIX or path.is_dir():
        raise UsageError(f"--output {path} is no file that ends in {SUFFIX}, such as tables{SUFFIX}")
    run = read_run(options.export_tables, options.storage, options.study_storage)
    made = sheets(result_of(run))
    if not made:
        raise UsageError(f"run {options.export_tables} has no trial yet, so there is no table")
    write_files(path.parent, {path.name: workbook(made)})
    return "\n".join([f"{path}", *(f"  {sheet.name}: {len(sheet.rows)} rows" for sheet in made)])
