"""The command line as `python -m tuner`, where `launch.py` is not at hand: the project was installed."""

import sys

from tuner.cli import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
