"""The run's folder: its plan, storage, logs and lease. Knows no Ray, Optuna or MLflow."""

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.storage import Folder
from tuner import plan as plans
from tuner.errors import UsageError
from tuner.plan import Plan


class RunFolder:
    """One run below the storage root.

    Attributes:
        name: the run's name.
        uri: where checkpoints and results go; a local path or an object store.
        local: where the driver keeps its own files (log, spool, lease); equals `uri` for a local root.
    """

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        self.remote = "://" in root
        self.uri = f"{root.rstrip('/')}/{name}" if self.remote else str(Path(root).resolve() / name)
        self.local = Path("runs").resolve() / name if self.remote else Path(self.uri)
        self.files = Folder(self.uri)

    def exists(self) -> bool:
        try:
            self.files.read("plan.json")
        except (FileNotFoundError, OSError):
            return self.local.exists() and any(self.local.iterdir())
        return True

    def create(self, plan: Plan, environment: Mapping[str, str]) -> None:
        """Write a new run's `plan.json`."""
        self.local.mkdir(parents=True, exist_ok=True)
        self.write_json(
            "plan.json",
            {
                "run": self.name,
                "content_hash": plan.content_hash,
                "seed": plan.seed,
                "commit": environment.get("commit", ""),
                "created": now(),
                "finished": False,
                "read_by_search": [],
                "versions": dict(environment),
                "commands": [plan.command],
                "plan": plans.to_dict(plan),
            },
        )

    def read(self) -> tuple[Plan, dict[str, Any]]:
        """Return the run's plan and everything else in `plan.json`.

        Raises:
            UsageError: there is no such run, or its plan cannot be read.
        """
        try:
            data = json.loads(self.files.read("plan.json"))
        except FileNotFoundError:
            raise UsageError(f"run {self.name!r} does not exist in {self.root}") from None
        except ValueError as error:
            raise UsageError(f"{self.uri}/plan.json is damaged: {error}") from error
        return plans.from_dict(data["plan"]), data

    def update(self, **changes: Any) -> None:
        """Change top-level entries of `plan.json`."""
        data = json.loads(self.files.read("plan.json"))
        self.write_json("plan.json", data | changes)

    def write_json(self, name: str, value: Any) -> None:
        self.files.write(name, json.dumps(value, indent=2).encode())

    def log(self, key: str, text: str) -> None:
        """Append to a trial's log, `logs/<key>.log`."""
        path = self.local / "logs" / f"{key}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{now()} {text.rstrip()}\n")

    def storage_url(self, given: str | None) -> str:
        """Return the study storage's URL: the given one, or a SQLite file in the run folder.

        Raises:
            UsageError: an object store cannot hold a database.
        """
        if given:
            return given
        if self.remote:
            raise UsageError(
                f"--storage {self.root} cannot hold a database; add --study-storage postgresql://..."
            )
        return f"sqlite:///{self.local / 'study.db'}"

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run for this driver; a second one on this machine is refused while the first lives.

        Raises:
            UsageError: another process drives the run.
        """
        self.local.mkdir(parents=True, exist_ok=True)
        with open(self.local / ".lease", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UsageError(f"run {self.name!r} is being driven by {holder}; stop it first") from None
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def default_name(study: str, root: str) -> str:
    """Return <study>-<UTC time>, with a counter if two runs start within a second."""
    stem = f"{study}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    name, count = stem, 1
    while RunFolder(root, name).exists():
        count += 1
        name = f"{stem}-{count}"
    return name


def find_unfinished(study: str, root: str) -> str:
    """Return the newest unfinished run of a study.

    Raises:
        UsageError: there is none.
    """
    base = Path(root)
    found: list[tuple[str, str]] = []
    if "://" not in root and base.is_dir():
        for path in base.iterdir():
            try:
                data = json.loads((path / "plan.json").read_text())
            except (OSError, ValueError):
                continue
            if data.get("plan", {}).get("study") == study and not data.get("finished"):
                found.append((data["created"], path.name))
    if not found:
        raise UsageError(f"study {study!r} has no unfinished run in {root}; start one without --resume")
    return max(found)[1]
