"""The folder of a run: `plan.json`, logs, and where its database and lease are."""

import datetime
import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.base.errors import nearest
from trainables.base.permissions import created, make_folder, make_private_folder
from trainables.base.storage import Folder
from tuner.base import environment
from tuner.base.checksums import Damaged, file_with_checksum
from tuner.base.errors import UsageError
from tuner.base.text import one_line
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
        """Return whether there is a run; a folder without a plan is none: its launch was killed before it began.

        Raises:
            UsageError: the storage does not answer.
        """
        try:
            return "plan.json" in self.files.names("")
        except OSError as error:
            raise UsageError(f"{self.uri} cannot be read: {one_line(error)}") from error

    def left_over(self) -> list[str]:
        """Return the names of what a folder holds besides the files of a launch that was killed before it began."""
        names = [*self.files.names(""), *self.files.folders("")]
        if self.remote and self.local.is_dir():
            names += [path.name for path in self.local.iterdir()]
        return sorted({name for name in names if name != "lease" and not name.startswith(".plan.json.")})

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
        if self.exists():
            raise UsageError(
                f"run {self.name!r} exists in {self.root}; continue it with --resume {self.name}"
            )
        self.make()
        self.write_json(
            "plan.json",
            {
                "run": self.name,
                "folder": self.uri,
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
            raise UsageError(self._no_plan()) from None
        return self.plan_in(data), data

    def plan_in(self, data: Mapping[str, Any]) -> Plan:
        """Return the plan in the content of `plan.json`, under the name that its folder has now."""
        return replace(plans.from_dict(data["plan"]), run_name=self.name)

    def _no_plan(self) -> str:
        if not self.remote and not Path(self.root).is_dir():
            return f"run {self.name!r} does not exist: there is no folder {self.root}"
        if self.name not in _folders(self.root):
            hint = nearest(self.name, (folder.name for folder, _ in all_runs(self.root)))
            return f"run {self.name!r} does not exist in {self.root}; {hint}"
        return (
            f"run {self.name!r} holds no plan.json in {self.root}: its launch was stopped before it began; "
            f"start it with --study STUDY --run-name {self.name}"
        )

    def original(self, data: Mapping[str, Any]) -> "RunFolder | None":
        """Return the run of which this one is a copy, None if it is none: new, or renamed or moved as a whole.

        It is a copy if the folder that its plan names still holds a plan of the same id. That is looked at on this
        machine and in the same object store; a folder brought from anywhere else counts as moved. If several folders
        of a local root hold a run that was moved, one is the original: the one whose plan names it, else the one
        that still has the old name, else the one that was written first (renaming a folder writes no file, copying
        it does).

        Args:
            data: the content of `plan.json`.
        """
        place = self._last_place(data)
        root, _, name = place.rstrip("/").rpartition("/")
        if place == self.uri:
            return None
        if _store(place) == _store(self.uri) and root:
            there = RunFolder(root, name)
            if not self.remote and _is_same_folder(there.uri, self.uri):
                return None
            if there._entries_if_same(data) is not None:
                return there
        return None if self.remote else self._first_of_several(data, name)

    def _first_of_several(self, data: Mapping[str, Any], name: str) -> "RunFolder | None":
        """Return the original among the folders of this root that hold this run, None if it is this one.

        Args:
            name: that the run had at its last launch.
        """
        found = [(self._age(data, name), self)]
        for other in _folders(self.root):
            folder = RunFolder(self.root, other)
            if other == self.name or _is_same_folder(folder.uri, self.uri):
                continue
            theirs = folder._entries_if_same(data)
            if theirs is not None:
                found.append((folder._age(theirs, name), folder))
        first = min(found, key=lambda each: each[0])[1]
        return None if first is self else first

    def _age(self, data: Mapping[str, Any], name: str) -> tuple[bool, bool, int, bool, str]:
        """Return what sorts the original before its copies."""
        try:
            written = (self.local / "plan.json").stat().st_ctime_ns
        except OSError:
            written = 0
        is_link = os.path.islink(self.uri)
        return self._last_place(data) != self.uri, self.name != name, written, is_link, self.name

    def _entries_if_same(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return this folder's `plan.json` if it is of the same run as another one, else None."""
        try:
            if str(data["created"]).encode() not in self.files.read(
                "plan.json"
            ):  # quicker than to read it all
                return None
            theirs = self.entries()
            same = [(plans.run_id_of(d["plan"]), d["created"]) for d in (theirs, data)]
        except (OSError, UsageError, KeyError, TypeError, UnicodeError):
            return None
        return theirs if same[0] == same[1] else None

    def last_local(self, data: Mapping[str, Any]) -> Path:
        """Return what `local` was at the last launch: a run may be renamed or moved between two.

        Args:
            data: the content of `plan.json`.
        """
        place = self._last_place(data).rstrip("/")
        return self.local.parent / place.rpartition("/")[2] if self.remote else Path(place)

    def _last_place(self, data: Mapping[str, Any]) -> str:
        beside = f"{self.uri.rpartition('/')[0]}/{data.get('run', self.name)}"  # of an earlier version
        return str(data.get("folder", beside))

    def refuse_copy(self, data: Mapping[str, Any]) -> None:
        """Raise UsageError, which names both folders, if this one is a copy: its trials are the original's.

        Args:
            data: the content of `plan.json`.
        """
        original = self.original(data)
        if original is not None:
            raise UsageError(
                f"{self.uri} is a copy of {original.uri}, and a run goes on in one folder only: continue that one "
                f"with --resume {original.name} --storage {original.root}, or start a new one with "
                f"--warm-start {self.name}"
            )

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
        if not _is_text(self.uri):
            raise UsageError(f"{self.uri}: the path is not UTF-8, and a database has no such name; rename it")
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
    taken = _folders(root)
    stem = f"{study}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    name, count = stem, 1
    while name in taken or RunFolder(root, name).local.exists():
        count += 1
        name = f"{stem}-{count}"
    return name


def all_runs(root: str) -> list[tuple[RunFolder, dict[str, Any]]]:
    """Return every run below a root with its `plan.json`, oldest first; folders without one are left out.

    One that cannot be read is {"created": "", "plan": {}, "error": the UsageError that says why}.

    Raises:
        UsageError: the root cannot be listed.
    """
    runs: list[tuple[RunFolder, dict[str, Any]]] = []
    for name in _folders(root):
        folder = RunFolder(root, name)
        try:
            data = folder.entries()
            if not isinstance(data["plan"], dict):
                raise Damaged("plan.json is damaged: plan is no object")
        except FileNotFoundError:
            continue
        except UsageError as error:
            data = {"created": "", "plan": {}, "error": error}
        runs.append((folder, data))
    return sorted(runs, key=lambda run: (run[1]["created"], run[0].name))


def _folders(root: str) -> list[str]:
    """Return the names of the folders directly below a root.

    Raises:
        UsageError: it cannot be listed.
    """
    try:
        return Folder(root).folders()
    except OSError as error:
        raise UsageError(f"the folder of runs {root} cannot be listed: {error.strerror or error}") from error


def _is_same_folder(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _store(uri: str) -> str:
    """Return the scheme and the bucket of an object store, "" for a folder of this machine."""
    return "/".join(uri.split("/")[:3]) if "://" in uri else ""


def find_by_id(run_id: str, name: str, root: str) -> RunFolder:
    """Return the folder of the run with an id, whatever it is called now.

    Args:
        name: what it was called; for the message.

    Raises:
        UsageError: there is none below the root.
    """
    runs = [run for run in all_runs(root) if "error" not in run[1]]
    found = [(folder, data) for folder, data in runs if plans.run_id_of(data["plan"]) == run_id]
    for folder, _ in sorted(found, key=lambda run: run[0].original(run[1]) is not None):  # a copy will do
        return folder
    raise UsageError(
        f"run {name!r} (id {run_id}) is not in {root}; name the root of its run folder with --storage"
    )


def find_unfinished(study: str, root: str) -> str:
    """Return the newest unfinished run of a study; copies of runs do not count.

    Raises:
        UsageError: there is none.
    """
    for folder, data in all_runs(root)[::-1]:
        if data["plan"].get("study") == study and not data.get("finished") and not folder.original(data):
            return folder.name
    raise UsageError(f"study {study!r} has no unfinished run in {root}; start one without --resume")
