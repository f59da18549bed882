"""The parser of every command line of the project: what is wrong is said in one line, without a usage text."""

import argparse
from typing import NoReturn

from trainables.base.errors import InputError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InputError in place of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")
