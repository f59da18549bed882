"""Copies the project for other machines: the files that git tracks or, installed, its packages; no others."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trainables.base.user_code import OWN_PACKAGES
from tuner.base import environment
from tuner.base.errors import UsageError

LIMIT_MB = 50  # Ray refuses packages above 500 MiB; a project of text that reaches this holds data by mistake


def export(target: Path, root: Path = environment.ROOT, more: Mapping[str, Path] | None = None) -> Path:
    """Write the project's tracked files into a folder and return it; of an installed project its packages.

    What the folder held before is removed: a file deleted from the project must not live on elsewhere.

    Args:
        more: {path in the folder: file} of the user's own code.

    Raises:
        UsageError: `root` does not hold the project, the files are larger than LIMIT_MB together, or a file of the user
            would replace one of the project's.
    """
    # an environment may lie within a checkout of the user's own, whose files git would list
    names = tracked(root) if (root / ".git").exists() else packaged(root)
    total = sum((root / name).stat().st_size for name in names)
    if total > LIMIT_MB * 1e6:
        large = max(names, key=lambda name: (root / name).stat().st_size)
        raise UsageError(
            f"the project is {total / 1e6:.0f} MB, at most {LIMIT_MB} go to a cluster; its largest file is {large}"
        )
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, copy)
    for name, file in (more or {}).items():
        copy = target / name
        if copy.exists() and copy.read_bytes() != file.read_bytes():
            raise UsageError(f"{name} is a file of this project too; give yours another name")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    (target / ".commit").write_text(  # what `environment.commit` reads where there is no .git
        environment.commit() + "\n"
    )
    return target


def tracked(root: Path) -> list[str]:
    """Return the paths of the files that git tracks and that exist.

    Raises:
        UsageError: `root` is no git checkout.
    """
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{root} is no git checkout: only files that git tracks are sent away") from error
    return [name for name in done.stdout.split("\0") if name and (root / name).is_file()]


def packaged(root: Path) -> list[str]:
    """Return the paths of the files of the project's packages, as a wheel installs them.

    Raises:
        UsageError: they are not below `root`.
    """
    missing = [name for name in OWN_PACKAGES if not (root / name / "__init__.py").is_file()]
    if missing:
        raise UsageError(f"{root} is no git checkout, and no folder that the project is installed in")
    return sorted(
        str(path.relative_to(root))
        for name in OWN_PACKAGES
        for path in (root / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
