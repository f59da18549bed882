"""Completion in bash and zsh by argcomplete: the shell runs the program with what was typed; it prints what may follow.

Nothing is started; the extra `completion` installs argcomplete.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tuner.planning.command_line import Once, parser
from tuner.planning.launch_options import launch_options
from tuner.planning.option import Option

#: what --help calls values that are files or folders
PATHS = ("DIR", "FILE", "CHECKPOINT", "DATA", "DIR|URI", "PATH")


def complete() -> None:
    """Print what may follow the command line that the shell has put into COMP_LINE, and end the process."""
    try:
        import argcomplete
    except ImportError:
        sys.exit(1)  # the shell asks another installation: it shows nothing
    argcomplete.safe_actions.add(Once)
    options = launch_options()
    made = parser(options)
    for action in made._actions:
        if action.dest in options:
            action.completer = _completer(options[action.dest])  # type: ignore[attr-defined]
    argcomplete.autocomplete(made, always_complete_options="long")


def _completer(option: Option) -> Callable[..., Iterable[str]]:
    import argcomplete

    suggest, files = option.suggests, argcomplete.FilesCompleter()

    def suggested(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
        if suggest is None:
            return files(prefix) if option.metavar in PATHS else ()
        values = [value for value in suggest(prefix, vars(parsed_args)) if value.startswith(prefix)]
        return [*values, *(files(prefix) if prefix.startswith((".", "/")) else ())]  # code of the user's own

    return suggested
