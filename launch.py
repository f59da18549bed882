"""Start a study: `python launch.py --study aoe_sigma`. See `--help`, README.md and docs/."""
# PYTHON_ARGCOMPLETE_OK

from tuner.__main__ import main

if __name__ == "__main__":
    main()
