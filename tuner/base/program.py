"""How this process was called, for the commands and messages that it prints: `launch.py`, `robust-tune`, `-m tuner`."""

import sys
from pathlib import Path

_LAUNCHER = Path(__file__).resolve().parents[2] / "launch.py"


def program() -> list[str]:
    """Return the words that start a command line of this program, as the user called it.

    Where something else called it (a test, a notebook) these are ["python", "launch.py"] in a checkout of the project,
    else ["robust-tune"].
    """
    script = Path(sys.argv[0])
    if script.stem == "robust-tune":
        return ["robust-tune"]
    if script.parts[-2:] == ("tuner", "__main__.py"):
        return ["python", "-m", "tuner"]
    if script.name == "launch.py":
        return ["python", sys.argv[0]]
    return ["python", "launch.py"] if _LAUNCHER.is_file() else ["robust-tune"]


def program_name() -> str:
    """Return the program as its messages begin: "launch.py", "robust-tune" or "python -m tuner"."""
    words = program()
    return " ".join(words) if "-m" in words else Path(words[-1]).name
