"""The command line as a process: `launch.py`, `robust-tune` and, where the project was installed, `python -m tuner`."""
# PYTHON_ARGCOMPLETE_OK

import os
import sys

from tuner.base import driver_report
from tuner.commands import supervisor


def main() -> None:
    """Answer a question in this process; drive a study in a child of it, which runs this again."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        from tuner.commands.completion import complete

        complete()
    arguments = sys.argv[1:]
    if not driver_report.connect() and supervisor.drives_a_study(arguments):
        sys.exit(supervisor.supervise(arguments))
    from tuner.cli import run  # here: the supervisor does without it

    code = run(arguments)
    driver_report.tell(ended=code)
    sys.exit(code)


if __name__ == "__main__":
    main()
