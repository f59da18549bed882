"""Start a study: `python launch.py --study aoe_sigma`. See `--help`, README.md and docs/."""

import sys

from tuner.cli import run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
