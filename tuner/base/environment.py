"""Environment variables, and what a result depends on besides its plan: package versions, machine, commit."""

import os
import platform
import secrets
import subprocess
import time
from importlib import metadata
from pathlib import Path

from tuner.base.errors import UsageError
from tuner.base.private_files import keep_private, make_private

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scipy", "scikit-learn")
ROOT = Path(__file__).resolve().parents[2]

# set before ray is imported, in the driver and through it in every worker
DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard files of Tune's own
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report without the metric ends its trial, not the study
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the controller has its own
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # Tune's snapshots are never read
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "8",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def apply_defaults() -> None:
    """Set the variables above unless the user has set them."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def use_ray_token() -> None:
    """Turn Ray's token authentication on where this user has a token: Ray does so only for clusters it started.

    Raises:
        UsageError: see `protect_ray_token`.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or protect_ray_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def protect_ray_token(*, make: bool = False) -> bool:
    """Have the file of Ray's token readable for this user alone (Ray's own tools leave it readable for all).

    Args:
        make: make a token if there is none.

    Returns:
        Whether there is a file.

    Raises:
        UsageError: the file belongs to another user, or cannot be made.
    """
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        if make:
            keep_private(path, secrets.token_hex(32))
        elif path.is_file():
            make_private(path)
    except OSError as error:
        raise UsageError(
            f"Ray's token: {error}; remove that file, or name one of your own in RAY_AUTH_TOKEN_PATH"
        ) from None
    return path.is_file()


def process_age_s() -> float:
    """Return the seconds since this process was started."""
    import psutil

    return time.time() - float(psutil.Process().create_time())


def variable(name: str, default: str = "") -> str:
    """Return an environment variable."""
    return os.environ.get(name, default)


def describe(command: str) -> dict[str, str]:
    """Return versions, commit, machine and command as text, for `plan.json`, the report and MLflow."""
    facts = {package: version(package) for package in PACKAGES}
    facts["python"] = platform.python_version()
    facts["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_processor()}"
    facts["commit"] = commit()
    facts["command"] = command
    return facts


def version(package: str, absent: str = "not installed") -> str:
    """Return the version of an installed package, or `absent`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return absent


def commit() -> str:
    """Return the project's commit, with "+changes" if the work tree differs; "unknown" outside a checkout.

    A copy made by `tuner.commands.source_export.export` holds the commit in the file `.commit`.
    """
    if not (ROOT / ".git").exists():
        note = ROOT / ".commit"
        return note.read_text().strip() if note.is_file() else "unknown"
    try:
        run = _git("rev-parse", "--short=12", "HEAD")
        return run + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
