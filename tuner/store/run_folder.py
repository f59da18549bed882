"""The folder of a run: `plan.json`, logs, and where its database and lease are."""

import datetime
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.base.errors import nearest
from trainables.base.permissions import created, make_folder, make_private_folder
from trainables.base.storage import Folder
from tuner.base import environment
from tuner.base.checksums import file_with_checksum
from tuner.base.errors import UsageError
from tuner.base.urls import sqlite_url
from tuner.planning import plan as plans
from tuner.planning.plan import Plan
from tuner.store import plan_file
from tuner.store.lease import Lease


class RunFolder:
    """One run below the storage root.

    Attributes:
        name: the run's name.
        uri: where checkpoints and results go; a local path or an object store.
        local: where the driver keeps its own files (log, spool, lease); equals `uri` for a local root.
    """

    def __init__(self, root: str, name: str) -> None:
        self.root: str = root
        self.name: str = name
        self.remote = "://" in root
        self.uri = f"{root.rstrip('/')}/{name}" if self.remote else str(Path(root).resolve() / name)
        drivers = Path(environment.variable("TUNER_DRIVER_DIR", "runs")).expanduser().resolve()
        self.local = drivers / name if self.remote else Path(self.uri)
        self.files = Folder(self.uri)

    def exists(self) -> bool:
        try:
            self.files.read("plan.json")
        except (FileNotFoundError, OSError):
            return self.local.exists() and any(self.local.iterdir())
        return True

    def make(self) -> None:
        """Make the folder on this machine for this user alone, or for the group that shares the root.

        Raises:
            UsageError: it cannot be made or written to.
        """
        try:
            make_private_folder(self.local)
            if not os.access(self.local, os.W_OK):
                raise PermissionError(errno.EACCES, "you may not write to it", str(self.local))
        except OSError as error:
            raise UsageError(
                f"the run folder {self.local} cannot be made ({error.strerror}); name another root with --storage"
            ) from error

    def create(self, plan: Plan, environment: Mapping[str, str], **more: Any) -> None:
        """Write a new run's `plan.json`.

        Raises:
            UsageError: another process has just created it.
        """
        if "plan.json" in self.files.names(""):
            raise UsageError(
                f"run {self.name!r} exists in {self.root}; continue it with --resume {self.name}"
            )
        self.make()
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
                **more,
            },
        )

    def read(self) -> tuple[Plan, dict[str, Any]]:
        """Return the run's plan and everything else in `plan.json`.

        Raises:
            UsageError: there is no such run, or its plan cannot be read.
        """
        try:
            data = self.entries()
        except FileNotFoundError:
            hint = nearest(self.name, (folder.name for folder, _ in all_runs(self.root)))
            raise UsageError(f"run {self.name!r} does not exist in {self.root}; {hint}") from None
        return plans.from_dict(data["plan"]), data

    def entries(self) -> dict[str, Any]:
        """Return the entries of `plan.json`, the plan itself as JSON values.

        Raises:
            FileNotFoundError: there is none.
            UsageError: it cannot be read, or is damaged.
        """
        try:
            data = self.files.read("plan.json")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UsageError(f"{self.uri}/plan.json cannot be read: {error.strerror or error}") from error
        return plan_file.parse(data, f"{self.uri}/plan.json")

    def update(self, **changes: Any) -> None:
        """Change top-level entries of `plan.json`."""
        self.write_json("plan.json", self.entries() | changes)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file with a checksum."""
        self.files.write(name, file_with_checksum(value))

    def log(self, key: str, text: str) -> None:
        """Append to a trial's log, `logs/<key>.log`."""
        path = self.local / "logs" / f"{key}.log"
        make_folder(path.parent)
        with open(created(path), "a", encoding="utf-8") as file:
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
        return sqlite_url(self.local / "study.db")

    def lease(self) -> Lease:
        """Return the lease on this run, not yet taken."""
        return Lease(self.files, None if self.remote else self.local / "lease" / "lock")


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


def all_runs(root: str) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Return every run below a root with its `plan.json`, oldest first; folders without one are left out.

    One that cannot be read is {"created": "", "plan": {}, "damaged": why}.
    """
    runs: list[tuple[RunFolder, dict[str, Any]]] = []
    for name in Folder(root).folders():
        folder = RunFolder(root, name)
        try:
            data = folder.entries()
            if not isinstance(data["plan"], dict):
                raise UsageError("plan.json cannot be read: plan is no object")
        except FileNotFoundError:
            continue
        except UsageError as error:
            data = {"created": "", "plan": {}, "damaged": str(error)}
        runs.append((folder, data))
    return sorted(runs, key=lambda run: (run[1]["created"], run[0].name))


def find_unfinished(study: str, root: str) -> str:
    """Return the newest unfinished run of a study.

    Raises:
        UsageError: there is none.
    """
    for folder, data in all_runs(root)[::-1]:
        if data["plan"].get("study") == study and not data.get("finished"):
            return folder.name
    raise UsageError(f"study {study!r} has no unfinished run in {root}; start one without --resume")
